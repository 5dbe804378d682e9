"""`python -m rlrun` is the same as `rlrun`."""

import sys

from rlrun.cli import main

if __name__ == "__main__":
    sys.exit(main())
