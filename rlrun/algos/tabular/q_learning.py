"""Tabular Q-learning (Watkins & Dayan 1992, Machine Learning 8:279; Sutton & Barto 2018, section 6.5).

After every step, with the best that could follow and not what will be done:

    Q(s, a) <- Q(s, a) + lr * (r + gamma * max_a' Q(s', a') - Q(s, a))

Nothing follows a terminated step. After a truncated one s' is the true last observation, not the reset one.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlrun.algos.tabular.control import ControlConfig, ControlLearner, transitions
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Metrics, Progress, Rollout


@dataclass
class QLearningConfig(ControlConfig):
    """Tabular Q-learning."""

    name: str = "q_learning"  # registered name of the algorithm


@register(
    "algo",
    QLearningConfig,
    needs=Needs(action={"discrete"}, obs={"discrete"}),
    footprint=tables(1),
    weights=("q",),
)
class QLearning(ControlLearner):
    """Tabular Q-learning, off-policy, one update per step (Watkins & Dayan 1992)."""

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """One update per transition; each sees those before it."""
        errors = []
        for _, s, a, r, after, terminated, _ in transitions(rollout):
            target = r if terminated else r + self.gamma * self.highest(after)
            errors.append(self.correct(s, a, target))
        return self.metrics(errors)
