"""The process of a sweep's job: `python -m rlrun.worker FD WORD...` is `rlrun WORD...`, tied to the sweep.

FD is the reading end of a pipe whose other end the sweep's process holds. When that process is gone, however it ended,
the job is told as by a scheduler: it saves, and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def tie(descriptor: int) -> None:
    """Send this process SIGTERM once nobody holds the other end of a pipe any more."""

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="tie to the sweep", daemon=True).start()


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    from rlrun.cli import main  # after that, for it takes a moment

    sys.exit(main(sys.argv[2:]))
