"""Compare the bandits of a sweep.

    python scripts/bandit_report.py FOLDER...

Reads every finished run under the folders, for instance of

    rlrun -m 'algo=ucb,thompson' 'env=bandit/bernoulli,bandit/gaussian' 'seed=range(5)'

and prints the regret per step of every agent (lines) on every environment (columns): mean ± standard deviation over
the seeds. Writes the same as `bandits.csv` and, if matplotlib is there, `bandits.png` into the first folder.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

METRIC = "bandit/regret_per_step"
Table = dict[str, dict[str, list[float]]]  # agent -> environment -> regret per step of each seed


def read(folders: Sequence[Path]) -> Table:
    """The regret of all finished runs under some folders."""
    table: Table = defaultdict(lambda: defaultdict(list))
    for file in sorted(file for folder in folders for file in folder.rglob("summary.json")):
        summary = json.loads(file.read_text())
        if summary["state"] == "finished" and METRIC in summary:
            config = yaml.safe_load((file.parent / "config.yaml").read_text())
            overrides = yaml.safe_load((file.parent / "overrides.yaml").read_text())
            table[agent(config, overrides)][config["env"]["id"]].append(summary[METRIC])
    return table


def agent(config: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """An algorithm with the options it was given: `eps_greedy epsilon=0.1`."""
    options = [word.removeprefix("algo.") for word in overrides if word.startswith("algo.")]
    return " ".join([config["algo"]["name"], *options])


def environments(table: Table) -> list[str]:
    return sorted({env for results in table.values() for env in results})


def markdown(table: Table) -> str:
    """A table of means and deviations, the agent with the least regret on average first."""
    envs = environments(table)
    lines = [["agent", *envs], ["---"] + ["---:"] * len(envs)]
    lines += [[name, *(cell(table[name].get(env, [])) for env in envs)] for name in ranked(table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ranked(table: Table) -> list[str]:
    def mean(name: str) -> float:
        return statistics.mean(value for values in table[name].values() for value in values)

    return sorted(table, key=mean)


def cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.pstdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def write_csv(table: Table, path: Path) -> None:
    """A line per agent and environment."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["agent", "environment", "seeds", "mean", "std"])
        for name in ranked(table):
            for env, values in sorted(table[name].items()):
                writer.writerow([name, env, len(values), statistics.mean(values), statistics.pstdev(values)])


def draw(table: Table, path: Path) -> None:
    """Bars of regret per step, one panel per environment; ImportError without matplotlib."""
    from matplotlib.figure import Figure

    envs, names = environments(table), ranked(table)[::-1]
    figure = Figure(figsize=(1.5 + 3 * len(envs), 1.2 + 0.35 * len(names)), layout="constrained")
    for panel, env in zip(figure.subplots(1, len(envs), sharey=True, squeeze=False)[0], envs, strict=True):
        found = {name: table[name][env] for name in names if env in table[name]}
        means, stds = ([f(values) for values in found.values()] for f in (statistics.mean, statistics.pstdev))
        panel.barh(list(found), means, xerr=stds)
        panel.set(title=env, xlabel="regret per step")
    figure.savefig(path)


def main(words: Sequence[str]) -> int:
    folders = [Path(word) for word in words]
    table = read(folders)
    if not table:
        print("usage: python scripts/bandit_report.py FOLDER...: no finished bandit run found there", file=sys.stderr)
        return 2
    print("regret per step, less is better; mean and spread over seeds\n", markdown(table), "", sep="\n")
    write_csv(table, folders[0] / "bandits.csv")
    print(folders[0] / "bandits.csv")
    try:
        draw(table, folders[0] / "bandits.png")
        print(folders[0] / "bandits.png")
    except ImportError:
        print("no figure: matplotlib is not installed; get it with `pip install 'rlrun[plot]'`", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
