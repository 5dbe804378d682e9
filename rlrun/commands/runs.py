"""`rlrun runs`: which runs there are, and how they stand."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rlrun import files
from rlrun.config.values import from_words
from rlrun.errors import ConfigError, RlrunError, printable
from rlrun.files import of_user
from rlrun.rundir import find
from rlrun.rundir.layout import RunDir
from rlrun.text import number

TOTAL = re.compile(r"^total_timesteps: (\d{1,18})$", re.MULTILINE)
LIMIT = 2**24  # bytes of a file that is looked into
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
HEAD = ("run", "state", "steps", "score", "age")


@dataclass
class RunsOptions:
    """List the runs under a folder, outputs/ if none is given; the newest comes last."""

    json: bool = False  # print one JSON array


@dataclass(frozen=True)
class Row:
    """How a run stands; None for what is not known, or not yet."""

    run: str  # its directory
    state: str  # running | finished | failed | preempted | diverged | damaged
    env_steps: int | None = None
    total_timesteps: int | None = None
    mean: float | None = None  # return of the final evaluation, or of the newest there is
    std: float | None = None
    started: str | None = None  # ISO 8601
    reason: str = ""  # why it is in its state


def show(words: Sequence[str]) -> int:
    """Print the table; a first word that is a folder, or no option, says where."""
    given = bool(words) and ("=" not in words[0] or of_user(words[0]).is_dir())
    folder = of_user(words[0]) if given else find.OUTPUTS
    options = from_words(RunsOptions, words[given:])
    if given and not folder.is_dir():
        raise ConfigError(
            "runs", f"there is no folder {folder}", "give one that holds runs; without one it is outputs/"
        )
    rows = [row(run) for run in find.under(folder)]
    if options.json:
        print(json.dumps([vars(row) for row in rows]))
    elif rows:
        print_table(rows)
    else:
        print(f"no runs under {folder}; start one: rlrun algo=dqn env=cartpole")
    return 0


def row(run: RunDir) -> Row:
    """What a run's small files say of it; a damaged one is a row as well."""
    try:
        status = run.read_status()
    except RlrunError as error:
        return Row(str(run.path), "damaged", reason=str(error).partition("\n")[0])
    score = _score(run)
    return Row(
        str(run.path),
        status["state"],
        status["env_steps"],
        _total(run),
        score.get("mean"),
        score.get("std"),
        status.get("started"),
        status.get("reason", ""),
    )


def print_table(rows: Sequence[Row]) -> None:
    """A line per run. On a terminal that is too narrow a name loses its beginning; in a pipe nothing is cut."""
    from rich.console import Console
    from rich.table import Table

    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(HEAD, *cells, strict=True)]
    console = Console(highlight=False, markup=False)
    if not sys.stdout.isatty():
        console.width = max(console.width, sum(widths) + 2 * len(widths))
    room = max(console.width - sum(widths[1:]) - 2 * len(widths[1:]), len("…_s0_abcd"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in HEAD:
        table.add_column(name, no_wrap=True, justify="left" if name in ("run", "state") else "right")
    for name, *others in cells:
        table.add_row(name if len(name) <= room else f"…{name[1 - room :]}", *others)
    console.print(table)


def _cells(row: Row) -> tuple[str, ...]:
    path = Path(row.run)
    name = path.relative_to(find.OUTPUTS) if path.is_relative_to(find.OUTPUTS) else path
    steps = "-" if row.env_steps is None else _count(row.env_steps)
    total = f"/{_count(row.total_timesteps)}" if row.total_timesteps else ""
    return printable(str(name)), row.state, steps + total, number(row.mean), _ago(row.started)


def _count(steps: int) -> str:
    """Steps in at most six characters: 950, 12.3k, 50k, 1.5M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if steps >= size:
            return f"{steps // (size // 10) / 10:g}{unit}"  # rounded down: 49,999 of 50,000 are not 50k
    return str(steps)


def _ago(started: str | None) -> str:
    try:
        seconds = max(time.time() - datetime.fromisoformat(started or "").timestamp(), 0)
    except (ValueError, OverflowError, OSError):
        return "-"
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f"{seconds // size:.0f} {unit}"


def _total(run: RunDir) -> int | None:
    """`total_timesteps` without the time that reading the whole config takes."""
    try:
        found = TOTAL.search(files.read(run.config, LIMIT).decode())
    except (OSError, RlrunError, UnicodeDecodeError):
        return None
    return int(found[1]) if found else None


def _finite(score: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in score.items() if math.isfinite(value)}


def _score(run: RunDir) -> dict[str, float]:
    """Mean and standard deviation of the final evaluation, or of the newest of a run that has not come so far."""
    with suppress(OSError, RlrunError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        final = json.loads(files.read(run.summary, LIMIT))["final_eval"]
        return _finite({name: float(final[name]) for name in ("mean", "std")})
    with suppress(OSError, RlrunError, ValueError, KeyError, IndexError):
        last = list(csv.DictReader(files.read(run.eval_csv, LIMIT).decode().splitlines()))[-1]
        return _finite({name: float(last[name]) for name in ("mean", "std")})
    return {}
