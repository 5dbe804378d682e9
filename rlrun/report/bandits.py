"""What a bandit leaves at its end: `arm_counts.csv`, the pulls of every arm, and `figures/bandit.png`, its curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrun import files
from rlrun.callbacks import Callback
from rlrun.report import curves
from rlrun.report.curves import Row
from rlrun.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rlrun.runner import Run

# title of a panel -> its curves: metric -> label
PANELS = {
    "regret per step": {"bandit/regret": "since the last row", "bandit/regret_moving_avg": "moving average"},
    "cumulative regret": {"bandit/cumulative_regret": ""},
    "reward per step": {"bandit/reward": "since the last row", "bandit/reward_moving_avg": "moving average"},
    "share of optimal pulls": {"bandit/optimal_share": ""},
}


class BanditReport(Callback):
    """Writes the report of a run whose environments told of regret; does nothing for others."""

    def on_end(self, run: Run) -> None:
        if "bandit/regret" not in run.logger.last:
            return
        write_counts(run.dir.path / "arm_counts.csv", run.source.state_dict()["envs"]["regret"]["pulls"])
        curves.save(run.dir, "bandit", draw)


def write_counts(path: Path, pulls: Array) -> None:
    """A line `problem,arm,pulls` for every arm, of pulls int [P, A]."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["problem", "arm", "pulls"])
    table.writerows([p, a, count] for p, arms in enumerate(pulls.tolist()) for a, count in enumerate(arms))
    files.replace(path, text.getvalue())


def draw(rows: Sequence[Row]) -> Figure:
    """Regret and reward over env steps."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if "bandit/regret" in row]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes: Any = figure.subplots(2, 2, sharex=True)
    steps = [row["env_steps"] for row in rows]
    for panel, (title, lines) in zip(axes.flat, PANELS.items(), strict=True):
        for (metric, label), width in zip(lines.items(), (1.0, 2.0), strict=False):
            panel.plot(steps, [row.get(metric) for row in rows], label=label, linewidth=width)
        panel.set_title(title)
        panel.grid(alpha=0.3)
        if len(lines) > 1:
            panel.legend()
    for panel in axes[1]:
        panel.set_xlabel("env steps")
    return figure
