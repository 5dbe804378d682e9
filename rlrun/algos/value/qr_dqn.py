"""Quantile-regression DQN: learns N quantiles of the distribution of returns (Dabney et al. 2018, arXiv:1710.10044).

With quantiles theta_i(s, a) at the fractions tau_i = (i + 1/2) / N, u_ij the difference of a target's sample j and
quantile i, and h Huber's error with threshold kappa (algorithm 1):

    L = E[ w * sum over i of mean over j of |tau_i - 1{u_ij < 0}| h(u_ij) / kappa ]
    u_ij = r + discount * theta_target,j(s', a*) - theta_i(s, a),      a* = argmax over a of mean theta_target(s', a)

with `double` a* is the online network's, with `munchausen` targets are those of munchausen.py. Priorities are the
absolute difference of the means.
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
from rlrun.ops.quantiles import midpoints, quantile_huber
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import MASK, Array, Batch, HeadSpec, Tensor


@dataclass
class QRDQNConfig(SoftConfig):
    """Quantile-regression DQN."""

    name: str = "qr_dqn"  # registered name of the algorithm
    quantiles: Annotated[int, Within(1, 10**4)] = 200  # N, how many describe a distribution of returns
    kappa: Annotated[float, Within(0, 1e9)] = 1.0  # up to which an error counts squared; 0 counts all as they are


def head(cfg: QRDQNConfig, actions: int) -> HeadSpec:
    """The quantiles of every action."""
    return HeadSpec("q", actions * cfg.quantiles, atoms=cfg.quantiles)


@register(
    "algo",
    QRDQNConfig,
    needs=Needs(
        action={"discrete"}, obs=ANY_SPACE, masks=True, memory="replay", recurrent=True, statistics={"obs"}, ranks=True
    ),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1, "quantiles": 8},
    footprint=parts.footprint(head, pairs=lambda cfg: cfg.quantiles**2),
    weights=("q", "q_target.module"),
)
class QRDQN(ReplayLearner):
    """Q-learning of quantiles of the returns (Dabney et al. 2018)."""

    cfg: QRDQNConfig
    state = ("q", "q_target", *ReplayLearner.state)

    def __init__(self, cfg: QRDQNConfig, kit: Kit):
        nets = kit.nets(q=head(cfg, kit.env.num_actions))
        generator = kit.generator if parts.units(nets.q) else None
        super().__init__(cfg, kit, nets, follow={"q_target": "q"}, generator=generator)
        self.masked = kit.env.obs_space.masked
        self.agent = parts.agent(kit, nets.q, cfg.epsilon, cfg.random_steps, self.expected, spread=cfg.epsilon_spread)

    def expected(self, quantiles: Array) -> Array:
        """Action values [E, A] of quantiles [E, A * N]."""
        return quantiles.reshape(len(quantiles), -1, self.cfg.quantiles).mean(-1)

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        return parts.noises(self.nets.q, parts.passes(self.cfg), updates, batch_size, self.generator)

    def loss(self, nets: networks.Nets, batch: Batch, drawn: Passes = PLAIN) -> tuple[Tensor, Aux]:
        """Weighted quantile regression of the taken actions; the target gets no gradient."""
        shape = (-1, self.cfg.quantiles)
        outputs, chooser = parts.online(nets.q, batch, drawn, self.cfg.double)
        theta = taken(outputs.unflatten(-1, shape), batch.action)  # [B, N]
        with torch.no_grad():
            following = nets.q_target(batch.next_obs, **drawn["target"]).unflatten(-1, shape)  # [B, A, N]
            reward = batch.reward
            if self.cfg.munchausen:
                mask, next_mask = (obs[MASK] if self.masked else None for obs in (batch.obs, batch.next_obs))
                before = nets.q_target(batch.obs, **drawn["before"]).unflatten(-1, shape).mean(-1)  # [B, A]
                reward = reward + bonus(before, batch.action, self.cfg, mask)
                samples = soft_value(following.mean(-1), following, self.cfg, next_mask)  # [B, N]
            else:
                chooser = following if chooser is None else chooser.unflatten(-1, shape)
                samples = taken(following, best(chooser.mean(-1), batch.next_obs, self.masked))
            target = reward.unsqueeze(-1) + batch.discount.unsqueeze(-1) * samples
        error = quantile_huber(theta, target, midpoints(self.cfg.quantiles, like=theta), self.cfg.kappa)
        loss = (batch.weight * error).mean()
        with torch.no_grad():
            value = theta.mean(-1)
            return loss, {"td_error": (target.mean(-1) - value).abs(), "q_values": value.mean()}
