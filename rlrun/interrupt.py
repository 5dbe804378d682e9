"""Ctrl-C and SIGTERM as an exception that is raised only where the run's state is whole.

The handler notes the signal; collection and evaluation call `check()` once a sweep. An update in progress is finished
first, as half of it could not be saved. A second Ctrl-C leaves at once.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from rlrun.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupt:
    """Context manager that turns signals into `Interrupted` at the next `check()`."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, Any] = {}

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def __enter__(self) -> Interrupt:
        in_main_thread = threading.current_thread() is threading.main_thread()  # the only one that may handle signals
        for signum in SIGNALS if in_main_thread else ():
            self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self.signum = signum
