"""Bayesian linear regression on a network's features (Riquelme et al. 2018, arXiv:1802.09127, section 3.2).

Source of the idea: Snoek et al. 2015, arXiv:1502.05700. A network learns to predict rewards; its last hidden layer and
a constant 1 are the features of one exact Bayesian regression per arm, whose posterior is sampled as in
linear_posterior.
A reward enters the posterior of its arm at once. When the network has moved, the features of everything observed so
far have moved too: they are computed anew, and the posteriors from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.agent import ContextualAgent
from rlrun.algos.contextual.linear import with_intercept
from rlrun.algos.contextual.neural import DropoutRate, NeuralConfig, NeuralLearner
from rlrun.algos.contextual.regression import LinearRegressions
from rlrun.checks import Count, Positive
from rlrun.errors import ConfigError
from rlrun.footprint import TRAINED, q_network
from rlrun.registry import Needs, register
from rlrun.types import Array, HeadSpec, Metrics, Progress, Rollout


@dataclass
class NeuralLinearConfig(NeuralConfig):
    """Bayesian linear regression on a network's features."""

    name: str = "neural_linear"  # registered name of the algorithm
    nn_update_ratio: Count = 2  # the network is trained in every so many-th round
    lambda_prior: Positive = 0.25  # precision of the weights' prior: the larger, the closer to 0 they start
    a0: Positive = 3.0  # shape of the prior of the noise variance, whose mean is b0 / (a0 - 1)
    b0: Positive = 3.0  # scale of the prior of the noise variance
    dropout: DropoutRate = 0.0  # share of the hidden units that are dropped in training
    dropout_when_acting: bool = False  # drop units while exploring, too


@register(
    "algo",
    NeuralLinearConfig,
    needs=Needs(action={"discrete"}, one_step=True),
    network="bandit_mlp",
    footprint=q_network(TRAINED),
    weights=("network",),
)
class NeuralLinear(NeuralLearner):
    """Contextual bandit: Thompson sampling on a network's last hidden layer (Riquelme et al. 2018)."""

    cfg: NeuralLinearConfig
    state = (*NeuralLearner.state, "regressions", "round")

    def __init__(self, cfg: NeuralLinearConfig, kit: Kit):
        arms = kit.env.num_actions
        *hidden, head = networks.chain(kit.module(HeadSpec("q", arms)))
        if not any(True for layer in hidden for _ in layer.parameters()):
            raise ConfigError(
                "network.hidden", "there is no hidden layer to regress on", "or choose algo=linear_posterior"
            )
        super().__init__(cfg, kit, networks.Dropout([*hidden, head], cfg.dropout))
        self.features = networks.DropoutInference(networks.Dropout(hidden, cfg.dropout), cfg.dropout_when_acting)
        size = head.get_parameter("weight").shape[1] + 1
        self.regressions = LinearRegressions(arms, size, cfg.lambda_prior, cfg.a0, cfg.b0)
        self.agent = ContextualAgent(self.values, self.scores, arms, cfg.init_pulls, kit.rng)
        self.round = 0

    def values(self, obs: Array) -> Array:
        """The posteriors' mean reward [E, K]."""
        return self.regressions.predict(with_intercept(self.features(obs)))

    def scores(self, obs: Array, rng: np.random.Generator) -> Array:
        """Rewards [E, K] under models drawn from the posteriors."""
        return self.regressions.sample(with_intercept(self.features.sample(obs, rng)), rng)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        pulls = self.columns(rollout)
        features = with_intercept(self.features(pulls["obs"]))
        for x, arm, reward in zip(features, pulls["action"].tolist(), pulls["reward"].tolist(), strict=True):
            self.regressions.add(arm, x, reward)
        return super().learn(rollout, progress)

    def train(self, steps: int) -> Metrics:
        self.round += 1
        if self.round % self.cfg.nn_update_ratio:
            return {}
        metrics = super().train(steps)
        self.refit()
        return metrics

    def refit(self) -> None:
        """The posteriors of all observations, seen through the network as it is now."""
        with torch.no_grad():
            features = self.features.network(self.history["obs"])
        arm, x, reward = (column.cpu().numpy() for column in (self.history["action"], features, self.history["reward"]))
        self.regressions.fit(arm, with_intercept(x), reward.astype(np.float64))
