"""The jobs of a sweep: the record of them, and what has become of each.

`sweep.yaml` beside the jobs' directories says which there are and by which words each is made. It is written before the
first of them starts, so that `rlrun resume SWEEP` knows what is missing. What became of a job stands in its directory.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import yaml

from rlrun import files
from rlrun.errors import RlrunError
from rlrun.rundir import older, trust
from rlrun.rundir.layout import RunDir

RECORD = "sweep.yaml"
NOT_STARTED = "not started"
SHORT = {"learning_rate": "lr"}  # in names of directories
LONGEST = 80  # characters of such a name
LONG_NUMBER = 9  # characters
LIMIT = 2**26  # bytes of a record
TAIL = 16_384  # bytes of a log that hold its last row


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    number: int  # counted from 0
    folder: str  # its run directory, seen from the sweep's
    words: list[str]  # the overrides that make it
    varied: dict[str, str]  # what the sweep gave it: dotted key -> value
    seed: int
    total_timesteps: int
    grace: float  # seconds in which it answers a signal
    any_gpu: bool = True  # whether it takes whichever GPU it is given


@dataclass
class Sweep:
    """A sweep's directory and the record in it."""

    path: Path
    command: str  # what the user typed
    cwd: str  # where
    flags: list[str] = field(default_factory=list)  # `--config-dir DIR` ...
    options: dict[str, Any] = field(default_factory=dict)  # of the sweep as a whole, the fields of SweepConfig
    jobs: list[Job] = field(default_factory=list)
    _signatures: list[str] = field(default_factory=list)  # of what `write` has put down

    @classmethod
    def read(cls, path: Path, trusting: bool = True) -> Sweep:
        """The sweep at a path.

        Args:
            trusting: take it even if it was made elsewhere: its words can make jobs do anything.

        Raises:
            RlrunError: the record is missing, damaged, or not trusted.
        """
        file = path / RECORD
        try:
            text = files.read(file, LIMIT)
            if not (trusting or trust.is_signed(path, text)):
                raise trust.NotTrusted(
                    f"{path} was not made by you on this machine, or its {RECORD} was changed\n"
                    "--trust runs its jobs, this once; do so only if you know what they are"
                )
            match yaml.safe_load(text):
                case {
                    "command": str(command),
                    "cwd": str(cwd),
                    "flags": list(flags),
                    "options": dict(options),
                } as record:
                    jobs = [_job(entry) for entry in record.get("jobs", ())]
                    return cls(path, command, cwd, [str(flag) for flag in flags], options, jobs)
        except FileNotFoundError as error:
            raise RlrunError(f"{file}: missing, so this is not a sweep that can be resumed") from error
        except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
            raise RlrunError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}") from error
        raise RlrunError(f"{file}: not the record of a sweep")

    def write(self) -> None:
        """Put down the record, whole."""
        record = {
            "command": self.command,
            "cwd": self.cwd,
            "flags": self.flags,
            "options": self.options,
            "jobs": [asdict(job) for job in self.jobs],
        }
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=1000)
        self._signatures += trust.signature(text).values()
        files.replace(self.path / trust.SIGNATURE, "".join(self._signatures[-2:]))  # with that of the one it replaces
        files.replace(self.path / RECORD, text)

    def run(self, job: Job) -> RunDir:
        return RunDir(self.path / job.folder)

    def outcomes(self) -> list[tuple[Job, Outcome]]:
        return [(job, Outcome.of(self.run(job))) for job in self.jobs]

    @property
    def keys(self) -> list[str]:
        """What varies from job to job, the seed last; all that was given if there is one job only."""
        given = dict.fromkeys(key for job in self.jobs for key in job.varied)
        varying = [key for key in given if len({job.varied.get(key) for job in self.jobs}) > 1] or list(given)
        return sorted(varying, key=lambda key: key == "seed")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes away from the sweep.

        Raises:
            RlrunError: another one is at work on it.
        """
        path = self.path / ".lock"
        with files.writing(path):
            descriptor = files.open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RlrunError(f"{self.path}: another process is at work on this sweep") from error
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Outcome:
    """What has become of a job."""

    state: str  # of the run, or "not started"
    reason: str = ""
    env_steps: int = 0
    mean: float = math.nan  # return of the final evaluation
    std: float = math.nan
    seconds: float = math.nan  # of training, all attempts together

    @classmethod
    def of(cls, run: RunDir) -> Outcome:
        """As its directory tells."""
        if not run.status.exists():
            return cls(NOT_STARTED)
        try:
            status = run.read_status()
        except RlrunError as error:
            return cls("failed", str(error))
        summary: Any = {}
        with suppress(OSError, ValueError, RlrunError):
            summary = json.loads(files.read(run.summary, LIMIT))
        final = summary.get("final_eval") if isinstance(summary, Mapping) else None
        if not isinstance(final, Mapping) or status["state"] != "finished":
            final = {}
        return cls(
            status["state"],
            str(status.get("reason", "")),
            status["env_steps"],
            _number(final.get("mean")),
            _number(final.get("std")),
            _number(summary.get("wall_seconds")) if isinstance(summary, Mapping) else math.nan,
        )


def label(number: int, varied: Mapping[str, str]) -> str:
    """A name for a job's directory that needs no quotes in a shell: `3_dqn_lr-1e-4_s2`, its number and what varies."""
    leaves = [key.rpartition(".")[2] for key in varied]
    parts = [str(number)]
    for key, value in sorted(varied.items(), key=lambda item: item[0] == "seed"):
        leaf = key.rpartition(".")[2]
        name = leaf if leaves.count(leaf) == 1 else key
        if key == "seed":
            parts.append(f"s{_plain(value)}")
        elif "." in key or key in ("total_timesteps",):
            parts.append(f"{SHORT.get(name, name)}-{_plain(value)}")
        else:  # the choice of a group says by itself what it is
            parts.append(_plain(value))
    return "_".join(part for part in parts if part)[:LONGEST].rstrip("-_.")


