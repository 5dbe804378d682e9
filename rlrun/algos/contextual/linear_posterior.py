"""Thompson sampling on linear models (Riquelme, Tucker & Snoek 2018, arXiv:1802.09127, section 3.1, "linear").

Every arm's reward is linear in the context [x, 1], with unknown weights beta and noise sigma^2. After every reward the
posterior of its arm is updated exactly (see regression.py); then sigma^2 and beta are drawn for every arm and the
arm with the highest x . beta is played. Evaluation plays the posterior's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.linear import Features, LinearLearner, footprint
from rlrun.algos.contextual.regression import LinearRegressions
from rlrun.checks import Bounded, Natural, Positive
from rlrun.registry import Needs, register


@dataclass
class LinearPosteriorConfig(Bounded):
    """Thompson sampling on linear models."""

    name: str = "linear_posterior"  # registered name of the algorithm
    init_pulls: Natural = 3  # how often every arm is played first, in turn
    lambda_prior: Positive = 0.25  # precision of the weights' prior: the larger, the closer to 0 they start
    a0: Positive = 6.0  # shape of the prior of the noise variance, whose mean is b0 / (a0 - 1)
    b0: Positive = 6.0  # scale of the prior of the noise variance


@register("algo", LinearPosteriorConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=footprint)
class LinearPosterior(LinearLearner):
    """Contextual bandit: Thompson sampling on exact Bayesian linear regressions (Riquelme et al. 2018)."""

    def __init__(self, cfg: LinearPosteriorConfig, kit: Kit):
        size = Features(kit.env.obs_space).size
        regressions = LinearRegressions(kit.env.num_actions, size, cfg.lambda_prior, cfg.a0, cfg.b0)
        super().__init__(cfg, kit, regressions, regressions.sample)
