"""The process of a sweep's job: `python -m rlrun.worker FD WORD...` is `rlrun WORD...`, tied to the sweep.

FD is the watched end of its tether (sweeps/tether.py): when the sweep's process is gone, the job saves and ends.
"""

from __future__ import annotations

import sys

from rlrun.sweeps.tether import follow

if __name__ == "__main__":
    follow(int(sys.argv[1]))
    from rlrun.cli import main  # after that, for it takes a moment

    sys.exit(main(sys.argv[2:]))
