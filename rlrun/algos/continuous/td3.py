"""Twin delayed deep deterministic policy gradient, "TD3" (Fujimoto, van Hoof & Meger 2018, arXiv:1802.09477).

DDPG with the lower of two critics, fewer steps of the actor and its targets, and targets that are averaged over actions
near the one that would be taken (algorithm 1):

    a~ = mu_target(s') + clip(eps, -c, c), within the bounds,     eps ~ N(0, sigma^2)
    y  = r + discount * min over n of Q_target,n(s', a~)
    L_critics = sum over n of E[ w * (Q_n(s, a) - y)^2 ],         L_actor = -E[ Q_1(s, mu(s)) ]

On every `policy_delay`th batch the actor makes a step, and the targets of both follow. sigma and c are in units of half
an action's range, like the noise that explores.
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
    ActorCritic,
    ActorCriticConfig,
    actor_head,
    critic_head,
    footprint,
    noisy_actor,
)
from rlrun.checks import Count, NotNegative
from rlrun.compute.update import Aux
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Batch, Tensor


@dataclass
class TD3Config(ActorCriticConfig):
    """Twin delayed deep deterministic policy gradient."""

    name: str = "td3"  # registered name of the algorithm
    policy_delay: Count = 2  # gradient steps of the critics for each of the actor, with which all targets follow
    noise: NoiseConfig = field(default_factory=NoiseConfig)  # on top of the actions that explore
    target_noise: NotNegative = 0.2  # deviation of a target's action, in units of half its range
    noise_clip: NotNegative = 0.5  # beyond which that noise is cut off


@register(
    "algo",
    TD3Config,
    needs=Needs(action={"box"}, obs=ANY_SPACE, memory="replay", statistics={"obs", "batch"}, ranks=True),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1},
    footprint=footprint(lambda env: env.action_space.size, targets=1),
    weights=("actor", "critics", "actor_target.module", "critics_target.module"),
)
class TD3(ActorCritic):
    """Deterministic actor with twin critics, delayed and smoothed (Fujimoto et al. 2018)."""

    cfg: TD3Config
    slow_targets = True
    state = ("actor", "critics", "actor_target", "critics_target", *ActorCritic.state)

    def __init__(self, cfg: TD3Config, kit: Kit):
        self.cfg = cfg
        self.policy: Any = kit.policy(squash=True)
        follow = {"actor_target": "actor", "critics_target": "critics"}
        super().__init__(cfg, kit, follow, kit.generator)
        self.agent = noisy_actor(kit, self.nets.actor, self.policy, cfg)

    def build(self, kit: Kit) -> networks.Nets:
        return kit.nets(actor=actor_head(kit.env.action_space.size), critics=critic_head(self.cfg, kit.env))

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        return {"eps": self.normal(updates, batch_size, self.dims)} | super().draw(updates, batch_size)

    def critic_loss(self, nets: networks.Nets, batch: Batch, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Aux]:
        cfg = self.cfg
        with torch.no_grad():
            eps = (cfg.target_noise * drawn["eps"]).clamp(-cfg.noise_clip, cfg.noise_clip)
            action = self.policy.stretch((self.target(nets, "actor")(batch.next_obs).tanh() + eps).clamp(-1, 1))
        output, following = self.outlook(nets, batch, action, drawn)
        return self.regression(output, following.target(batch.reward, batch.discount), batch)

    def actor_loss(self, nets: networks.Nets, batch: Batch, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Aux]:
        with self.batches(nets.actor):
            action = self.policy.squash(nets.actor(batch.obs))
        return -self.first(nets, batch.obs, action, drawn).mean(), {}
