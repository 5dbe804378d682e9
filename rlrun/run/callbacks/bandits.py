"""What a bandit leaves at its end: `arm_counts.csv`, the pulls of every arm, and `figures/bandit.png`, its curves."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from rlrun import files
from rlrun.report import curves
from rlrun.report.bandits import draw
from rlrun.run.callbacks.callback import Callback
from rlrun.types import Array

if TYPE_CHECKING:
    from rlrun.run.run import Run


class BanditReport(Callback):
    """Writes the report of a run whose environments told of regret; does nothing for others."""

    def on_end(self, run: Run) -> None:
        pulls = run.environments.arm_counts()
        if pulls is None:
            return
        write_counts(run.dir.path / "arm_counts.csv", pulls)
        curves.save(run.dir, "bandit", draw)


def write_counts(path: Path, pulls: Array) -> None:
    """A line `problem,arm,pulls` for every arm, of pulls int [P, A]."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["problem", "arm", "pulls"])
    table.writerows([p, a, count] for p, arms in enumerate(pulls.tolist()) for a, count in enumerate(arms))
    files.replace(path, text.getvalue())
