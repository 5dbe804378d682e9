"""Scores of a list of sweeps: a table, learning curves, and the numbers behind them.

    scripts/benchmark scripts/benchmarks/classic.yaml [--only WORD] [--jobs 2] [--report]

A list says of each line by which words it is trained, and over how many seeds, or which:

    seeds: 5
    lines:
      dqn-cartpole: algo=dqn env=cartpole

A line is a sweep over its seeds, `rlrun -m algo=dqn env=cartpole seed=0,1,2,3,4`, in outputs/benchmark/LIST/LINE. A run
that exists is not run again: what finished is read, what was interrupted goes on, what failed is named, and only the
seeds that are missing are started. Ctrl-C ends it; `--report` starts nothing. Into scripts/results go

    LIST.csv    experiment,environment,seed,metric,step,value: all that the others are made of
    LIST.md     mean, interquartile mean and its 95 % bootstrap interval of the final evaluations' means over seeds
                (Agarwal et al. 2021, arXiv:2108.13264), env steps, wall seconds, and the command of each line
    LIST.png    evaluations over env steps, or returns of training where there are none: the mean over seeds, and around
                it all of them

A line that is in LIST.csv and has no runs here stays there as it is.
"""

from __future__ import annotations

import argparse
import csv
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from rlrun import cli
from rlrun.config.words import parse, readable
from rlrun.errors import RlrunError
from rlrun.rundir.layout import RunDir
from rlrun.rundir.sweep import RECORD, Outcome, Sweep
from rlrun.text import clock, number

RESULTS = Path(__file__).parent / "results"
RUNS = Path("outputs/benchmark")
SCORE, SECONDS = "final_eval/mean", "wall_seconds"
CURVES = {"eval.csv": ("mean", "eval/mean_reward"), "metrics.csv": ("rollout/ep_rew_mean", "rollout/ep_rew_mean")}
Curve = list[tuple[int, float]]  # env steps and values
POINTS = 100  # of a curve are kept
OPEN = {"not started", "preempted", "running"}  # states of runs that go on
STOPPED = (75, 130)  # exit codes after a signal
OURS = ("seed=", "hydra.", "sweep.")  # words that a line is not to say
NAME = re.compile(r"\w[\w.+-]*")
RESAMPLES = 10_000  # of the bootstrap


class Row(NamedTuple):
    """One number of one run."""

    experiment: str
    environment: str
    seed: int
    metric: str
    step: int
    value: float


@dataclass
class Line:
    """A sweep over seeds."""

    name: str
    words: list[str]
    seeds: list[int]
    folder: Path  # of its sweeps

    @property
    def command(self) -> str:
        """What trains all of it, wherever one likes."""
        return self.sweep(self.seeds)

    def sweep(self, seeds: Sequence[int], *more: str) -> str:
        return shlex.join(["rlrun", "-m", *self.words, f"seed={','.join(map(str, seeds))}", *more])

    def sweeps(self) -> list[Sweep]:
        """Those that there are; RlrunError if one was trained by other words."""
        found = [Sweep.read(path.parent) for path in sorted(self.folder.glob(f"*/{RECORD}"))]
        for sweep in found:
            words = [
                word for word in shlex.split(sweep.command)[2:] if not word.startswith(("seed=", "hydra.", "sweep."))
            ]
            if words != self.words:
                raise RlrunError(
                    f"{sweep.path} was trained by other words: {sweep.command}\n"
                    f"give the line {self.name} another name, or remove it"
                )
        return found

    def train(self, jobs: int) -> int:
        """Complete it; returns the exit code of what was run, 1 if a run that exists has failed."""
        code, known = 0, set()
        for sweep in self.sweeps():
            known |= {job.seed for job in sweep.jobs}
            states = [outcome.state for _, outcome in sweep.outcomes()]
            if OPEN & {*states}:
                code = max(code, cli.main(["resume", str(sweep.path), f"sweep.jobs={jobs}"]))
                if code in STOPPED:
                    return code
            elif failed := len(states) - states.count("finished"):
                print(f"{failed} of {len(states)} have failed: rlrun resume {sweep.path} retry=failed", file=sys.stderr)
                code = max(code, 1)
        missing = [seed for seed in self.seeds if seed not in known]
        if not missing:
            return code
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / f"seeds_{missing[0]}_{missing[-1]}"
        while place.exists():  # and nothing in it, or its seeds were known
            place = place.with_name(f"{place.name}_more")
        command = self.sweep(missing, f"hydra.sweep.dir={place}", f"sweep.jobs={jobs}")
        print(command, flush=True)
        return max(code, cli.main(shlex.split(command)[1:]))

    def rows(self) -> Iterator[Row]:
        """All numbers of the runs that finished."""
        for sweep in self.sweeps():
            for job, outcome in sweep.outcomes():
                if outcome.state == "finished" and job.seed in self.seeds:
                    yield from self._rows_of(sweep.run(job), job.seed, outcome)

    def _rows_of(self, run: RunDir, seed: int, outcome: Outcome) -> Iterator[Row]:
        environment = str(yaml.safe_load(run.config.read_text())["env"].get("id", self.name))
        for name, (column, metric) in CURVES.items():
            for step, value in curve(run.path / name, column):
                yield Row(self.name, environment, seed, metric, step, value)
        yield Row(self.name, environment, seed, SECONDS, outcome.env_steps, round(outcome.seconds, 1))
        if np.isfinite(outcome.mean):  # else it was not evaluated
            yield Row(self.name, environment, seed, SCORE, outcome.env_steps, outcome.mean)


