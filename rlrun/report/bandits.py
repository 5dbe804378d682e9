"""The figure of a bandit: regret and reward over env steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlrun.report.curves import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# title of a panel -> its curves: metric -> label
PANELS = {
    "regret per step": {"bandit/regret": "since the last row", "bandit/regret_moving_avg": "moving average"},
    "cumulative regret": {"bandit/cumulative_regret": ""},
    "reward per step": {"bandit/reward": "since the last row", "bandit/reward_moving_avg": "moving average"},
    "share of optimal pulls": {"bandit/optimal_share": ""},
}


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
