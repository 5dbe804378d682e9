"""Processes that must not outlive the one that started them, however that one ends.

The parent holds one end of a pipe, its children watch the other. When the parent is gone, killed or not, the system
closes its end, and the children are told as by a scheduler: SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Tether(NamedTuple):
    """The ends of the pipe, as descriptors."""

    watched: int  # by children
    held: int  # by the parent


@contextmanager
def tether() -> Iterator[Tether]:
    """A tether for children; those that are still there in the end are let go, too."""
    ends = Tether(*os.pipe())
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def follow(watched: int) -> None:
    """In a child: end with the parent. A forked child has to close its copy of the held end before."""

    def watch() -> None:
        while os.read(watched, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="tether", daemon=True).start()