def _plain(value: str) -> str:
    """A value in a path: of text what a shell leaves alone, numbers as in `rounded`."""
    return rounded(value) if _is_number(value) else re.sub(r"[^\w.+-]+", "-", value).strip("-")


def rounded(value: str) -> str:
    """A number in few characters: `1e-4` for `0.0001`, four digits of one that a sweeper drew; other text as it is."""
    if not _is_number(value):
        return value
    number = float(value)
    mantissa, _, exponent = f"{number:.3e}".partition("e")
    if 0 < abs(number) < 0.01:
        return f"{float(mantissa):g}e{int(exponent)}"
    return value if len(value) <= LONG_NUMBER else f"{number:.4g}"


def _is_number(value: str) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(value))
    return False


def is_recorded(path: Path) -> bool:
    """Whether a directory is that of a sweep with a record of its jobs."""
    return (path / RECORD).is_file()


def recorded_state(run: RunDir) -> str | None:
    """The state that a run's process wrote last, whether or not it still lives; None if there is no run."""
    try:
        status = json.loads(files.read(run.status, LIMIT))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RlrunError):
        return "failed"
    return str(status.get("state")) if isinstance(status, Mapping) else "failed"


def progress(run: RunDir) -> tuple[int, float]:
    """How far a run at work has come: env steps and recent return, from the last row it has logged."""
    steps, recent = 0, math.nan
    for row in _last_rows(run.metrics_jsonl):
        if not steps:
            steps = int(_number(row.get("env_steps"), 0))
        if "rollout/ep_rew_mean" in row:
            return steps, _number(row["rollout/ep_rew_mean"])
    if not steps:
        with suppress(RlrunError):
            steps = run.read_status()["env_steps"]
    return steps, recent


def _last_rows(path: Path) -> Sequence[Mapping[str, Any]]:
    """The rows at the end of a log, the last one first."""
    rows: list[Mapping[str, Any]] = []
    with suppress(OSError, RlrunError), open(files.open_plain(path, os.O_RDONLY), "rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
        for line in reversed(file.read().splitlines()):
            with suppress(ValueError):
                row = json.loads(line)
                rows += [row] if isinstance(row, Mapping) else []
    return rows


def _job(entry: Any) -> Job:
    """A job of the record; TypeError or ValueError if it is none."""
    if not isinstance(entry, Mapping) or entry.keys() != {f.name for f in fields_of(Job)}:
        raise ValueError("a job has other entries")
    job = Job(**entry)
    texts = [job.folder, *job.words, *job.varied, *job.varied.values()]
    if not all(isinstance(text, str) for text in texts) or not job.folder:
        raise ValueError("a job's folder, words or values are not text")
    if not all(isinstance(number, int | float) for number in (job.number, job.seed, job.total_timesteps, job.grace)):
        raise ValueError("a job's number, seed, total_timesteps or grace is not a number")
    return replace(job, words=older.words(job.words))


def _number(value: Any, otherwise: float = math.nan) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else otherwise
