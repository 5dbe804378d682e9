"""Advantage actor-critic, the synchronous form of A3C (Mnih et al. 2016, arXiv:1602.01783, algorithm S3).

One update on each short rollout of all environments:

    L = -E[ A log pi(a|s) ] + vf_coef * E[ (V - R)^2 ] - ent_coef * E[ H(pi) ]

With `gae_lambda=1` R is the rewards to go until the rollout's end and then the value there, as in the paper; what A and
R are otherwise, and how a network that remembers learns, is in actor_critic.py. Differs from the paper: means in place
of sums, so that a step does not grow with the rollout, and RMSProp as torch has it, with eps outside of the root.

Every update is on all transitions of a rollout, by the policy that collected them: a second one would be off-policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.actor_critic import ActorCritic, ActorCriticConfig, explained_variance, footprint, outputs
from rlrun.checks import NotNegative, OneOf, Positive, Share, Within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.rules import OPTIONS
from rlrun.compute.update import Aux
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Metrics, Progress, Rollout, Tensor


@dataclass
class A2CConfig(ActorCriticConfig):
    """Advantage actor-critic."""

    name: str = "a2c"  # registered name of the algorithm
    learning_rate: Positive = 7e-4  # step size
    value_learning_rate: Positive | None = None  # step size of values that are trained apart; null for one loss
    optimizer: Annotated[str, OneOf(*OPTIONS)] = "rmsprop"  # how a step follows from a gradient
    rmsprop_eps: Positive = 1e-5  # rmsprop: added to the root of the mean square
    max_grad_norm: Positive | None = 0.5  # gradients are scaled down to this global norm; null leaves them
    gae_lambda: Share = 1.0  # 0: one-step advantages, 1: Monte Carlo
    n_steps: Annotated[int, Within(1, 10**7)] = 5  # steps per environment and rollout
    normalize_advantage: bool = False  # mean 0 and standard deviation 1 within each rollout
    ent_coef: NotNegative = 0.01  # weight of the entropy bonus
    vf_coef: NotNegative = 0.5  # weight of the value loss


@register(
    "algo",
    A2CConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True, ranks=True),
    network="mlp",
    footprint=footprint,
    weights=("network",),
)
class A2C(ActorCritic):
    """Policy gradient with a value baseline, an update on every few steps (Mnih et al. 2016)."""

    cfg: A2CConfig
    state = ("network", "optimiser", "agent", "minibatches")

    def __init__(self, cfg: A2CConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.train_both(kit, self.loss)

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on one minibatch of obs, action, advantage, returns."""
        output, value = outputs(nets.network, batch)
        mask = self.mask(batch)
        policy_loss = -(self.policy.log_prob(output, batch["action"], mask) * batch["advantage"]).mean()
        value_loss = torch.nn.functional.mse_loss(value.squeeze(-1), batch["returns"])
        entropy = self.policy.entropy(output if self.cfg.ent_coef else output.detach(), mask).mean()
        loss = policy_loss + self.cfg.vf_coef * value_loss - self.cfg.ent_coef * entropy
        aux = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, "entropy_loss": -entropy}
        return loss, aux

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        advantage, means = self.advantages(rollout), UpdateMeans()
        stacks = self.stacks(self.columns(rollout, advantage), rollout)
        for _, piece in self.descend(self.fitted(stacks, rollout, progress), rollout, progress):
            means.add(piece.aux)
        return means.take() | {
            "explained_variance": explained_variance(rollout.extras["value"], advantage),
            "learning_rate": self.learning_rate(progress.begun(rollout)),
        }
