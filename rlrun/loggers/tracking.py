"""A run in a tracker of experiments, beside its own files: Weights & Biases, MLflow or Trackio behind one adapter.

A run never depends on its tracker: what fails there costs one warning, and the run goes on without it. Nothing leaves
the machine unless the user names a server.

A run that is resumed goes on in the tracker where it was. It comes again over steps that the tracker has seen already,
for a tracker cannot be cut back as a file can; so `tracker.json` notes up to which step each metric has been told, and
none is told twice. What a killed process had not told, or the tracker not written down, comes from metrics.jsonl.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rlrun import files
from rlrun.errors import ConfigError
from rlrun.seeding import aside

log = logging.getLogger(__name__)

Row = tuple[int, Mapping[str, float]]  # env steps, and the metrics there

SECONDS = 1.0  # between two batches of rows
LIMIT = 2**20  # bytes of tracker.json


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a run."""

    project: str
    name: str
    id: str  # the same for all attempts
    resumed: bool  # whether the tracker knows it already
    config: Mapping[str, Any]  # nested plain data
    tags: tuple[str, ...]
    group: str  # the sweep that it belongs to; "" if none
    directory: Path  # its run directory
    server: str | None  # where it is tracked; None: on this machine


class Begun(NamedTuple):
    """A run that a tracker has taken up."""

    id: str  # may be one of the tracker's own
    where: str  # to see it
    last_step: int | None = None  # of a resumed one: the last that was kept; None if all that was told was


class Tracker(Protocol):
    """The adapter of one library. It raises whatever the library raises."""

    def init(self, run: Tracked) -> Begun:
        """Begin, or go on with, a run."""
        ...

    def log(self, rows: Sequence[Row]) -> None:
        """Rows in order of env steps, of metrics that were not told before."""
        ...

    def film(self, path: Path, env_steps: int) -> None:
        """An mp4 of an episode."""
        ...

    def artifact(self, name: str, directory: Path) -> None:
        """A directory with a checkpoint in it."""
        ...

    def finish(self, state: str, summary: Mapping[str, float | str]) -> None:
        """The end of an attempt, or of the run.

        Args:
            state: finished, preempted, failed or diverged.
            summary: what it came to, by dotted name; not the last values of metrics, which it knows.
        """
        ...


def require(name: str) -> None:
    """ConfigError if a tracker's library is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:  # without one it is a folder of that name, as wandb makes it
        raise ConfigError(
            "logger.tracker", f"{name} is not installed", f"get it with `pip install 'rlrun[{name}]'`, or write null"
        )


class Tracking:
    """The logger that hands everything to a tracker.

    Args:
        name: of the tracker.
        make: makes its adapter.
        about: the run at its beginning; one that the tracker knows already keeps its id.
        record: the path of `tracker.json`.
        artifacts: whether films and a checkpoint are handed over, too.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], about: Tracked, record: Path, artifacts: bool = True):
        self.name, self._record, self._artifacts = name, record, artifacts
        known, self._told = _read(record, name)
        self._id = known or about.id
        self._tracker: Tracker | None = None
        self._pending: list[Row] = []
        self._sent = time.monotonic()
        self._where = ""
        self._attempt("begin", lambda: self._begin(make(), about))
        if self._tracker is not None:
            log.info("%s: %s", name, self._where)

    def _begin(self, tracker: Tracker, about: Tracked) -> None:
        resumed = bool(self._told)
        begun = tracker.init(replace(about, id=self._id, resumed=resumed))
        if resumed and begun.id != self._id:  # it has forgotten the run
            self._told = {}
        if begun.last_step is not None:  # what it had not written down when the process was killed
            self._told = {name: min(steps, begun.last_step) for name, steps in self._told.items()}
        self._id, self._where, self._tracker = begun.id, begun.where, tracker
        self._write()

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """Take in a row; it is sent together with others."""
        if self._tracker is None:
            return
        new = {name: float(value) for name, value in metrics.items() if self._told.get(name, -1) < env_steps}
        if new:
            self._told.update(dict.fromkeys(new, env_steps))
            self._pending.append((env_steps, new))
        if time.monotonic() - self._sent >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        if self._tracker is not None and self._pending:
            rows, self._pending = self._pending, []
            tracker = self._tracker

            def send() -> None:
                self._write()  # first: a row that is lost is in metrics.csv, one that comes twice is in the way
                tracker.log(rows)

            self._attempt("log", send)
        self._sent = time.monotonic()

    def film(self, path: Path, env_steps: int) -> None:
        """Hand over an mp4 of an episode."""
        if self._tracker is not None and self._artifacts and self._told.get(path.name, -1) < env_steps:
            self.flush()
            self._told[path.name] = env_steps
            tracker = self._tracker
            self._attempt("take a film", lambda: tracker.film(path, env_steps))

    def finish(
        self,
        state: str,
        summary: Mapping[str, Any],
        checkpoint: Callable[[], AbstractContextManager[Path | None]],
    ) -> None:
        """The end of an attempt.

        Args:
            state: of the run from now on, as in status.json.
            summary: as in summary.json.
            checkpoint: puts one into a directory for as long as it takes; None if there is none.
        """
        self.flush()
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return

        def end() -> None:
            if self._artifacts and state != "preempted":
                with checkpoint() as directory:
                    if directory is not None:
                        tracker.artifact(f"run-{self._id}", directory)
            tracker.finish(state, {key: value for key, value in flat(summary).items() if key not in self._told})
            self._write()

        self._attempt("finish", end)

    def close(self) -> None:
        self.flush()

    def _attempt(self, what: str, do: Callable[[], None]) -> None:
        """Let a tracker do something. What it draws from the global random streams is not missed there."""
        try:
            with aside(random.SystemRandom().getrandbits(31)), _quiet():
                do()
        except Exception as error:
            self._tracker = None
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            log.warning("%s could not %s, the run goes on without it: %s", self.name, what, text)

    def _write(self) -> None:
        files.replace(self._record, json.dumps({"tracker": self.name, "id": self._id, "told": self._told}) + "\n")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a library prints of itself, and what will be other in versions to come, is not the run's to say."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _read(record: Path, name: str) -> tuple[str, dict[str, int]]:
    """A run's id in a tracker, and the env steps up to which it knows each metric; "" and {} if it knows nothing."""
    try:
        match json.loads(files.read(record, LIMIT)):
            case {"tracker": str(tracker), "id": str(known), "told": dict(told)} if tracker == name:
                if re.fullmatch("[0-9a-z]{1,64}", known) and all(type(steps) is int for steps in told.values()):
                    return known, told
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s: cannot be read, the tracker gets a new run: %s", record, error)
    return "", {}


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, float | str]:
    """Numbers and text of nested data by dotted name; the rest, such as null, is left out."""
    found: dict[str, float | str] = {}
    for key, value in data.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            found |= flat(value, name)
        elif isinstance(value, bool | int | float | str):
            found[name] = value
    return found


def leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """All values of nested data as text, by dotted name."""
    for key, value in data.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from leaves(value, name)
        else:
            yield name, "null" if value is None else str(value)
