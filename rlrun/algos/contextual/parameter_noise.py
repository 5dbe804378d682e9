"""Exploration by noise on the network's parameters (Plappert et al. 2017, arXiv:1706.01905).

Every action is the greedy one of a copy of the network to whose parameters N(0, std^2) is added, drawn anew for every
sweep over the environments. What that does to the actions depends on the network, so `std` follows a target: with the
softmax policies of the clean and of the noisy network on observed contexts, and k arms,

    std <- std * 1.01   if E[KL(clean || noisy)] < -log(1 - epsilon + epsilon / k),   otherwise std / 1.01

where the right side is the divergence of epsilon-greedy from greedy play (appendix C of the paper). Epsilon decays.
Evaluation acts on the clean network.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.agent import ContextualAgent
from rlrun.algos.contextual.neural import DropoutRate, NeuralConfig, NeuralLearner
from rlrun.checks import Positive, Share, Within
from rlrun.footprint import TRAINED, q_network
from rlrun.registry import Needs, register
from rlrun.types import Array, HeadSpec, Metrics, Tensor

STEP = 1.01  # factor by which the noise grows or shrinks


@dataclass
class ParameterNoiseConfig(NeuralConfig):
    """Exploration by noise on the network's parameters."""

    name: str = "parameter_noise"  # registered name of the algorithm
    noise_std: Positive = 0.05  # standard deviation of the noise on every parameter, to begin with
    epsilon: Share = 0.1  # the noise is to change actions as much as this share of random ones would
    epsilon_decay: Share = 0.99  # factor on epsilon after every round of training
    # contexts on which the noise is measured, after every round of training
    noise_batch_size: Annotated[int, Within(1, 10**7)] = 256
    dropout: DropoutRate = 0.0  # share of the hidden units that are dropped in training
    dropout_when_acting: bool = False  # drop units while exploring, too


@register(
    "algo",
    ParameterNoiseConfig,
    needs=Needs(action={"discrete"}, one_step=True),
    network="bandit_mlp",
    footprint=q_network(TRAINED),
    weights=("network",),
)
class ParameterNoise(NeuralLearner):
    """Contextual bandit: a network with noisy parameters acts (Plappert et al. 2017)."""

    cfg: ParameterNoiseConfig
    state = (*NeuralLearner.state, "std", "epsilon")
    scratch = ("noisy",)  # drawn anew before every use

    def __init__(self, cfg: ParameterNoiseConfig, kit: Kit):
        self.rng, self.arms = kit.rng, kit.env.num_actions
        layers = networks.chain(kit.module(HeadSpec("q", self.arms)))
        super().__init__(cfg, kit, networks.Dropout(layers, cfg.dropout).to(kit.device.torch))
        self.std, self.epsilon = cfg.noise_std, cfg.epsilon
        self.noisy = copy.deepcopy(self.network)
        self.predict_noisy = networks.DropoutInference(self.noisy, cfg.dropout_when_acting)
        predict = networks.DropoutInference(self.network, when_acting=False)
        self.agent = ContextualAgent(predict, self.scores, self.arms, cfg.init_pulls, kit.rng)

    def scores(self, obs: Array, rng: np.random.Generator) -> Array:
        """Predictions [E, K] of a newly perturbed network."""
        self.perturb(rng)
        return self.predict_noisy.sample(obs, rng)

    def perturb(self, rng: np.random.Generator) -> None:
        with torch.no_grad():
            for clean, noisy in zip(self.network.parameters(), self.noisy.parameters(), strict=True):
                noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
                noisy.copy_(clean).add_(noise.to(clean.device), alpha=self.std)

    def train(self, steps: int) -> Metrics:
        return {**super().train(steps), **self.adapt()}

    def adapt(self) -> Metrics:
        """Make the noise a little larger or smaller, so that it comes closer to its target, and lower the target."""
        index = torch.randint(
            self.history.size, (self.cfg.noise_batch_size,), generator=self.generator, device=self.generator.device
        )
        obs = self.history["obs"][index]
        self.perturb(self.rng)
        with torch.no_grad():
            distance = policy_kl(self.network(obs), self.noisy(obs)).mean().item()
        target = -math.log(1 - self.epsilon + self.epsilon / self.arms)
        self.std *= STEP if distance < target else 1 / STEP
        self.epsilon *= self.cfg.epsilon_decay
        return {"noise_std": self.std, "noise_kl": distance}


def policy_kl(values: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(values) || softmax(other)) [B] of action values [B, K]."""
    log_p, log_q = values.log_softmax(-1), other.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
