"""KL-UCB (Garivier & Cappé 2011, arXiv:1102.2490): upper confidence bounds as tight as the rewards' kind allows.

Pulls the arm with the highest

    u_a = max { q : n_a * d(Q(a), q) <= ln t + c ln ln t }

where t counts the pulls in this context, n_a those of the arm and d is a Kullback-Leibler divergence:

    bernoulli  rewards in [0, 1]           d(p, q) = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q))
    gaussian   rewards of deviation `std`  d(p, q) = (p - q)^2 / (2 std^2)

Arms never pulled come first; ties are broken at random. Evaluation takes the highest average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun.agents.selectors import RandomArgmaxActionSelector
from rlrun.agents.table import TableAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits.bandit import Averages, BanditLearner, table_shape, unit_rewards
from rlrun.checks import Bounded, NotNegative, OneOf
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Array, Metrics, Progress, Rollout

EPS = 1e-16  # stands for a probability of 0, where logarithms end
NEWTON_STEPS = 8  # enough for double precision


@dataclass
class KLUCBConfig(Bounded):
    """KL-UCB."""

    name: str = "kl_ucb"  # registered name of the algorithm
    # bernoulli (rewards in [0, 1]) | gaussian (any rewards, noise of deviation `std`)
    divergence: Annotated[str, OneOf("bernoulli", "gaussian")] = "bernoulli"
    std: NotNegative = 1.0  # gaussian: standard deviation of a reward around its arm's mean
    c: NotNegative = 0.0  # factor on ln ln t; the analysis takes 3, the authors recommend 0 in practice


@register("algo", KLUCBConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=tables(4))
class KLUCB(BanditLearner):
    """Bandit: the arm with the highest Kullback-Leibler upper confidence bound (Garivier & Cappé 2011)."""

    def __init__(self, cfg: KLUCBConfig, kit: Kit):
        self.averages = Averages(table_shape(kit.env))
        super().__init__(cfg, kit, self.averages)
        self.bernoulli = cfg.divergence == "bernoulli"
        if self.bernoulli:
            self.range = unit_rewards(kit.env, "algo.divergence", "bernoulli", "write algo.divergence=gaussian")
        self.agent = TableAgent(self.rows, self.averages.mean, RandomArgmaxActionSelector(kit.rng), self.bounds)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        if self.bernoulli:
            self.range.scaled(rollout.reward)
        return super().learn(rollout, progress)

    def bounds(self, context: Array) -> Array:
        """Upper confidence bounds [E, A] of the arms in contexts [E]; infinite for an arm never pulled."""
        count, mean = self.averages.count[context], self.averages.mean[context]
        log_t = np.log(np.maximum(np.add.reduce(count, 1, keepdims=True), 1))
        budget = (log_t + self.cfg.c * np.log(np.maximum(log_t, 1))) / np.maximum(count, 1)
        upper = bernoulli_bound(mean, budget) if self.bernoulli else mean + self.cfg.std * np.sqrt(2 * budget)
        return np.where(count == 0, np.inf, upper)


def bernoulli_bound(p: Array, budget: Array) -> Array:
    """The largest q in [p, 1] with d(p, q) <= budget, for p in [0, 1] and budget >= 0 (of the same shape).

    Newton's method in x = -ln(1 - q), where d is convex and, far out, almost a straight line: started above the root it
    comes down to it and never passes it. Two bounds from above are known: Pinsker's inequality, q <= p + sqrt(budget /
    2), and what remains of d(p, q) <= budget without its term -p ln q, which is positive: (1 - p) x <= budget +
    entropy(p).
    """
    p = np.clip(p, EPS, 1 - EPS)
    log_p, log_1_p = np.log(p), np.log1p(-p)
    pinsker = np.minimum(p + np.sqrt(budget / 2), 1 - EPS)
    x = np.minimum((budget - p * log_p) / (1 - p) - log_1_p, -np.log1p(-pinsker))
    for _ in range(NEWTON_STEPS):
        q = -np.expm1(-x)
        excess = p * (log_p - np.log(q)) + (1 - p) * (log_1_p + x) - budget
        x = np.maximum(x - np.maximum(excess, 0) * q / np.maximum(q - p, EPS), -log_1_p)
    return -np.expm1(-x)
