"""Running the jobs of a sweep: each in a process of its own, so that none can harm another or the sweep.

A job is what the same words are as a single run; here it is started, watched, and told to stop. Whatever its process
does, its `status.json` is true afterwards: where a process ended without a word, it is written here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Protocol

import rlrun
from rlrun import files
from rlrun.errors import Interrupted, RlrunError, printable
from rlrun.interrupt import SIGNALS
from rlrun.rundir.layout import RunDir
from rlrun.rundir.sweep import Job, Outcome, Sweep, recorded_state
from rlrun.sweeps.tether import tether

COMMAND = [sys.executable, "-P", "-m", "rlrun.worker"]
CONSOLE = "console.log"  # in a job's directory: what its process printed
SAVING = 60.0  # seconds beyond its grace that a job has from a signal to SIGKILL: big replay takes long to save
TICK = 0.05  # seconds between two looks at the jobs
TAIL = 4096  # bytes at the end of what a process printed, in which its last words are sought


class Board(Protocol):
    """Shows how the jobs of a sweep are doing."""

    def started(self, job: Job) -> None: ...
    def ended(self, job: Job, outcome: Outcome) -> None: ...
    def say(self, text: str) -> None: ...
    def refresh(self) -> None: ...


@dataclass(frozen=True)
class Task:
    """A job, and the words of the command that does it."""

    job: Job
    words: list[str]


@dataclass
class Process:
    """A job at work."""

    job: Job
    slot: int
    popen: subprocess.Popen[bytes]
    console: IO[bytes]
    begun: float  # time.monotonic()
    printed: int  # bytes that were in `console` already
    overdue: bool = False  # whether it was told to stop because of the time limit
    kill_at: float = float("inf")

    def tell(self, signum: int) -> None:
        """Send it a signal, which it has to answer in time."""
        with suppress(ProcessLookupError):
            self.popen.send_signal(signum)
        self.kill_at = min(self.kill_at, time.monotonic() + self.job.grace + SAVING)

    def kill(self) -> None:
        """End it, and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)


