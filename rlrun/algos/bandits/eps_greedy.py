"""Epsilon-greedy bandit with sample averages (Sutton & Barto 2018, sections 2.2 to 2.4).

With probability epsilon any arm, otherwise the one with the highest average so far, where 0 stands for an arm never
pulled; ties are broken at random.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlrun.agents.selectors import EpsilonGreedyActionSelector, RandomArgmaxActionSelector
from rlrun.agents.table import TableAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits.bandit import Averages, BanditLearner, table_shape
from rlrun.checks import Bounded, Share
from rlrun.footprint import tables
from rlrun.registry import Needs, register


@dataclass
class EpsGreedyConfig(Bounded):
    """Epsilon-greedy bandit."""

    name: str = "eps_greedy"  # registered name of the algorithm
    epsilon: Share = 0.05  # probability of a random arm


@register("algo", EpsGreedyConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=tables(4))
class EpsGreedy(BanditLearner):
    """Bandit: mostly the arm with the best average, sometimes any (Sutton & Barto 2018)."""

    def __init__(self, cfg: EpsGreedyConfig, kit: Kit):
        self.averages = Averages(table_shape(kit.env))
        super().__init__(cfg, kit, self.averages)
        selector = EpsilonGreedyActionSelector(cfg.epsilon, kit.rng, RandomArgmaxActionSelector(kit.rng))
        self.agent = TableAgent(self.rows, self.averages.mean, selector)
