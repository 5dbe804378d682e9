"""Deep Q-network: Q-learning from replay with a frozen target network.

Mnih et al. 2015 (Nature 518:529), equation 1, with the loss

    L = E[ w * h( r + discount * Q_target(s', a*) - Q(s, a) ) ],   h = Huber or squared error.

a* maximises Q_target(s', .); with `double` it maximises Q(s', .) (van Hasselt et al. 2016, arXiv:1509.06461).
Differs from the paper: Adam unless `optimizer=rmsprop`, targets copied on env steps instead of updates, optionally
averaged (`tau`). The batch carries gamma^m and termination in `discount`, so n-step and prioritised replay need nothing
here; dueling and noisy networks are choices of `network`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.learners import ReplayLearner
from rlrun.algos.value import parts
from rlrun.algos.value.munchausen import SoftConfig, bonus, soft_value
from rlrun.algos.value.parts import PLAIN, Passes, best
from rlrun.checks import OneOf
from rlrun.compute.update import Aux
from rlrun.ops.losses import LOSSES, gather
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import MASK, Batch, HeadSpec, Tensor


@dataclass
class DQNConfig(SoftConfig):
    """Deep Q-network."""

    name: str = "dqn"  # registered name of the algorithm
    loss: Annotated[str, OneOf(*LOSSES)] = "huber"  # huber | mse


def head(cfg: DQNConfig, actions: int) -> HeadSpec:
    """A number for every action."""
    return HeadSpec("q", actions)


@register(
    "algo",
    DQNConfig,
    needs=Needs(
        action={"discrete"}, obs=ANY_SPACE, masks=True, memory="replay", recurrent=True, statistics={"obs"}, ranks=True
    ),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1},
    footprint=parts.footprint(head),
    weights=("q", "q_target.module"),
)
class DQN(ReplayLearner):
    """Q-learning from replay with a frozen target network (Mnih et al. 2015)."""

    state = ("q", "q_target", *ReplayLearner.state)

    def __init__(self, cfg: DQNConfig, kit: Kit):
        nets = kit.nets(q=head(cfg, kit.env.num_actions))
        generator = kit.generator if parts.units(nets.q) else None
        super().__init__(cfg, kit, nets, follow={"q_target": "q"}, generator=generator)
        self.error: Callable[..., Tensor] = getattr(torch.nn.functional, LOSSES[cfg.loss])
        self.masked = kit.env.obs_space.masked
        self.agent = parts.agent(kit, nets.q, cfg.epsilon, cfg.random_steps, spread=cfg.epsilon_spread)

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        return parts.noises(self.nets.q, parts.passes(self.cfg), updates, batch_size, self.generator)

    def loss(self, nets: networks.Nets, batch: Batch, drawn: Passes = PLAIN) -> tuple[Tensor, Aux]:
        """Weighted TD loss of the taken actions; the target gets no gradient."""
        values, chooser = parts.online(nets.q, batch, drawn, self.cfg.double)
        value = gather(values, batch.action)  # [B]
        with torch.no_grad():
            next_q = nets.q_target(batch.next_obs, **drawn["target"])  # [B, A]
            if self.cfg.munchausen:
                target = self.munchausen(nets, batch, next_q, drawn)
            else:
                action = best(next_q if chooser is None else chooser, batch.next_obs, self.masked)
                target = batch.reward + batch.discount * gather(next_q, action)
        loss = (batch.weight * self.error(value, target, reduction="none")).mean()
        with torch.no_grad():
            return loss, {"td_error": (target - value).abs(), "q_values": value.mean()}

    def munchausen(self, nets: networks.Nets, batch: Batch, next_q: Tensor, drawn: Passes) -> Tensor:
        """Targets [B] of munchausen.py."""
        mask, next_mask = (obs[MASK] if self.masked else None for obs in (batch.obs, batch.next_obs))
        before = nets.q_target(batch.obs, **drawn["before"])  # [B, A]
        following = soft_value(next_q, next_q.unsqueeze(-1), self.cfg, next_mask).squeeze(-1)
        return batch.reward + bonus(before, batch.action, self.cfg, mask) + batch.discount * following
