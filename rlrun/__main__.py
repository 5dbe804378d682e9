"""The command `rlrun`, and `python -m rlrun`, which is the same.

Ctrl-C ends it with one line from here on: all that it is made of is imported where that is caught.
"""

import sys


def main() -> int:
    """What `rlrun.cli.main` does, its import included."""
    try:
        from rlrun.cli import main as command

        return command()
    except KeyboardInterrupt:
        print("rlrun: stopped by SIGINT", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
