"""Bayesian upper confidence bounds (Kaufmann, Cappé & Garivier 2012, AISTATS 22).

Pulls the arm whose posterior reaches highest, by one of two indices:

    std       mean + c * standard deviation of the posterior
    quantile  the paper's: the posterior's quantile at 1 - 1 / t, where t counts the pulls in this context, the coming
              one included; the paper's power of ln T, which it sets to 0 in practice, is left out

Ties are broken at random. Evaluation takes the highest posterior mean. The beliefs are those of beliefs.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun.agents.selectors import RandomArgmaxActionSelector
from rlrun.agents.table import TableAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits import beliefs
from rlrun.algos.bandits.bandit import BanditLearner
from rlrun.algos.bandits.beliefs import BeliefConfig
from rlrun.checks import NotNegative, OneOf
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Array


@dataclass
class BayesUCBConfig(BeliefConfig):
    """Bayesian upper confidence bounds."""

    name: str = "bayes_ucb"  # registered name of the algorithm
    # std (mean + confidence * standard deviation) | quantile (of the posterior, at 1 - 1/t)
    index: Annotated[str, OneOf("std", "quantile")] = "std"
    confidence: NotNegative = 3.0  # std: factor c on the standard deviation


@register("algo", BayesUCBConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=tables(6))
class BayesUCB(BanditLearner):
    """Bandit: the arm with the highest upper bound of its posterior (Kaufmann et al. 2012)."""

    def __init__(self, cfg: BayesUCBConfig, kit: Kit):
        self.belief, self.confidence = beliefs.make(cfg, kit.env), cfg.confidence
        super().__init__(cfg, kit, self.belief)
        if cfg.index == "quantile":
            beliefs.special_functions()  # refuse now rather than at the first pull
        index = self.quantiles if cfg.index == "quantile" else self.bounds
        self.agent = TableAgent(self.rows, self.belief.mean, RandomArgmaxActionSelector(kit.rng), index)

    def bounds(self, context: Array) -> Array:
        """mean + c * standard deviation [E, A] in contexts [E]."""
        return self.belief.mean[context] + self.confidence * self.belief.std(context)

    def quantiles(self, context: Array) -> Array:
        """Quantiles [E, A] at 1 - 1/t in contexts [E]."""
        t = 1 + np.add.reduce(self.belief.count[context], 1, keepdims=True)
        return self.belief.quantile(context, 1 - 1 / t)
