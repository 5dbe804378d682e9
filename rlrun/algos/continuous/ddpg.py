"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971).

Q-learning of continuous actions: an actor mu takes the place of the maximum (algorithm 1).

    y = r + discount * Q_target(s', mu_target(s'))
    L_critic = E[ w * (Q(s, a) - y)^2 ],       L_actor = -E[ Q(s, mu(s)) ]

Both have slow copies, w' <- (1 - tau) w' + tau w. Exploration is noise on top of the actions, an Ornstein-Uhlenbeck
process by default, in units of half an action's range.
Differs from the paper: the action stands beside the observation at the critic's first layer, not the second; weights
do not decay unless `optimizer=adamw`; networks begin as `network.init` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rlrun import networks
from rlrun.agents.actor import NoiseConfig
from rlrun.algos.algorithm import Kit
from rlrun.algos.continuous.actor_critic import (
    NOTHING,
    ActorCritic,
    ActorCriticConfig,
    actor_head,
    critic_head,
    footprint,
    noisy_actor,
)
from rlrun.algos.continuous.critics import CriticsConfig
from rlrun.checks import Positive
from rlrun.compute.update import Aux
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Batch, Tensor


@dataclass
class DDPGConfig(ActorCriticConfig):
    """Deep deterministic policy gradient."""

    name: str = "ddpg"  # registered name of the algorithm
    learning_rate: Positive = 1e-3  # step size
    actor_learning_rate: Positive | None = 1e-4  # that of the actor, if it is another
    critics: CriticsConfig = field(default_factory=lambda: CriticsConfig(count=1))  # what judges the actor
    # on top of the actions that explore
    noise: NoiseConfig = field(default_factory=lambda: NoiseConfig("ornstein_uhlenbeck", std=0.2))


@register(
    "algo",
    DDPGConfig,
    needs=Needs(action={"box"}, obs=ANY_SPACE, memory="replay", statistics={"obs", "batch"}, ranks=True),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1},
    footprint=footprint(lambda env: env.action_space.size, targets=1),
    weights=("actor", "critics", "actor_target.module", "critics_target.module"),
)
class DDPG(ActorCritic):
    """A deterministic actor and the critic that it climbs (Lillicrap et al. 2016)."""

    state = ("actor", "critics", "actor_target", "critics_target", *ActorCritic.state)

    def __init__(self, cfg: DDPGConfig, kit: Kit):
        self.cfg = cfg
        self.policy: Any = kit.policy(squash=True)
        super().__init__(cfg, kit, follow={"actor_target": "actor", "critics_target": "critics"})
        self.agent = noisy_actor(kit, self.nets.actor, self.policy, cfg)

    def build(self, kit: Kit) -> networks.Nets:
        return kit.nets(actor=actor_head(kit.env.action_space.size), critics=critic_head(self.cfg, kit.env))

    def critic_loss(
        self, nets: networks.Nets, batch: Batch, drawn: Mapping[str, Tensor] = NOTHING
    ) -> tuple[Tensor, Aux]:
        with torch.no_grad():
            action = self.policy.squash(self.target(nets, "actor")(batch.next_obs))
        output, following = self.outlook(nets, batch, action, drawn)
        return self.regression(output, following.target(batch.reward, batch.discount), batch)

    def actor_loss(
        self, nets: networks.Nets, batch: Batch, drawn: Mapping[str, Tensor] = NOTHING
    ) -> tuple[Tensor, Aux]:
        with self.batches(nets.actor):
            action = self.policy.squash(nets.actor(batch.obs))
        return -self.first(nets, batch.obs, action, drawn).mean(), {}
