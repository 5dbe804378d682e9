"""The figure of a run's returns over env steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlrun.report.curves import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# label of a curve -> its metric, that of its spread, and how it is drawn
CURVES = {
    "training, last episodes": ("rollout/ep_rew_mean", "rollout/ep_rew_std", "-"),
    "evaluation": ("eval/mean_reward", "eval/std_reward", "o--"),
}


def draw(rows: Sequence[Row]) -> Figure:
    """Mean return of training episodes and of evaluations over env steps, one standard deviation around them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for label, (mean, spread, style) in CURVES.items():
        points = [(row["env_steps"], row[mean], row.get(spread) or 0.0) for row in rows if row.get(mean) is not None]
        if points:
            steps, means, spreads = zip(*points, strict=True)
            (line,) = axes.plot(steps, means, style, label=label, markersize=4)
            low, high = zip(*((m - s, m + s) for m, s in zip(means, spreads, strict=True)), strict=True)
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="env steps", ylabel="return")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
