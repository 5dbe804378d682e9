"""The end of a sweep as a table: jobs that differ in nothing but their seed are one row, the best first.

A score is the mean of the final evaluations over seeds, behind it the half-width of its 95 % confidence interval by
Student's t distribution: `t(n - 1) · s / √n` for n seeds whose scores have standard deviation s (n - 1 below the root).
One seed has none. It says how well the mean over all possible seeds is known, not how much runs differ.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlrun.rundir.layout import RunDir
from rlrun.rundir.sweep import Job, Outcome, Sweep, rounded
from rlrun.sweeps.board import brief
from rlrun.text import mean_and_std, number

TABLE = "sweep.csv"

# 97.5 % quantiles of Student's t distribution for 1, 2, … 30 degrees of freedom; above, see `half_width`
T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
Z = 1.959964  # of the normal distribution


@dataclass
class Group:
    """Jobs that differ in their seed only."""

    varied: dict[str, str]  # dotted key -> value, without the seed
    scores: list[float] = field(default_factory=list)  # of those that have finished
    jobs: int = 0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def name(self) -> str:
        return " ".join(f"{short(key)}={rounded(value)}" for key, value in self.varied.items()) or "all"


def groups(sweep: Sweep, outcomes: Iterable[tuple[Job, Outcome]]) -> list[Group]:
    """The groups of a sweep: environment by environment, the best of each first."""
    found: dict[tuple[str, ...], Group] = {}
    keys = [key for key in sweep.keys if key != "seed"]
    for job, outcome in outcomes:
        varied = {key: job.varied[key] for key in keys if key in job.varied}
        group = found.setdefault(tuple(f"{k}={v}" for k, v in varied.items()), Group(varied))
        group.jobs += 1
        if math.isfinite(outcome.mean):
            group.scores.append(outcome.mean)
    return sorted(found.values(), key=lambda group: (environment(group), not group.scores, -_or_zero(group.mean)))


def environment(group: Group) -> tuple[str, ...]:
    """What scores have to share to be compared."""
    return tuple(value for key, value in group.varied.items() if key in ("env", "env.id"))


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of a mean; NaN of fewer than two values."""
    freedom = len(values) - 1
    if freedom < 1:
        return math.nan
    if freedom <= len(T):
        t = T[freedom - 1]
    else:  # the first terms of the expansion around the normal quantile; exact to three digits from here on
        t = Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
    return t * statistics.stdev(values) / math.sqrt(len(values))


def write_csv(sweep: Sweep, outcomes: Iterable[tuple[Job, Outcome]]) -> Path:
    """`sweep.csv` beside the jobs: a row for each."""
    path = sweep.path / TABLE
    text = io.StringIO()
    keys = [key for key in sweep.keys if key != "seed"]
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["number", *keys, "seed", "state", "mean", "std", "env_steps", "seconds", "directory", "reason"])
    for job, outcome in outcomes:
        varied = [*(job.varied.get(key, "") for key in keys), job.seed]
        numbers = [_cell(outcome.mean), _cell(outcome.std), outcome.env_steps, _cell(outcome.seconds, 1)]
        reason = " ".join(outcome.reason.split())
        rows.writerow([job.number, *varied, outcome.state, *numbers, job.folder, reason])
    RunDir(sweep.path).write_text(path, text.getvalue())
    return path


def print_table(sweep: Sweep, outcomes: Sequence[tuple[Job, Outcome]]) -> None:
    """The groups by score, then what has become of jobs that have not finished."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table(box=box.SIMPLE, title=str(sweep.path), title_justify="left", pad_edge=False)
    table.add_column("jobs that differ in", overflow="fold")
    for name in ("final evaluation", "seeds", ""):
        table.add_column(name, no_wrap=True, justify="right" if name == "seeds" else "left")
    found = groups(sweep, outcomes)
    for group in found:
        means = [other.mean for other in found if other.scores and environment(other) == environment(group)]
        best = bool(group.scores) and group.mean == max(means) > min(means)
        seeds = f"{len(group.scores)}" if len(group.scores) == group.jobs else f"{len(group.scores)} of {group.jobs}"
        table.add_row(group.name, score(group.scores), seeds, "best" if best else "")
    console.print(table)
    for job, outcome in outcomes:
        if outcome.state != "finished":
            reason = brief(outcome.reason)
            console.print(f"{job.folder}: {outcome.state}" + (f": {reason}" if reason else ""), soft_wrap=True)


def score(values: Sequence[float]) -> str:
    if not values:
        return "-"
    width = half_width(values)
    mean = statistics.fmean(values)
    return number(mean) if math.isnan(width) else mean_and_std(mean, width)


def short(key: str) -> str:
    """The end of a key, `algo.learning_rate` as `learning_rate`."""
    return key.rpartition(".")[2]


def _cell(value: float, digits: int | None = None) -> float | str:
    """A number as written, nothing for NaN."""
    return "" if math.isnan(value) else value if digits is None else round(value, digits)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
