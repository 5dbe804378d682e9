"""Child processes: how they start, what they hear, and how they end.

A child computes with one thread; from its first moment it ignores Ctrl-C and the signals that a scheduler sends to the
whole group, for the parent has yet to finish its step and save; and it never outlives its parent, whatever kills that
and whatever the child is doing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from rlrun.interrupt import SIGNALS
from rlrun.talk import unfailing

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FOR_GOOD = contextlib.ExitStack()  # what a child keeps to its end


def begin() -> None:
    """In a child, before anything else: it leaves signals to its parent, ends with it, and can talk without failing."""
    for signum in SIGNALS:  # a handler is not handed on to a program that is started, being ignored would be
        signal.signal(signum, signal.SIG_IGN if signum in (signal.SIGINT, signal.SIGHUP) else _heard)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # for the programs that an environment may start
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _FOR_GOOD.enter_context(unfailing())


def kill(processes: Sequence[BaseProcess]) -> None:
    """End processes at once, and wait until they are gone."""
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()


def fate(process: BaseProcess) -> str:
    """How a process ended: the signal's name, or its exit code."""
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def start_method(*preload: str) -> str:
    """Children start from a small server without the parent's threads and locks, or from nothing.

    The server is started here, with signals blocked: it and all that it forks begin with what their parent has blocked.
    Its socket has a name only while it starts: a process that is killed could not delete it.

    Args:
        preload: modules that the server imports for all its children, if it is not there yet.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload([*preload])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # the server needs it; having started it, Python unblocks signals
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        with _nameless_socket():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return "forkserver"


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started here compute with one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _heard(signum: int, frame: FrameType | None) -> None:
    """Does nothing: a signal to all is the parent's to answer."""


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, whatever the main thread is doing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _nameless_socket() -> Iterator[None]:
    """The server that is started here is reached through a descriptor; elsewhere than on Linux it keeps its folder."""
    server: Any = forkserver._forkserver
    config: Any = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    folder, known = config.get("tempdir"), server._forkserver_address
    if not hasattr(os, "O_PATH"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="rlrun-") as config["tempdir"]:
        try:
            yield
            if server._forkserver_address != known:
                server._forkserver_address = f"/proc/self/fd/{os.open(server._forkserver_address, os.O_PATH)}"
        finally:
            config["tempdir"] = folder
