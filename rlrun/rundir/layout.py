"""A run directory: where everything lies, which process owns it, and what became of the run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlrun import files
from rlrun.errors import ConfigError, RlrunError, printable
from rlrun.rundir import lease, processes
from rlrun.rundir.claim import Taken, claim, clear_leftovers
from rlrun.rundir.claim import check as check_claim
from rlrun.rundir.meta import now, surroundings

STATES = ("running", "finished", "failed", "preempted", "diverged")
KEY = "hydra.run.dir"
FILES = (
    *("config.yaml", "overrides.yaml", "command.txt", "meta.json", "status.json", "summary.json", "run.log"),
    *(
        "metrics.csv",
        "metrics.jsonl",
        "eval.csv",
        "arm_counts.csv",
        "replay.bin",
        "tracker.json",
        ".lock",
        ".signature",
    ),
)
FOLDERS = ("checkpoints", "evaluations", "figures", "ranks", "tb", "videos", "wandb", ".hydra")
LIMIT = 2**24  # bytes of a small file


class RunDir:
    """The layout of one run as paths, and the small files that describe it.

    What `read_status` says of a run is true at every moment.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.config = self.path / "config.yaml"  # resolved: what resume reads
        self.overrides = self.path / "overrides.yaml"
        self.command = self.path / "command.txt"
        self.meta = self.path / "meta.json"
        self.status = self.path / "status.json"
        self.metrics_csv = self.path / "metrics.csv"
        self.metrics_jsonl = self.path / "metrics.jsonl"
        self.tb = self.path / "tb"
        self.eval_csv = self.path / "eval.csv"
        self.checkpoints = self.path / "checkpoints"
        self.videos = self.path / "videos"
        self.log = self.path / "run.log"
        self.summary = self.path / "summary.json"
        self.replay = self.path / "replay.bin"  # what a replay keeps there that is not to lie in memory
        self.tracker = self.path / "tracker.json"
        self.ranks = self.path / "ranks"  # of a run of several, what those but the first save and say

    @classmethod
    def create(cls, path: str | os.PathLike[str], content: Mapping[str, str] | None = None) -> RunDir:
        """Claim a directory for a new run, whose first attempt this process makes.

        A directory that exists already must be empty but for `.hydra/` and `*.log`, which Hydra puts there.

        Args:
            content: what it holds from its first moment on, beside its status: text by name.

        Raises:
            ConfigError: the directory holds a run or other files, or cannot be made.
        """
        run = cls(path)
        status = {
            "state": "running",
            "env_steps": 0,
            "saved": 0,
            "attempts": 1,
            "reason": "",
            **processes.this_process(),
        }
        status |= {"started": now(), "updated": now()}
        run._must_lie_in_no_run()
        with run._explained():
            claim(run.path, {run.status.name: to_json(status), **(content or {})})
        return run

    @classmethod
    def check(cls, path: str | os.PathLike[str]) -> None:
        """Raise ConfigError as `create` would, without making anything."""
        run = cls(path)
        run._must_lie_in_no_run()
        with run._explained():
            check_claim(run.path)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> RunDir:
        """The run at a path, which may also be the run's `checkpoints/` or a checkpoint in there."""
        path = Path(path)
        above = [cls(parent.parent) for parent in (path, path.parent) if parent.name == "checkpoints"]
        return next((run for run in (cls(path), *above) if run.exists), cls(path))

    def of_rank(self, rank: int) -> RunDir:
        """Where a rank of the run other than the first has its checkpoints and its log."""
        own = RunDir(self.ranks / str(rank))
        for folder in (self.ranks, own.path):
            files.make_directory(folder, root=self.path)
        return own

    @property
    def begun_by(self) -> int:
        """How many ranks make the run: as `meta.json` says or, where that is lost, by what they have saved."""
        told, others = self.read_meta().get("ranks"), (path.name for path in self.ranks.glob("*"))
        saved = 1 + max((int(name) for name in others if name.isdecimal()), default=0)
        return max(told, saved) if isinstance(told, int) else saved

    @property
    def exists(self) -> bool:
        """Whether something is here that is a run, or what is left of one."""
        return os.path.lexists(self.config) or os.path.lexists(self.status)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDir:
        """The run at a path, as `at` finds it.

        Raises:
            RlrunError: there is no run; says what is missing.
            NotPlain: something in it that rlrun reads or writes is a link, a pipe or the like.
        """
        run = cls.at(path)
        if not run.path.is_dir():
            raise RlrunError(f"{path}: there is no such run directory")
        if missing := [file.name for file in (run.config, run.status) if not os.path.lexists(file)]:
            raise RlrunError(f"{path}: not a run directory, it has no {' and no '.join(missing)}")
        for name in FILES:
            files.require(run.path / name, stat.S_ISREG)
        for name in FOLDERS:
            files.require(run.path / name, stat.S_ISDIR)
        return run

    # Status: who is at work here, and how it ended.

    def set_status(self, state: str, *, env_steps: int | None = None, reason: str = "", **extra: Any) -> None:
        """Record the state of the run; `extra` entries, and `env_steps` if not given, stay as they were."""
        if state not in STATES:
            raise ValueError(f"{state!r} is not one of {', '.join(STATES)}")
        status = self._recorded() | extra | {"state": state, "reason": reason, "updated": now()}
        if env_steps is not None:
            status["env_steps"] = env_steps
        try:
            self.write_json(self.status, status)
        except files.DiskError as error:
            if error.errno not in files.FULL:
                raise
            files.overwrite(self.status, to_json(status), self.path)  # one that is not true would be worse

    def read_status(self) -> dict[str, Any]:
        """The run's status: state, env_steps, attempts, reason, pid, host, started, updated and extras.

        A process that was killed could not record its end: a run that claims to be running while its process on this
        host is gone is reported as failed.

        Raises:
            RlrunError: the file is missing or unreadable.
        """
        status = self._recorded()
        if lease.is_lost(self.status, status):
            status = self._recorded()  # it may have ended well since the first look
            if reason := lease.is_lost(self.status, status):
                status |= {"state": "failed", "reason": reason}
        return status

    def saved_steps(self) -> int:
        """Env steps of the newest checkpoint; 0 before there is one."""
        status = self._recorded()
        steps: int = status.get("saved", status["env_steps"])  # 0.1.0 did not tell them apart
        return steps

    def is_alive(self) -> bool:
        """Whether a process of this machine, this one or another, is at work on the run, as far as its status tells."""
        try:
            status = self._recorded()
        except RlrunError:
            return False
        return status["state"] == "running" and processes.is_here(status) and processes.exists(status)

    def must_be_free(self, patiently: bool = False) -> None:
        """Raise RlrunError, which says how to go on, if another process is at work on the run.

        Args:
            patiently: where one elsewhere gave no fresh sign of life, wait for another.
        """
        status = self._recorded()
        if not lease.is_held(self.status, status, patiently):
            return
        if processes.is_here(status):
            raise RlrunError(
                f"{self.path}: process {status['pid']} is training here\n"
                f"wait until it has finished, or stop it with `kill {status['pid']}`"
            )
        raise RlrunError(
            f"{self.path}: process {status['pid']} on {printable(status['host'])}, elsewhere, is training here\n"
            f"its last sign of life is {files.age(self.status):.0f} seconds old: wait a minute if it was killed, "
            "or take the run over with --force"
        )

    def must_be_ours(self) -> None:
        """Raise RlrunError if another process has taken the run over, which this one must not write into any more."""
        status = self._recorded()
        if not processes.is_this(status):
            raise RlrunError(
                f"{self.path}: process {status['pid']} on {printable(status['host'])} has taken the run over"
            )

    def begin_attempt(self, force: bool = False) -> int:
        """Make this process the one that runs here; returns how many there have been, itself included.

        Args:
            force: take the run over from a process elsewhere that seems to be at work.

        Raises:
            RlrunError: another process is at work on the run.
        """
        with self._locked():
            if not (force and not processes.is_here(self._recorded())):
                self.must_be_free(patiently=True)
            status = self._recorded()
            attempts: int = status["attempts"] + 1
            status |= {"state": "running", "reason": "", "attempts": attempts, "updated": now()}
            self.write_json(self.status, status | _owner())
        clear_leftovers(self.path)
        return attempts

    # Files.

    def amend_meta(self, **facts: Any) -> None:
        """Add facts to `meta.json`. If a killed process left none, or a damaged one, it is made anew."""
        noted = self.read_meta() or surroundings() | {"created": self._recorded().get("started")}
        if any(noted.get(name) != fact for name, fact in facts.items()):
            self.write_json(self.meta, noted | facts)

    @contextlib.contextmanager
    def where_modules_are(self) -> Iterator[None]:
        """What is not found in here may be in the folder where the run was started: the error names that."""
        try:
            yield
        except ConfigError as error:
            folder = self.read_meta().get("cwd", os.getcwd())
            if not isinstance(error.__cause__, ImportError) or folder == os.getcwd():
                raise
            hint = f"the run was started in {folder}: go there, and it is found"
            raise ConfigError(error.key, error.problem, hint) from error

    def read_meta(self) -> dict[str, Any]:
        """What `meta.json` says; {} if it is missing or damaged."""
        try:
            noted = json.loads(files.read(self.meta, LIMIT))
        except (OSError, ValueError, RecursionError):
            return {}
        return noted if isinstance(noted, dict) else {}

    def write_json(self, path: Path, data: Any) -> None:
        """Replace a file by strict JSON: numpy and torch values become plain, NaN and infinity become null."""
        self.write_text(path, to_json(data))

    def write_text(self, path: Path, text: str) -> None:
        """Replace a file in the run directory whole."""
        files.replace(path, text, self.path)

    def _must_lie_in_no_run(self) -> None:
        """Raise ConfigError if a folder above is that of a run, in which no other one would be found."""
        for above in (RunDir(parent) for parent in self.path.absolute().parents):
            if os.path.lexists(above.config) and os.path.lexists(above.status):
                raise ConfigError(KEY, f"{self.path} would lie in the run {above.path}", "choose a directory beside it")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Why the directory cannot be claimed, as a ConfigError."""
        try:
            yield
        except Taken as taken:
            raise self._refused(taken.what) from taken
        except OSError as error:
            obstacle = error.filename2 or error.filename or self.path
            problem = f"{self.path} cannot be made: {error.strerror}: {obstacle}"
            raise ConfigError(KEY, problem, "choose another directory") from error

    def _refused(self, what: str) -> ConfigError:
        """The error for a directory that is taken."""
        if what == self.status.name and not self.config.exists():
            return ConfigError(KEY, f"{self.path}: another process is about to start a run there", "choose another one")
        if what == self.status.name:
            hint = f"continue it with `rlrun resume {shlex.quote(str(self.path))}`, or choose another directory"
            return ConfigError(KEY, f"{self.path} already holds a run", hint)
        return ConfigError(KEY, f"{self.path} is not empty: it has {what}", "choose a new or empty directory")

    def _recorded(self) -> dict[str, Any]:
        """The status as written by the process that owns the run."""
        try:
            status = json.loads(files.read(self.status, LIMIT))
        except FileNotFoundError as error:
            raise RlrunError(f"{self.status}: missing, so this is not a run directory") from error
        except (OSError, ValueError, RecursionError) as error:
            raise RlrunError(f"{self.status}: cannot be read: {error}") from error
        if not _is_status(status):
            raise RlrunError(f"{self.status}: not the status of a run")
        found: dict[str, Any] = status
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep two processes from taking over the same run at the same instant."""
        path = self.path / ".lock"
        with files.writing(path):
            file = files.open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            with contextlib.suppress(OSError):  # a file system without locks leaves us with the check of the pid
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def to_json(data: Any) -> str:
    """Strict JSON: numpy and torch values become plain, NaN and infinity become null."""
    return json.dumps(_plain(data), indent=2, allow_nan=False, default=str) + "\n"


def _is_status(data: Any) -> bool:
    """Whether data have the entries of a status, each of its kind and size."""
    if not isinstance(data, dict):
        return False
    counts = {"env_steps": None, "attempts": None, "pid": None, "saved": 0}  # 0.1.0 did not note what was saved
    texts = {"state": None, "host": None, "reason": "", "started": ""}
    counted = all(
        type(data.get(name, default)) is int and 0 <= data.get(name, 0) < 2**63 for name, default in counts.items()
    )
    return (
        counted
        and all(isinstance(data.get(name, default), str) for name, default in texts.items())
        and data["state"] in STATES
    )


def _owner() -> dict[str, Any]:
    """This process, and how often it gives a sign of life: by touching the status."""
    return {**processes.this_process(), "heartbeat_seconds": lease.BEAT}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy and torch
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
