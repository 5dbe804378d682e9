"""What a tabular run leaves at its end: `figures/returns.png`, its returns over env steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlrun import registry
from rlrun.report import curves
from rlrun.report.returns import draw
from rlrun.run.callbacks.callback import Callback

if TYPE_CHECKING:
    from rlrun.run.run import Run


class ReturnsFigure(Callback):
    """Draws the figure of a run whose algorithm keeps a table, bandits aside; does nothing for others."""

    def on_end(self, run: Run) -> None:
        if run.algo.table() is not None and not registry.get("algo", run.cfg.algo.name).needs.one_step:
            curves.save(run.dir, "returns", draw)
