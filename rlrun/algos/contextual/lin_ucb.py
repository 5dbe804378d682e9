"""LinUCB with disjoint linear models (Li, Chu, Langford & Schapire 2010, arXiv:1003.0146, algorithm 1).

With A = X'X + I and theta = A^-1 X'y of the observations of an arm, plays

    argmax_a  x . theta_a + alpha sqrt(x' A_a^-1 x)

Differs from the paper: a constant 1 is appended to the context, so that an arm has an intercept, and the 1 of the ridge
penalty is an option. Draws nothing. Evaluation plays the highest x . theta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.linear import Features, LinearLearner, footprint
from rlrun.algos.contextual.regression import LinearRegressions
from rlrun.checks import Bounded, Natural, NotNegative, Positive
from rlrun.registry import Needs, register
from rlrun.types import Array


@dataclass
class LinUCBConfig(Bounded):
    """LinUCB with disjoint linear models."""

    name: str = "lin_ucb"  # registered name of the algorithm
    init_pulls: Natural = 0  # how often every arm is played first, in turn; the bounds of new arms are wide anyway
    alpha: NotNegative = 1.0  # width of the upper confidence bounds in standard deviations, if rewards have noise 1
    ridge: Positive = 1.0  # weight of the penalty on the squared parameters


@register("algo", LinUCBConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=footprint)
class LinUCB(LinearLearner):
    """Contextual bandit: the arm with the highest linear upper confidence bound (Li et al. 2010)."""

    def __init__(self, cfg: LinUCBConfig, kit: Kit):
        regressions = LinearRegressions(kit.env.num_actions, Features(kit.env.obs_space).size, cfg.ridge)
        self.alpha = cfg.alpha
        super().__init__(cfg, kit, regressions, self.bounds)

    def bounds(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        """Upper confidence bounds [E, K] in contexts with features [E, D]."""
        return self.regressions.predict(x) + self.alpha * self.regressions.width(x)
