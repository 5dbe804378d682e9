"""Who is at work on a run: a process of this machine is looked up, one elsewhere shows it by signs of life.

While a process works on a run it touches the run's status every few seconds, and the file system, which all machines
that share it agree on, keeps the time. So clocks that differ do not matter, and neither does what a number of a process
means in another container.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlrun import files
from rlrun.rundir import processes

BEAT = 5.0  # seconds between two signs of life
FRESH = 60.0  # a sign of life that is not older stands for a process at work
WATCHED = 3600.0  # up to this age one looks whether another comes, for some file systems keep time badly
WATCH = 2.5 * BEAT


@contextlib.contextmanager
def heartbeat(status: Path) -> Iterator[None]:
    """Give signs of life while this is open."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that takes nothing stops no run
                os.utime(status)

    thread = threading.Thread(target=beat, name="rlrun heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(BEAT)


def is_held(path: Path, status: Mapping[str, Any], patiently: bool = False) -> bool:
    """Whether another process, which a status names, is at work, as far as can be known.

    Args:
        path: the status file, by which a process elsewhere shows that it lives.
        patiently: where its last sign of life is not fresh, wait for another.
    """
    if status["state"] != "running" or processes.is_this(status):
        return False
    if processes.is_here(status):
        return processes.exists(status)
    since = files.age(path)
    return abs(since) <= FRESH or (patiently and abs(since) <= WATCHED and _changes(path))


def is_lost(path: Path, status: Mapping[str, Any]) -> str:
    """Why a run that is said to go on does not: its process is gone without a word. Empty if it may go on."""
    if status["state"] != "running" or processes.is_this(status):
        return ""
    if processes.is_here(status):
        return "" if processes.exists(status) else "the process ended without a word (killed, or out of memory)"
    with contextlib.suppress(OSError):
        if time.time() - path.lstat().st_mtime > WATCHED:
            return f"the process on {status['host']} gave no sign of life any more"
    return ""


def _changes(path: Path) -> bool:
    """Whether a sign of life comes while one waits for it."""
    before, end = path.lstat().st_mtime_ns, time.monotonic() + WATCH
    while time.monotonic() < end:
        time.sleep(0.1)
        if path.lstat().st_mtime_ns != before:
            return True
    return False
