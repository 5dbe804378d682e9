"""The jobs of a sweep on other machines: Ray or Slurm finds each a node, and a keeper there starts and watches it.

All nodes have to see the sweep's directory under the same path. The keeper is the pool of this package with one job in
it, so a job's process, its console and its record are what they are at home; it ends its job if the scheduler tells it
to. Between the sweep and a keeper there are two small files in `SWEEP/.keepers`: `N.begun` says that job N has left the
queue, `N.stop` holds the signals that the sweep passes on.
"""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from rlrun import files
from rlrun.compute import raycluster
from rlrun.errors import ConfigError, Interrupted, RlrunError, described
from rlrun.interrupt import SIGNALS
from rlrun.rundir.layout import RunDir
from rlrun.rundir.sweep import RECORD, Job, Outcome, Sweep, recorded_state
from rlrun.sweeps import pool
from rlrun.sweeps.board import say
from rlrun.sweeps.pool import SAVING, Here, Pool, Task, settle

FOLDER = ".keepers"  # in the sweep's directory
TICK = 0.5  # seconds between two looks at the jobs, and of a keeper at what it is told
MESSAGES = 60.0  # seconds that a message to a keeper and its answer may take, beyond what the job needs
OF_NODES = ("CUDA_VISIBLE_DEVICES", "RAY_", "SLURM_", "SUBMITIT_", "HOSTNAME", "TMPDIR")  # variables that stay theirs
MINUTES = 365 * 24 * 60  # that a rehearsal on this machine may take
EXTRAS = {"ray": ("ray", "Ray"), "slurm": ("slurm", "submitit"), "submitit": ("slurm", "submitit")}


def must_be_installed(cluster: str | None) -> None:
    """Raise ConfigError if the extra is missing that a sweep on such a cluster takes."""
    if cluster is None:
        return
    extra, package = EXTRAS[cluster]
    if find_spec(package.lower()) is None:
        hint = f"get it with `pip install 'rlrun[{extra}]'`"
        raise ConfigError("sweep.cluster", f"needs {package}, which is not installed", hint)


class Lost(Exception):
    """A keeper whose end nobody heard of: its node is gone, or the scheduler ended it."""


class Future(Protocol):
    """What became of a keeper that was handed to a scheduler."""

    def done(self) -> bool: ...
    def result(self) -> Mapping[str, Any]:
        """What the keeper returned. Lost if it ended otherwise, another exception if it failed."""

    def cancel(self) -> None:
        """Take it out of the queue, or end it."""


@dataclass
class Remote:
    """A job that was handed to a cluster."""

    job: Job
    run: RunDir
    folder: Path  # of the keepers
    future: Future
    kill_at: float = float("inf")

    def begun(self) -> bool:
        return (self.folder / f"{self.job.number}.begun").exists()

    def poll(self) -> bool:
        # the process of a job outlives a keeper that was killed until it has saved
        return self.future.done() and (not self.run.is_alive() or time.monotonic() >= self.kill_at)

    def tell(self, signum: int) -> None:
        with (self.folder / f"{self.job.number}.stop").open("ab") as file:
            file.write(bytes([signum]))
        if not self.begun():
            self.future.cancel()
        self.kill_at = min(self.kill_at, time.monotonic() + self.job.grace + SAVING + MESSAGES)

    def kill(self) -> None:
        for _ in range(3):  # the third does not wait
            self.tell(signal.SIGTERM)
        self.future.cancel()

    def limit(self, seconds: float) -> None:
        """Its keeper does that."""

    def settle(self, stopping: bool) -> Outcome:
        try:
            return Outcome(**self.future.result())
        except Lost as error:
            reason = "stopped with the sweep" if stopping else str(error)
            state = recorded_state(self.run)
            if state == "running":  # it can go on from its last checkpoint, and has not failed
                self.run.set_status("preempted", reason=reason)
            return replace(Outcome.of(self.run), reason=reason) if state in (None, "running") else Outcome.of(self.run)
        except Exception as error:
            return settle(self.run, described(error), stopping, overdue=False)


class Cluster:
    """A place for jobs behind a scheduler.

    Args:
        sweep: whose jobs they are.
        time_limit: seconds that a job may be at work, not counting the queue.
        cpus, gpus: that a job needs; Ray lets jobs share one: 0.25.
    """

    tick = TICK

    def __init__(self, sweep: Sweep, time_limit: float | None, cpus: float, gpus: float):
        self.sweep, self.time_limit, self.cpus, self.gpus = sweep, time_limit, cpus, gpus
        self.folder = sweep.path.absolute() / FOLDER
        self._open = ExitStack()

    def __enter__(self) -> Cluster:
        self.folder.mkdir(exist_ok=True)
        self.connect(self._open)
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()
        for kind in ("begun", "stop"):
            for path in self.folder.glob(f"*.{kind}"):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # what submitit keeps there stays
            self.folder.rmdir()

    def start(self, task: Task, slot: int) -> Remote:
        number = task.job.number
        for kind in ("begun", "stop"):  # left by a sweep that was killed
            (self.folder / f"{number}.{kind}").unlink(missing_ok=True)
        given = (str(self.sweep.path.absolute()), number, task.words, self.time_limit, pool.COMMAND[1:])
        future = self.submit(keep, *given, dict(pool.environment(None)))
        return Remote(task.job, self.sweep.run(task.job), self.folder, future)

    def connect(self, stack: ExitStack) -> None:
        """Reach the scheduler; what has to be closed in the end goes onto the stack."""
        raise NotImplementedError

    def submit(self, function: Callable[..., Mapping[str, Any]], *args: Any) -> Future:
        """Hand a call to the scheduler."""
        raise NotImplementedError