def read_list(path: Path) -> list[Line]:
    """The lines of a list; RlrunError if it is none."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RlrunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    match found:
        case {"seeds": int(seeds), "lines": dict(lines)} if seeds > 0 and seeds is not True and lines:
            return [line_of(path, name, words, list(range(seeds))) for name, words in lines.items()]
        case {"seeds": [*seeds], "lines": dict(lines)} if is_set(seeds) and lines:
            return [line_of(path, name, words, seeds) for name, words in lines.items()]
    raise RlrunError(
        f"{path} is no list: it says `seeds: 5` or `seeds: [1, 2]`, and `lines:`, each `name: algo=... env=...`"
    )


def is_set(seeds: Sequence[Any]) -> bool:
    """Whether they are whole numbers, and none is there twice."""
    return bool(seeds) and all(type(seed) is int and seed >= 0 for seed in seeds) and len({*seeds}) == len(seeds)


def line_of(path: Path, name: Any, words: Any, seeds: list[int]) -> Line:
    """A line of a list; RlrunError if it cannot be one."""
    where = f"{path}, line {name}"
    if not NAME.fullmatch(str(name)):
        raise RlrunError(f"{where}: a name is of letters, digits and - _ . +, as a folder is called by it")
    try:
        split = shlex.split(words) if isinstance(words, str) else []
    except ValueError as error:
        raise RlrunError(f"{where}: {error}") from error
    if not split:
        raise RlrunError(f"{where}: there are no words such as algo=dqn env=cartpole")
    for word in split:
        if word.startswith(OURS):
            raise RlrunError(f"{where}: {word} cannot stand in a line, as it is said of all of them\nleave it out")
        if parse(readable(word, sweep=True)).is_sweep_override():
            raise RlrunError(f"{where}: {word} makes several of it\nwrite a line for each")
    return Line(str(name), split, seeds, RUNS / path.stem / str(name))


def curve(path: Path, column: str) -> Curve:
    """Env steps and values of a column, at most `POINTS` of them and always the last."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        found = {int(row["env_steps"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}
    points = list(found.items())
    kept = np.unique(np.linspace(0, len(points) - 1, min(POINTS, len(points))).round().astype(int))
    return [points[i] for i in kept.tolist()]


