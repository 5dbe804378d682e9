"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

Several epochs of minibatch descent on one rollout, equations 7 and 9, with rho = pi(a|s) / pi_old(a|s):

    L = -E[ min(rho A, clip(rho, 1 - c, 1 + c) A) ] + vf_coef * E[ (V - R)^2 ] - ent_coef * E[ H(pi) ]

A, R and log pi_old are fixed when the rollout is collected; what they are, and how a network that remembers learns, is
in actor_critic.py. Differs from the paper as is customary: advantages are normalised per minibatch, gradients clipped,
the value loss optionally clipped, the epochs ended when the policy has moved far (`target_kl`).

Losses are logged as means over all updates of a rollout; entropy, KL and the share of clipped samples are looked at
once, after the last update, on its minibatch; the explained variance is that of the values recorded when acting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.actor_critic import ActorCritic, ActorCriticConfig, explained_variance, footprint, outputs
from rlrun.checks import NotNegative, OneOf, Positive, Within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.update import Aux
from rlrun.errors import ConfigError
from rlrun.ops.fields import rows
from rlrun.ops.losses import approx_kl, clipped_surrogate, clipped_value_loss
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.schedules import annealed
from rlrun.types import Metrics, Progress, Rollout, StateDict, Tensor


@dataclass
class PPOConfig(ActorCriticConfig):
    """Proximal policy optimisation."""

    name: str = "ppo"  # registered name of the algorithm
    learning_rate: Positive = 3e-4  # step size
    value_learning_rate: Positive | None = None  # step size of values that are trained apart; null for one loss
    adam_eps: Positive = 1e-5  # adam, adamw, radam: added to the root of the second moment
    max_grad_norm: Positive | None = 0.5  # gradients are scaled down to this global norm; null leaves them
    batch_size: Annotated[int, Within(1, 10**7)] = 64  # transitions per minibatch
    n_epochs: Annotated[int, Within(1, 10**7)] = 10  # passes over each rollout
    clip_range: Positive = 0.2  # how far the probability ratio may gain from moving away from 1
    # constant | linear (falls to 0 at total_timesteps)
    clip_range_schedule: Annotated[str, OneOf("constant", "linear")] = "constant"
    # how far a value may gain from moving away from the old one; null for no clipping
    clip_range_vf: Positive | None = None
    ent_coef: NotNegative = 0.0  # weight of the entropy bonus
    vf_coef: NotNegative = 0.5  # weight of the value loss
    # ends a rollout's epochs once the approximate KL exceeds 1.5 times this; null never does
    target_kl: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalize_advantage and self.batch_size == 1:
            raise ConfigError("batch_size", "one advantage has no standard deviation", "or normalize_advantage=false")


@register(
    "algo",
    PPOConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True, ranks=True),
    network="mlp",
    smoke={"n_steps": 32, "batch_size": 32, "n_epochs": 2},
    footprint=footprint,
    weights=("network",),
)
class PPO(ActorCritic):
    """Clipped policy gradient on fresh rollouts with a value baseline (Schulman et al. 2017)."""

    cfg: PPOConfig
    state = ("network", "optimiser", "agent", "minibatches")

    def __init__(self, cfg: PPOConfig, kit: Kit):
        rollout = cfg.n_steps * kit.env.num_envs
        if cfg.normalize_advantage and rollout % cfg.batch_size == 1:
            raise ConfigError(
                "algo.batch_size", "leaves a minibatch of one, whose advantage has no spread", "choose another"
            )
        super().__init__(cfg, kit)
        self.group = kit.device.group
        self.clip_range = annealed(cfg.clip_range, cfg.clip_range_schedule, kit.total_timesteps)
        self.train_both(kit, self.loss, cfg.batch_size, cfg.n_epochs, bool(cfg.target_kl))

    def load_state_dict(self, state: StateDict) -> None:
        """Older states know no minibatches, whose order was drawn elsewhere."""
        super().load_state_dict({"minibatches": self.minibatches.state_dict()} | state)

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any], clip_range: float | Tensor) -> tuple[Tensor, Aux]:
        """The objective above on one minibatch of obs, action, log_prob, value, advantage, returns."""
        output, value = outputs(nets.network, batch)
        value, mask = value.squeeze(-1), self.mask(batch)  # [B]
        ratio = (self.policy.log_prob(output, batch["action"], mask) - batch["log_prob"]).exp()  # [B]
        policy_loss = clipped_surrogate(ratio, batch["advantage"], clip_range).mean()
        if self.cfg.clip_range_vf is None:
            value_loss = torch.nn.functional.mse_loss(value, batch["returns"])
        else:
            value_loss = clipped_value_loss(value, batch["value"], batch["returns"], self.cfg.clip_range_vf).mean()
        loss = policy_loss + self.cfg.vf_coef * value_loss
        if self.cfg.ent_coef:
            loss = loss - self.cfg.ent_coef * self.policy.entropy(output, mask).mean()

        return loss, {"policy_gradient_loss": policy_loss, "value_loss": value_loss}

    def diagnose(self, batch: Mapping[str, Any], clip_range: float) -> Aux:
        """How far the policy has gone on one minibatch: its entropy, the KL from the old one, the share of clipped
        samples. `entropy_loss` is the entropy's negative, as the field has come to log it."""
        with torch.no_grad():
            output, mask = outputs(self.network, batch)[0], self.mask(batch)
            ratio = (self.policy.log_prob(output, batch["action"], mask) - batch["log_prob"]).exp()
            entropy = self.policy.entropy(output, mask).mean()
            return {
                "entropy": entropy,
                "entropy_loss": -entropy,
                "approx_kl": approx_kl(ratio).mean(),
                "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
            }

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        advantage, begun = self.advantages(rollout), progress.begun(rollout)
        columns = self.columns(rollout, advantage, "log_prob", "value")
        means, clip_range, bound = UpdateMeans(), self.clip_range(begun), 1.5 * (self.cfg.target_kl or 0.0)
        stacks = self.stacks(columns, rollout, self.cfg.batch_size, self.cfg.n_epochs)
        for stack, piece in self.descend(self.fitted(stacks, rollout, progress), rollout, progress, clip_range):
            means.add(piece.aux)
            if self.cfg.target_kl:
                moved = self.diagnose(rows(stack, piece.last), clip_range)["approx_kl"]
                if self.group.mean(moved) > bound:
                    break
        aux = means.take() | self.diagnose(rows(stack, piece.last), clip_range)
        return aux | {
            "explained_variance": explained_variance(rollout.extras["value"], advantage),
            "learning_rate": self.learning_rate(begun),
            "clip_range": clip_range,
        }
