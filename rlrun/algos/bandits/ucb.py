"""Upper confidence bounds, UCB1 (Auer, Cesa-Bianchi & Fischer 2002, Machine Learning 47:235).

Pulls the arm that could be best:

    argmax_a Q(a) + c * sqrt(2 ln t / n_a)

where t counts the pulls in this context and n_a those of the arm. Arms never pulled come first; ties are broken at
random. Evaluation takes the highest average. Sutton & Barto 2018 (eq. 2.10) leave out the 2: their c is ours * sqrt(2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlrun.agents.selectors import RandomArgmaxActionSelector
from rlrun.agents.table import TableAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits.bandit import Averages, BanditLearner, table_shape
from rlrun.checks import Bounded, NotNegative
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Array


@dataclass
class UCBConfig(Bounded):
    """Upper confidence bounds."""

    name: str = "ucb"  # registered name of the algorithm
    confidence: NotNegative = 1.0  # factor c on the width of the bounds


@register("algo", UCBConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=tables(4))
class UCB(BanditLearner):
    """Bandit: the arm with the highest upper confidence bound, UCB1 (Auer et al. 2002)."""

    def __init__(self, cfg: UCBConfig, kit: Kit):
        self.averages = Averages(table_shape(kit.env))
        super().__init__(cfg, kit, self.averages)
        self.confidence = cfg.confidence
        self.agent = TableAgent(self.rows, self.averages.mean, RandomArgmaxActionSelector(kit.rng), self.bounds)

    def bounds(self, context: Array) -> Array:
        """Upper confidence bounds [E, A] of the arms in contexts [E]; infinite for an arm never pulled."""
        count = self.averages.count[context]
        pulls = np.maximum(np.add.reduce(count, 1, keepdims=True), 1)
        width = self.confidence * np.sqrt(2 * np.log(pulls) / np.maximum(count, 1))
        return np.where(count == 0, np.inf, self.averages.mean[context] + width)
