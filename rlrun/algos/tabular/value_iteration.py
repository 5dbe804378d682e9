"""Value iteration (Bellman 1957; Sutton & Barto 2018, section 4.4) on the environment's own model.

Sweeps of the optimality backup over all states at once, until no value moves by `tolerance` or more:

    Q(s, a) <- sum_{s', r} p(s', r | s, a) (r + gamma * max_a' Q(s', a'))

where nothing follows an end. With gamma 1 the values converge where no reward can be collected for ever; what is
played is then one of several equally good policies, see `Planner`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlrun.algos.algorithm import Kit
from rlrun.algos.tabular.planning import Planner
from rlrun.checks import Bounded, Count, Positive, Share
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Metrics, Progress, Rollout


@dataclass
class ValueIterationConfig(Bounded):
    """Value iteration."""

    name: str = "value_iteration"  # registered name of the algorithm
    gamma: Share = 0.99  # discount factor per step
    sweeps: Count = 1  # backups of all states after every env step
    tolerance: Positive = 1e-10  # planning is over when a sweep changes no value by as much


@register(
    "algo",
    ValueIterationConfig,
    needs=Needs(action={"discrete"}, obs={"discrete"}, model=True),
    footprint=tables(8),
)
class ValueIteration(Planner):
    """Plans on the environment's model by sweeps of Bellman's optimality equation (Bellman 1957)."""

    state = (*Planner.state, "sweeps", "residual")

    def __init__(self, cfg: ValueIterationConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.sweeps, self.residual = 0, math.inf  # made so far, and the largest change of a value in the last one

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """The sweeps that these env steps are worth, fewer at the end."""
        for _ in range(self.cfg.sweeps * rollout.reward.size):
            if self.residual < self.cfg.tolerance:
                break
            self._sweep()
        return {"residual": self.residual, "sweeps": self.sweeps}

    def _sweep(self) -> None:
        before = self.q.max(axis=1)
        self.q[:] = self.mdp.backup(before, self.cfg.gamma)
        self.improve()
        self.residual = float(np.abs(self.q.max(axis=1) - before).max())
        self.sweeps += 1
