"""Runs as a table: what was asked for, what came of it, and every logged number, as NumPy columns by name."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import files
from rlrun.errors import RlrunError
from rlrun.rundir import find, older, plainyaml
from rlrun.rundir.layout import RunDir
from rlrun.types import Array

if TYPE_CHECKING:
    import pandas

LIMIT = 2**28  # bytes of a file that is looked into
FIRST = ("run", "state", "env_steps", "reason")  # columns
SHOWN = 6  # columns that a table is described by


class Table(dict[str, Array]):
    """Columns by name, each an array with an entry per row, in the order in which they were met.

    Whole numbers are int64, other numbers float64, text is text, true and false are bool. Where a row has no entry a
    number is NaN and a text empty. What is none of these, or several, is in an array of objects.
    """

    @property
    def rows(self) -> int:
        return len(next(iter(self.values()), ()))

    def to_pandas(self) -> pandas.DataFrame:
        """The same as a data frame.

        Raises:
            RlrunError: pandas is not installed, or cannot be imported.
        """
        try:
            import pandas
        except ImportError as error:
            raise RlrunError(f"to_pandas() needs pandas: `pip install pandas` ({error})") from error
        return pandas.DataFrame(dict(self))

    def __repr__(self) -> str:
        names = [*self][:SHOWN] + ["…"] * (len(self) > SHOWN)
        return f"<{type(self).__name__}: {self.rows} rows, {len(self)} columns: {', '.join(names)}>"


class Runs(Table):
    """A row per run, in the order in which they were started.

    `run` is its directory, then come `state` (running, finished, failed, preempted, diverged or damaged), `env_steps`
    and `reason`, the values of its config by dotted key (`algo.learning_rate`; lists as text), and its results: the
    final and the best evaluation (`final_eval.mean`, `best_eval.std`, …) and the last value of every metric.
    """

    @cached_property
    def metrics(self) -> Table:
        """A row per line of every run's metrics.csv: `run`, `env_steps`, `rollout/ep_rew_mean`, …"""
        return columns(
            {name: _number(cell) for name, cell in line.items()} | {"run": run}
            for run in self.get("run", ())
            for line in _lines(RunDir(run))
        )


def runs(path: str | os.PathLike[str] = find.OUTPUTS) -> Runs:
    """All runs in a folder and the folders in it, of a sweep, or the one run that a word means (see `rlrun runs`).

    Nothing that a run's config names is imported, whoever made it.

    Raises:
        RlrunError: there is no such folder or run.
    """
    place = find.find(os.fspath(path))
    if not place.is_dir():
        raise RlrunError(f"{path}: there is no such folder")
    return Runs(columns(record(run) for run in find.under(RunDir.at(place).path)))


def record(run: RunDir) -> dict[str, Any]:
    """What the small files of a run say, flat; a damaged run says little."""
    try:
        status = run.read_status()
    except RlrunError as error:
        return {"run": str(run.path), "state": "damaged", "reason": str(error).partition("\n")[0]}
    told = {name: status.get(name) for name in ("state", "env_steps", "reason")}
    return {**_flat(_config(run)), **_flat(_summary(run)), "run": str(run.path), **told}


def columns(records: Iterable[Mapping[str, Any]]) -> Table:
    """Records of plain values as columns; what a record lacks counts as None.

    A group of values that some lack (`network: null`) is told by its values alone (`network.name`).
    """
    rows = list(records)
    names = dict.fromkeys(name for row in rows for name in row)
    groups = {name[:end] for name in names for end, letter in enumerate(name) if letter == "."}
    order = [*(name for name in FIRST if name in names), *(name for name in names if name not in {*FIRST, *groups})]
    return Table((name, column([row.get(name) for row in rows])) for name in order)


def column(values: Sequence[Any]) -> Array:
    """Plain values as an array of the narrowest of the types that `Table` names."""
    kinds = {type(value) for value in values if value is not None}
    complete = None not in values
    if kinds <= {str} and kinds:
        return np.array(["" if value is None else value for value in values])
    if kinds == {bool} and complete:
        return np.array(values)
    if kinds == {int} and complete and all(abs(value) < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float}:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    objects = np.empty(len(values), object)
    objects[:] = values
    return objects


def _config(run: RunDir) -> Any:
    with suppress(OSError, RlrunError, ValueError):
        data = plainyaml.load(files.read(run.config, LIMIT).decode())
        return older.config(data) if isinstance(data, dict) else {}
    return {}


def _summary(run: RunDir) -> Any:
    with suppress(OSError, RlrunError, ValueError, RecursionError):
        return json.loads(files.read(run.summary, LIMIT))
    return {}


def _lines(run: RunDir) -> list[dict[str, str]]:
    with suppress(OSError, RlrunError, ValueError, csv.Error):
        text = files.read(run.metrics_csv, LIMIT).decode()
        return [line for line in csv.DictReader(text.splitlines()) if None not in line]
    return []


def _number(cell: str | None) -> Any:
    """A cell as the number it is, None if it is empty, the text if it is none."""
    if not cell:
        return None
    with suppress(ValueError):
        return int(cell)
    with suppress(ValueError):
        return float(cell)
    return cell


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """All values by dotted key; lists, which no array has a type for, as text."""
    if isinstance(data, Mapping):
        parts = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in data.items()]
        return {key: value for part in parts for key, value in part.items()}
    return {prefix: json.dumps(data) if isinstance(data, list) else data} if prefix else {}
