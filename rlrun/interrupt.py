"""Signals: what is asked of a run is answered where its state is whole, and nothing under way can put it off for long.

The handler notes a signal; collection and evaluation call `check()` once a sweep, which raises `Interrupted`. An update
under way is finished first, as half of it could not be saved. What takes longer than the grace is given up: a thread
has `Abandoned` raised wherever the main thread is, which ends our own loops as well as an environment that sleeps or
waits for a child. Foreign code that holds the main thread even then, or swallows what is raised, ends with the process.
What then stands is the last checkpoint, so it makes no difference to a resumed run where it was.

All signals mean the same. Ctrl-C has impatience besides: a second one leaves at once, as if the grace were over. Within
a second of the first signal it takes a third, for a terminal and a wrapper often send the same one twice.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from rlrun.errors import Abandoned, Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
POKE = signal.SIGURG  # from our thread to the main one; nobody else sends it, and it means nothing by default
GRACE = 5.0  # seconds, by default, from a signal to the end of what does not answer it
WORK = 0.8  # share of the grace that is left to what is under way; the rest is for leaving in order
LEAVING = 1.0  # seconds for that at least
SAME = 1.0  # seconds in which a second signal is taken for the first one, come twice
TICK = 0.02  # seconds between two looks at the clock, once a signal has come
STOP = 0  # tells the thread to end; no signal has this number


class Interrupt:
    """Context manager that turns signals into `Interrupted` at the next `check()`, or into `Abandoned` after the grace.

    Args:
        grace: seconds from a signal to the end of what does not answer it; 0 = at once, where nothing is begun yet.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self.grace = grace
        self.signum: int | None = None
        self.last_words: Callable[[Interrupted, str], None] = _nothing  # before the process is ended; told where it was
        self._since = 0.0  # when the clock of the answer started
        self._stopped = False  # while it does not count
        self._given_up: float | None = None  # when the answer was no longer waited for
        self._raised = False  # whether the main thread has been told
        self._previous: dict[int, Any] = {}
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raise Interrupted if a signal has come; what is done about it then has the whole grace again."""
        if self.signum is not None:
            self._insist()
            self._since = time.monotonic()
            raise Interrupted(self.signum)

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """What is finished however long it takes, unless a Ctrl-C asks to leave at once: writing a checkpoint."""
        self._insist()
        self._stopped = True
        try:
            yield
        finally:
            self._since, self._stopped = time.monotonic(), False

    @contextlib.contextmanager
    def dispensable(self) -> Iterator[None]:
        """What can be given up without harm to the state, such as an evaluation; then Interrupted, as from `check`."""
        try:
            yield
        except Abandoned:
            self._since, self._given_up, self._raised = time.monotonic(), None, False
            self.check()

    @property
    def is_given_up(self) -> bool:
        """Whether Abandoned has been raised; what is raised after it may be only its consequence."""
        return self._raised

    def given_up(self) -> Interrupted:
        """What a run that was abandoned ends with."""
        return Interrupted(self.signum or signal.SIGTERM, "in the middle of something" if self.grace else "")

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is not threading.main_thread():  # the only one that may handle signals
            return self
        reading, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        for signum in SIGNALS:
            before = signal.getsignal(signum)
            if before != signal.SIG_IGN or signum != signal.SIGHUP:  # nohup stays in force
                self._previous[signum] = signal.signal(signum, self._note)
        self._previous[POKE] = signal.signal(POKE, self._leave)
        self._wakeup = signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, args=(reading,), name="rlrun signals", daemon=True)
        self._thread.start()
        _active.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            _active.remove(self)
            os.write(self._pipe, bytes([STOP]))
            thread.join()
            self._restore()
            os.close(self._pipe)
        if self._raised and kind not in (None, Interrupted):
            raise self.given_up()

    def _insist(self) -> None:
        """Raise Abandoned once more if it has been swallowed: the state is not whole, and must not be saved."""
        if self._raised:
            raise Abandoned

    def _restore(self) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        """In the main thread, between two of its instructions."""
        self.signum = self.signum or signum

    def _leave(self, signum: int, frame: FrameType | None) -> None:
        """In the main thread, too."""
        if self._given_up is not None and self._thread is not None and not self._raised:
            self._raised = True
            raise Abandoned

    def _watch(self, pipe: int) -> None:
        """In a thread, which hears of a signal even while foreign code keeps the main one from doing so."""
        begun, count = 0.0, 0
        heard = select.poll()
        heard.register(pipe, select.POLLIN)
        while True:
            if heard.poll(1000 * TICK if count else None):
                for signum in os.read(pipe, 4096):
                    if signum == STOP:
                        os.close(pipe)
                        return
                    if signum not in SIGNALS or self._given_up is not None:
                        continue
                    count += 1
                    if count == 1:
                        self.signum = self.signum or signum
                        begun = self._since = time.monotonic()
                    elif signum == signal.SIGINT and (count > 2 or time.monotonic() - begun >= SAME):
                        self._give_up()
            if not count:
                continue
            now, given_up = time.monotonic(), self._given_up
            if given_up is None:
                if not self._stopped and now - self._since >= WORK * self.grace:
                    self._give_up()
            elif now - given_up >= max(LEAVING, (1 - WORK) * self.grace):
                self._end()
            elif not self._raised:
                self._tell()
                time.sleep(TICK)

    def _give_up(self) -> None:
        self._given_up = time.monotonic()
        self._tell()

    def _tell(self) -> None:
        """Have the main thread leave what it is doing: our handler runs there, and a system call it waits in ends.

        Told again until it has heard: a call that it is just about to wait in would not end by one that came before.
        """
        signal.pthread_kill(threading.main_thread().ident or 0, POKE)

    def _end(self) -> None:
        """End the process from the thread, without the main one."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        where = "".join(traceback.format_stack(frame))
        for child in multiprocessing.active_children():
            child.kill()
        error = self.given_up()
        words = threading.Thread(target=self.last_words, args=(error, where), daemon=True)
        words.start()
        words.join(LEAVING)  # a disk may hang, too
        os._exit(error.exit_code)


_active: list[Interrupt] = []


def _nothing(error: Interrupted, where: str) -> None:
    pass


def _in_forked_child() -> None:
    """A process that an environment forks answers signals as if it were not ours; the terminal's are for its parent."""
    while _active:
        interrupt = _active.pop()
        interrupt._restore()
        os.close(interrupt._pipe)
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)


os.register_at_fork(after_in_child=_in_forked_child)