@dataclass
class Pool:
    """Slots in which jobs run.

    Args:
        sweep: whose jobs they are.
        board: shows them.
        slots: how many run at a time.
        time_limit: seconds that a job may take; None lets it take as long as it wants.
    """

    sweep: Sweep
    board: Board
    slots: int = 1
    time_limit: float | None = None
    _running: list[Process] = field(default_factory=list)

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all tasks, in their order.

        Raises:
            Interrupted: a signal came. The jobs at work have been told, and have ended.
        """
        waiting, told = deque(tasks), 0
        with noted_signals() as signals, tether() as ends:
            while self._running or (waiting and not signals):
                for signum in signals[told:]:
                    told += 1
                    self._pass_on(signum, told)
                while waiting and not signals and len(self._running) < self.slots:
                    self._start(waiting.popleft(), ends.watched)
                self._look(stopping=bool(signals))
                self.board.refresh()
                time.sleep(TICK)
        if signals:
            raise Interrupted(signals[0])

    def _start(self, task: Task, watched: int) -> None:
        job, slot = task.job, min(set(range(self.slots)) - {process.slot for process in self._running})
        self.board.started(job)
        try:
            console = open_console(self.sweep.run(job).path)
            printed = console.tell()
            popen = subprocess.Popen(
                [*COMMAND, str(watched), *task.words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=[watched],
                start_new_session=True,  # what is typed at the terminal comes to the sweep alone
                cwd=self.sweep.cwd if Path(self.sweep.cwd).is_dir() else None,
                env=environment(slot if job.any_gpu else None),
            )
        except (OSError, RlrunError) as error:
            self.board.ended(job, Outcome("failed", f"cannot be started: {error}"))
        else:
            self._running.append(Process(job, slot, popen, console, time.monotonic(), printed))

    def _pass_on(self, signum: int, count: int) -> None:
        """Tell the jobs at work what the sweep was told; the third time does not wait for them."""
        if count == 1:
            self.board.say(
                f"{signal.Signals(signum).name}: the jobs at work save and stop; three times ends them at once"
            )
        for process in self._running:
            process.kill() if count > 2 else process.tell(signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)

    def _look(self, stopping: bool) -> None:
        """See which jobs have ended, and which have to."""
        now = time.monotonic()
        for process in list(self._running):
            if (code := process.popen.poll()) is not None:
                self._running.remove(process)
                process.console.close()
                outcome = settle(self.sweep.run(process.job), self._ending(process, code), stopping, process.overdue)
                self.board.ended(process.job, outcome)
            elif now >= process.kill_at:
                process.kill()
            elif self.time_limit is not None and now - process.begun >= self.time_limit and not process.overdue:
                process.overdue = True
                process.tell(signal.SIGTERM)

    def _ending(self, process: Process, code: int) -> str:
        """How a process ended, in words."""
        if process.overdue:
            return f"over its time limit of {self.time_limit:g} s"
        said = last_words(self.sweep.run(process.job).path / CONSOLE, process.printed)
        if code < 0:
            return f"killed by {name_of(-code)}"
        return said or f"ended with exit code {code} and without a word"


def settle(run: RunDir, ending: str, stopping: bool, overdue: bool) -> Outcome:
    """Make the record of a job true whose process has ended.

    Args:
        ending: how it ended, in words.
        stopping: whether the sweep was told to stop.
        overdue: whether the job was told to stop because it took too long.
    """
    state = recorded_state(run)
    if state == "running" and Outcome.of(run).state == "running":  # another process has it
        return Outcome.of(run)
    try:
        if state is None and not stopping:
            run = RunDir.create(run.path)
        if state in (None, "running") and stopping and not overdue:
            if state:
                run.set_status("preempted", reason=f"stopped with the sweep: {ending}")
        elif state in (None, "running") or (state == "preempted" and overdue):
            run.set_status("failed", reason=ending)
    except (OSError, RlrunError):  # a disk that takes nothing; the table still says it
        return Outcome("failed", ending)
    return Outcome.of(run)


def open_console(folder: Path) -> IO[bytes]:
    """The file that takes what a job prints, at its end."""
    folder.mkdir(parents=True, exist_ok=True)
    return os.fdopen(files.open_plain(folder / CONSOLE, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab")


def last_words(console: Path, printed: int) -> str:
    """The error that a process printed last, behind so many bytes; empty if it did not say any."""
    with suppress(OSError), console.open("rb") as file:
        file.seek(max(printed, file.seek(0, os.SEEK_END) - TAIL))
        said = ("\n" + file.read().decode(errors="replace")).rpartition("\nrlrun: ")
        return printable(said[2].strip()) if said[1] else ""
    return ""


def environment(slot: int | None) -> dict[str, str]:
    """What a job's process finds in its environment: ours, and one of the GPUs if there are several."""
    found = dict(os.environ)
    cards = gpus()
    if slot is not None and len(cards) > 1:
        found["CUDA_VISIBLE_DEVICES"] = cards[slot % len(cards)]
    package = str(Path(rlrun.__file__).parent.parent)
    if sys.path[:1] == [package]:  # started as `python -m rlrun` in a checkout, where a job has to find it too
        found["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [found.get("PYTHONPATH")])])
    return found


def gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(index) for index, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def name_of(signum: int) -> str:
    with suppress(ValueError):
        return signal.Signals(signum).name
    return f"signal {signum}"


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """The signals that come while this is open, instead of what they do otherwise."""
    noted: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        noted.append(signum)

    heeded = [s for s in SIGNALS if not (s == signal.SIGHUP and signal.getsignal(s) == signal.SIG_IGN)]  # nohup
    before = {signum: signal.signal(signum, note) for signum in heeded}
    try:
        yield noted
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
