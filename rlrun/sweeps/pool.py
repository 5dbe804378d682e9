"""Running the jobs of a sweep: each in a process of its own, so that none can harm another or the sweep.

A job is what the same words are as a single run; here it is started, watched, and told to stop. Whatever its process
does, its `status.json` is true afterwards: where a process ended without a word, it is written here. Where that
process is, on this machine (`Here`) or on a cluster (sweeps/cluster.py), is the affair of a place.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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


class Process(Protocol):
    """A job that was put to work."""

    job: Job
    kill_at: float  # time.monotonic() at which it should have ended, once it was told to

    def begun(self) -> bool:
        """Whether it has left the queue, if there is one."""

    def poll(self) -> bool:
        """Whether it has ended."""

    def tell(self, signum: int) -> None:
        """Send it a signal, which it has to answer in time."""

    def kill(self) -> None:
        """End it, and what it has started."""

    def limit(self, seconds: float) -> None:
        """Stop it if it has been at work for so long."""

    def settle(self, stopping: bool) -> Outcome:
        """What has become of it, which its record now says, too."""


class Place(Protocol):
    """Where jobs are done."""

    tick: float  # seconds between two looks at them

    def __enter__(self) -> Place: ...
    def __exit__(self, *exc: object) -> None: ...
    def start(self, task: Task, slot: int) -> Process:
        """Put a job to work. OSError or RlrunError if that cannot be."""


@dataclass
class Child:
    """A job at work in a process of this machine."""

    job: Job
    run: RunDir
    popen: subprocess.Popen[bytes]
    console: IO[bytes]
    printed: int  # bytes that were in `console` already
    since: float = field(default_factory=time.monotonic)
    overdue: float | None = None  # the time limit, if it was told to stop because of it
    kill_at: float = float("inf")

    def begun(self) -> bool:
        return True

    def poll(self) -> bool:
        return self.popen.poll() is not None

    def tell(self, signum: int) -> None:
        with suppress(ProcessLookupError):
            self.popen.send_signal(signum)
        self.kill_at = min(self.kill_at, time.monotonic() + self.job.grace + SAVING)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)

    def limit(self, seconds: float) -> None:
        if self.overdue is None and time.monotonic() - self.since >= seconds:
            self.overdue = seconds
            self.tell(signal.SIGTERM)

    def settle(self, stopping: bool) -> Outcome:
        self.console.close()
        return settle(self.run, self._ending(), stopping, self.overdue is not None)

    def _ending(self) -> str:
        """How the process ended, in words."""
        if self.overdue is not None:
            return f"over its time limit of {self.overdue:g} s"
        code = self.popen.returncode
        if code < 0:
            return f"killed by {name_of(-code)}"
        said = last_words(self.run.path / CONSOLE, self.printed)
        return said or f"ended with exit code {code} and without a word"


class Here:
    """This machine, where each job is a child of this process and ends with it.

    Args:
        sweep: whose jobs they are.
    """

    tick = TICK

    def __init__(self, sweep: Sweep):
        self.sweep = sweep
        self._open = ExitStack()

    def __enter__(self) -> Here:
        self._watched = self._open.enter_context(tether()).watched
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def start(self, task: Task, slot: int) -> Child:
        run = self.sweep.run(task.job)
        console = open_console(run.path)
        printed = console.tell()
        popen = subprocess.Popen(
            [*COMMAND, str(self._watched), *task.words],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            pass_fds=[self._watched],
            start_new_session=True,  # what is typed at the terminal comes to the sweep alone
            cwd=self.sweep.cwd if Path(self.sweep.cwd).is_dir() else None,
            env=environment(slot if task.job.any_gpu else None),
        )
        return Child(task.job, run, popen, console, printed)


@dataclass
class Pool:
    """Slots in which jobs run.

    Args:
        sweep: whose jobs they are.
        board: shows them.
        slots: how many run at a time.
        time_limit: seconds that a job may take; None lets it take as long as it wants.
        place: where; None is here.
    """

    sweep: Sweep
    board: Board
    slots: int = 1
    time_limit: float | None = None
    place: Place | None = None
    _running: dict[int, Process] = field(default_factory=dict)  # by slot
    _waiting: set[int] = field(default_factory=set)  # slots of those in a queue

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all tasks, in their order.

        Raises:
            Interrupted: a signal came. The jobs at work have been told, and have ended.
        """
        to_do, told = deque(tasks), 0
        with noted_signals() as signals, self.place or Here(self.sweep) as place:
            while self._running or (to_do and not signals):
                for signum in signals[told:]:
                    told += 1
                    self._pass_on(signum, told)
                while to_do and not signals and len(self._running) < self.slots:
                    self._start(place, to_do.popleft())
                self._look(stopping=bool(signals))
                self.board.refresh()
                time.sleep(place.tick)
        if signals:
            raise Interrupted(signals[0])

    def _start(self, place: Place, task: Task) -> None:
        slot = min(set(range(len(self._running) + 1)) - self._running.keys())
        try:
            self._running[slot] = place.start(task, slot)
        except (OSError, RlrunError) as error:
            self.board.started(task.job)
            self.board.ended(task.job, Outcome("failed", f"cannot be started: {error}"))
        else:
            self._waiting.add(slot)

    def _pass_on(self, signum: int, count: int) -> None:
        """Tell the jobs at work what the sweep was told; the third time does not wait for them."""
        if count == 1:
            self.board.say(
                f"{signal.Signals(signum).name}: the jobs at work save and stop; three times ends them at once"
            )
        for process in self._running.values():
            process.kill() if count > 2 else process.tell(signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)

    def _look(self, stopping: bool) -> None:
        """See which jobs have begun, which have ended, and which have to."""
        for slot, process in list(self._running.items()):
            ended = process.poll()
            if slot in self._waiting and (ended or process.begun()):
                self._waiting.remove(slot)
                self.board.started(process.job)
            if ended:
                del self._running[slot]
                self.board.ended(process.job, process.settle(stopping))
            elif time.monotonic() >= process.kill_at:
                process.kill()
            elif self.time_limit is not None:
                process.limit(self.time_limit)


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
