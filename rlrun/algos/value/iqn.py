"""Implicit quantile network: learns quantiles of returns at any fraction (Dabney et al. 2018, arXiv:1806.06923).

The network gives Z_tau(s, a) for fractions tau that are drawn anew from U(0, 1) for every transition of every update:
N for the value, N' for its target (equation 3). With u_ij the difference of a target's sample j and the quantile at
tau_i, and h Huber's error with threshold kappa:

    L = E[ w * sum over i of mean over j of |tau_i - 1{u_ij < 0}| h(u_ij) / kappa ]
    u_ij = r + discount * Z_target,tau'_j(s', a*) - Z_tau_i(s, a)

a* is the action whose N' samples have the highest mean; with `double` the online network's; with `munchausen` targets
are those of munchausen.py. Differs from the paper: who acts, or chooses with `double`, averages K fractions that are
evenly spread instead of drawn, so that acting needs no random numbers. Priorities are the absolute difference of means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.learners import ReplayLearner
from rlrun.algos.value import parts
from rlrun.algos.value.munchausen import SoftConfig, bonus, soft_value
from rlrun.algos.value.parts import PLAIN, Passes, best, taken
from rlrun.checks import Within
from rlrun.compute.update import Aux
from rlrun.ops.quantiles import quantile_huber
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import MASK, Array, Batch, HeadSpec, Tensor


@dataclass
class IQNConfig(SoftConfig):
    """Implicit quantile network."""

    name: str = "iqn"  # registered name of the algorithm
    fractions: Annotated[int, Within(1, 10**4)] = 64  # N, quantiles of a value that are learned in an update
    target_fractions: Annotated[int, Within(1, 10**4)] = 64  # N', samples of its target
    acting_fractions: Annotated[int, Within(1, 10**4)] = 32  # K, quantiles whose mean is the value that is played
    kappa: Annotated[float, Within(0, 1e9)] = 1.0  # up to which an error counts squared; 0 counts all as they are


def head(cfg: IQNConfig, actions: int) -> HeadSpec:
    """A quantile of every action."""
    return HeadSpec("q", actions, fractions=cfg.acting_fractions)


@register(
    "algo",
    IQNConfig,
    needs=Needs(
        action={"discrete"}, obs=ANY_SPACE, masks=True, memory="replay", recurrent=True, statistics={"obs"}, ranks=True
    ),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1, "fractions": 8, "target_fractions": 8, "acting_fractions": 8},
    footprint=parts.footprint(head, pairs=lambda cfg: cfg.fractions * cfg.target_fractions),
    weights=("q", "q_target.module"),
)
class IQN(ReplayLearner):
    """Q-learning of all quantiles of the returns (Dabney et al. 2018)."""

    cfg: IQNConfig
    state = ("q", "q_target", *ReplayLearner.state)

    def __init__(self, cfg: IQNConfig, kit: Kit):
        nets = kit.nets(q=head(cfg, kit.env.num_actions))
        super().__init__(cfg, kit, nets, follow={"q_target": "q"}, generator=kit.generator)
        self.masked, self.device = kit.env.obs_space.masked, kit.device.torch
        self.agent = parts.agent(kit, nets.q, cfg.epsilon, cfg.random_steps, self.expected, spread=cfg.epsilon_spread)

    def expected(self, quantiles: Array) -> Array:
        """Action values [E, A] of quantiles [E, K, A]."""
        return quantiles.mean(1)

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        """Fractions for the quantiles and for the target's samples, and a noisy network's noise."""
        drawn = parts.noises(self.nets.q, parts.passes(self.cfg), updates, batch_size, self.generator)
        for name, count in (("q", self.cfg.fractions), ("target", self.cfg.target_fractions)):
            tau = torch.rand((updates, batch_size, count), generator=self.generator, device=self.device)
            drawn.setdefault(name, {})["tau"] = tau
        return drawn

    def loss(self, nets: networks.Nets, batch: Batch, drawn: Passes = PLAIN) -> tuple[Tensor, Aux]:
        """Weighted quantile regression of the taken actions; the target gets no gradient."""
        drawn = {**PLAIN, **drawn}
        quantiles = nets.q(batch.obs, **drawn["q"]).mT  # [B, A, N]
        with torch.no_grad():
            following = nets.q_target(batch.next_obs, **drawn["target"]).mT  # [B, A, N']
            reward = batch.reward
            if self.cfg.munchausen:
                mask, next_mask = (obs[MASK] if self.masked else None for obs in (batch.obs, batch.next_obs))
                before = nets.q_target(batch.obs, **drawn["before"]).mean(1)  # [B, A]
                reward = reward + bonus(before, batch.action, self.cfg, mask)
                samples = soft_value(following.mean(-1), following, self.cfg, next_mask)  # [B, N']
            else:
                chooser = following.mean(-1)
                if self.cfg.double:
                    chooser = nets.q(batch.next_obs, **drawn["choice"]).mean(1)
                samples = taken(following, best(chooser, batch.next_obs, self.masked))
            target = reward.unsqueeze(-1) + batch.discount.unsqueeze(-1) * samples
        theta = taken(quantiles, batch.action)  # [B, N]
        error = quantile_huber(theta, target, drawn["q"]["tau"], self.cfg.kappa)
        loss = (batch.weight * error).mean()
        with torch.no_grad():
            value = theta.mean(-1)
            return loss, {"td_error": (target.mean(-1) - value).abs(), "q_values": value.mean()}