class OnRay(Cluster):
    """Each job is a task of a Ray cluster; it ends if this process does.

    Args:
        address: see `raycluster.connected`.
    """

    def __init__(self, sweep: Sweep, time_limit: float | None, cpus: float, gpus: float, address: str):
        super().__init__(sweep, time_limit, cpus, gpus)
        self.address = address

    def connect(self, stack: ExitStack) -> None:
        self._ray = stack.enter_context(raycluster.connected(self.address, "sweep.cluster"))
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in nodes):
            say(f"no node of the cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs yet; the jobs wait for one")

    def submit(self, function: Callable[..., Mapping[str, Any]], *args: Any) -> Future:
        task = self._ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(function)
        return RayFuture(self._ray, task.remote(*args))


@dataclass
class RayFuture:
    """The keeper's call as a task of Ray."""

    ray: Any
    ref: Any

    def done(self) -> bool:
        return bool(self.ray.wait([self.ref], timeout=0)[0])

    def result(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self.ray.get(self.ref)
        except self.ray.exceptions.RayTaskError as error:
            raise RlrunError(described(error.cause or error)) from error
        except self.ray.exceptions.RayError as error:
            raise Lost(" ".join(described(error).split())) from error
        return found

    def cancel(self) -> None:
        self.ray.cancel(self.ref)


class OnSlurm(Cluster):
    """Each job is one of Slurm's, by submitit; those in its queue or at work stay there if this process is killed.

    Args:
        options: of sbatch, by their long names.
        rehearse: run the jobs on this machine, in the way of Slurm.
    """

    def __init__(
        self,
        sweep: Sweep,
        time_limit: float | None,
        cpus: float,
        gpus: float,
        options: Mapping[str, Any],
        rehearse: bool = False,
    ):
        super().__init__(sweep, time_limit, cpus, gpus)
        self.options, self.rehearse = options, rehearse

    def connect(self, stack: ExitStack) -> None:
        import submitit

        try:
            self._executor = submitit.AutoExecutor(self.folder, cluster="local" if self.rehearse else "slurm")
        except RuntimeError as error:
            hint = "sweep.cluster=submitit does the same on this machine"
            raise ConfigError("sweep.cluster", f"there is no Slurm here: {error}", hint) from error
        self._executor.update_parameters(
            name=f"rlrun-{self.sweep.path.name}",
            cpus_per_task=max(1, round(self.cpus)),
            gpus_per_node=round(self.gpus),
            **({"timeout_min": MINUTES} if self.rehearse else {"slurm_additional_parameters": dict(self.options)}),
        )

    def submit(self, function: Callable[..., Mapping[str, Any]], *args: Any) -> Future:
        return SubmititFuture(self._executor.submit(function, *args))


@dataclass
class SubmititFuture:
    """The keeper's call as a job of submitit."""

    job: Any

    def done(self) -> bool:
        return bool(self.job.done())

    def result(self) -> Mapping[str, Any]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            found: Mapping[str, Any] = self.job.result()
        except UncompletedJobError as error:
            raise Lost(f"Slurm's job {self.job.job_id} ended without a result, {self.job.state}") from error
        except FailedJobError as error:
            raise RlrunError(str(error).strip().rpartition("\n")[2]) from error
        return found

    def cancel(self) -> None:
        self.job.cancel(check=False)


def keep(
    folder: str,
    number: int,
    words: Sequence[str],
    time_limit: float | None,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """On a node: do a job of a sweep, and return its outcome.

    Args:
        folder: of the sweep.
        words: of the command that does the job.
        command: arguments of this node's Python that come before them.
        environment: of the sweep's process.
    """
    path = Path(folder)
    if not (path / RECORD).exists():
        problem = f"{platform.node()} does not see {path}: the nodes of a cluster have to share the sweep's directory"
        return asdict(Outcome("failed", problem))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # which Ray blocks in its workers, and a job would inherit
    pool.COMMAND[1:] = command
    os.environ.update({name: value for name, value in environment.items() if not name.startswith(OF_NODES)})
    record = Sweep.read(path)
    job = replace(record.jobs[number], any_gpu=False)  # the scheduler has dealt out the GPUs
    told = path / FOLDER / f"{number}.stop"
    files.replace(told.with_suffix(".begun"), platform.node())
    with suppress(Interrupted), obeying(told):
        Pool(record, Silent(), 1, time_limit, Here(record)).run([Task(job, list(words))])
    return asdict(Outcome.of(record.run(job)))


@contextmanager
def obeying(told: Path) -> Iterator[None]:
    """Send this process the signals that are written to a file."""
    end = threading.Event()

    def obey() -> None:
        seen = 0
        while not end.wait(TICK):
            with suppress(OSError):
                for signum in told.read_bytes()[seen:]:
                    seen += 1
                    os.kill(os.getpid(), signum)
                    time.sleep(2 * pool.TICK)  # two that come at once would be one

    thread = threading.Thread(target=obey, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


class Silent:
    """The board of a keeper: the sweep shows its job."""

    def started(self, job: Job) -> None: ...
    def ended(self, job: Job, outcome: Outcome) -> None: ...
    def say(self, text: str) -> None: ...
    def refresh(self) -> None: ...