def read_rows(path: Path) -> list[Row]:
    """What an earlier call wrote; [] if there was none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row(experiment, environment, int(seed), metric, int(step), float(value))
            for experiment, environment, seed, metric, step, value in list(csv.reader(file))[1:]
        ]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


def iqm(values: Any, axis: int = -1) -> Any:
    """The mean of the middle half of the values."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def interval(values: Sequence[float]) -> str:
    """95 % bootstrap interval of the interquartile mean over seeds; of one seed there is none."""
    from scipy.stats import bootstrap

    if len(values) < 2:
        return "-"
    found = bootstrap(
        (np.array(values),), iqm, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return f"{number(found.low)} to {number(found.high)}"


def markdown(lines: Sequence[Line], rows: Sequence[Row]) -> str:
    """The table of the lines that have scores, and the commands that train them."""
    table = [
        ["experiment", "environment", "seeds", "mean", "IQM", "95 % interval of it", "env steps", "wall time of one"]
    ]
    table += [["---"] * 2 + ["---:"] * 6]
    commands = []
    for line in lines:
        own = [row for row in rows if row.experiment == line.name]
        scores, seconds = ([row for row in own if row.metric == metric] for metric in (SCORE, SECONDS))
        if not scores:
            continue
        values = [row.value for row in scores]
        seeds = f"{len(scores)}" if len(scores) == len(line.seeds) else f"{len(scores)} of {len(line.seeds)}"
        found = [number(float(np.mean(values))), number(float(iqm(values))), interval(values)]
        steps, mean_seconds = f"{scores[0].step:,}", clock(float(np.mean([row.value for row in seconds])))
        table.append([line.name, scores[0].environment, seeds, *found, steps, mean_seconds])
        commands.append(line.command)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return "\n".join([text, "", "```", *commands, "```", ""])


def curves(rows: Iterable[Row]) -> dict[str, dict[str, list[Curve]]]:
    """Environment -> experiment -> a curve of each seed: its evaluations, of training where there are but a few."""
    runs: dict[tuple[str, str, int], dict[str, Curve]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        runs[row.environment, row.experiment, row.seed][row.metric].append((row.step, row.value))
    found: dict[str, dict[str, list[Curve]]] = defaultdict(lambda: defaultdict(list))
    for (environment, experiment, _), told in runs.items():
        evaluations, training = (told.get(metric, []) for _, metric in CURVES.values())
        if shown := evaluations if len(evaluations) > 2 or not training else training:
            found[environment][experiment].append(shown)
    return found


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each environment, a line for each experiment; ImportError without matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = sorted(curves(rows).items())
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    for axes, (environment, experiments) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for experiment, seeds in experiments.items():
            steps = np.linspace(max(seed[0][0] for seed in seeds), max(seed[-1][0] for seed in seeds), POINTS)
            values = [np.interp(steps, [at for at, _ in seed], [value for _, value in seed]) for seed in seeds]
            (line,) = axes.plot(steps, np.mean(values, 0), label=f"{experiment}, seeds: {len(seeds)}")
            low, high = np.min(values, 0), np.max(values, 0)
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(title=environment, xlabel="env steps", ylabel="return")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=80)


def options(words: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="the YAML file")
    parser.add_argument("--only", default="", metavar="WORD", help="lines that have this in their name")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--report", action="store_true", help="run nothing")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Returns 0, 1 if a run has not finished, 2 if the list is none, 75 or 130 if a signal ended it."""
    given, code = options(words), 0
    try:
        lines = read_list(given.list)
        chosen = [line for line in lines if given.only in line.name]
        if not chosen:
            raise RlrunError(f"no line has {given.only} in its name: {', '.join(line.name for line in lines)}")
        for line in chosen if not given.report else ():
            code = max(code, line.train(given.jobs))
            if code in STOPPED:
                return code
        new = [row for line in lines for row in line.rows()]
    except RlrunError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    numbers, table, figure = (RESULTS / f"{given.list.stem}.{kind}" for kind in ("csv", "md", "png"))
    names, here = {line.name for line in lines}, {row.experiment for row in new}
    rows = sorted([row for row in read_rows(numbers) if row.experiment in names - here] + new)
    if not rows:
        print("benchmark: there are no scores yet", file=sys.stderr)
        return code or 1
    write_rows(numbers, rows)
    text = markdown(lines, rows)
    table.write_text(text)
    print(text, numbers, table, sep="\n")
    try:
        draw(rows, figure)
        print(figure)
    except ImportError:
        print("no figure: matplotlib is not installed; get it with `pip install 'rlrun[plot]'`", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
