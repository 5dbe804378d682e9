"""Gradient bandit (Sutton & Barto 2018, section 2.8): preferences that follow the policy gradient.

The policy is a softmax of preferences, pi = softmax(H / temperature). After reward r of arm a (eq. 2.12):

    H(b) <- H(b) + alpha * (r - baseline) * (1{b = a} - pi(b))    for every arm b

where the baseline is the average of the context's rewards before this sweep, 0 at first. For temperature 1 that is a
step of size alpha along the gradient of the expected reward; for others the gradient's factor 1 / temperature is left
to alpha.

Where several environments show the same context in one sweep, their steps are added up, each of them taken at the
policy that chose, so that every one is an unbiased estimate. With many of them alpha should be smaller.

Evaluation takes the highest preference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlrun.agents.selectors import ProbabilityActionSelector
from rlrun.agents.table import TableAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits.bandit import BanditLearner, table_shape
from rlrun.checks import Bounded, Positive
from rlrun.footprint import tables
from rlrun.ops.distributions import softmax
from rlrun.registry import Needs, register
from rlrun.types import Array


@dataclass
class GradientBanditConfig(Bounded):
    """Gradient bandit."""

    name: str = "gradient_bandit"  # registered name of the algorithm
    learning_rate: Positive = 0.1  # alpha, size of a step of the preferences
    temperature: Positive = 1.0  # preferences are divided by it: below 1 the policy commits itself sooner
    baseline: bool = True  # compare rewards with the context's average so far; false = with 0


class Preferences:
    """Memory of preferences and of the rewards' average in every context.

    Args:
        shape: (S, A).
    """

    def __init__(self, cfg: GradientBanditConfig, shape: tuple[int, int]):
        self.learning_rate, self.temperature, self.baseline = cfg.learning_rate, cfg.temperature, cfg.baseline
        self.values = np.zeros(shape)  # H [S, A]
        self.count, self.total = np.zeros(shape[0], np.int64), np.zeros(shape[0])  # [S] rewards
        self.tables: Mapping[str, Array] = {"preferences": self.values, "count": self.count, "total": self.total}

    def probabilities(self, context: Array) -> Array:
        """pi [E, A] in contexts [E]."""
        return softmax(self.values[context] / self.temperature)

    def add(self, context: Array, arm: Array, reward: Array) -> None:
        """Take a step for every reward [E]."""
        advantage = reward - self.average(context) if self.baseline else reward
        direction = -self.probabilities(context)
        direction[np.arange(len(arm)), arm] += 1
        np.add.at(self.values, context, self.learning_rate * advantage[:, None] * direction)
        np.add.at(self.count, context, 1)
        np.add.at(self.total, context, reward)

    def average(self, context: Array) -> Array:
        """Average reward [E] so far in contexts [E]; 0 before the first."""
        return self.total[context] / np.maximum(self.count[context], 1)


@register("algo", GradientBanditConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=tables(3))
class GradientBandit(BanditLearner):
    """Bandit: a softmax of preferences that follow the policy gradient (Sutton & Barto 2018)."""

    def __init__(self, cfg: GradientBanditConfig, kit: Kit):
        self.preferences = Preferences(cfg, table_shape(kit.env))
        super().__init__(cfg, kit, self.preferences)
        self.agent = TableAgent(
            self.rows, self.preferences.values, ProbabilityActionSelector(kit.rng), self.preferences.probabilities
        )
