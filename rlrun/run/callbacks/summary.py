"""`summary.json` at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.evaluate import Evaluate

if TYPE_CHECKING:
    from rlrun.run.run import Run


class Summary(Callback):
    """Writes `summary.json`: the last value of every metric, the final and the best evaluation, and how it ended."""

    def __init__(self, evaluation: Evaluate):
        self._evaluation = evaluation

    def write(self, run: Run, state: str, env_steps: int) -> dict[str, Any]:
        """Write it, and return what was written."""
        summary = {
            **run.logger.last,
            "final_eval": self._evaluation.final,
            "best_eval": self._evaluation.best,
            "env_steps": env_steps,
            "wall_seconds": run.progress.wall_seconds,
            "state": state,
        }
        run.dir.write_json(run.dir.summary, summary)
        return summary
