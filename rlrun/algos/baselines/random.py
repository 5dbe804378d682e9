"""Uniformly random actions: the floor every other score is read against.

The policy itself is random, so it draws in evaluation as well, from the stream that evaluation gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.errors import ConfigError
from rlrun.ops.distributions import distribution
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import MASK, Array, Metrics, Progress, Rollout, Space


@dataclass
class RandomConfig:
    """Uniformly random actions."""

    name: str = "random"  # registered name of the algorithm


class RandomAgent(Agent):
    """Draws from the action space whatever it sees, whether it explores or not."""

    def __init__(self, space: Space, rng: np.random.Generator, masked: bool = False):
        self.space, self.rng, self.masked = space, rng, masked
        self.policy = distribution(space)

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        return self.policy.uniform(len(obs), self.rng, obs[MASK] if self.masked else None), memory, NOTHING


@register("algo", RandomConfig, needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True))
class Random(Algorithm):
    """Uniformly random actions; learns nothing."""

    state = ("rng",)

    def __init__(self, cfg: RandomConfig, kit: Kit):
        super().__init__(cfg, kit)
        space = kit.env.action_space
        for part in space.fields.values() or (space,):
            if part.kind == "box" and not np.isfinite(np.array([part.low, part.high])).all():
                raise ConfigError("env.id", f"{kit.env.id} has unbounded actions: there is no uniform draw from them")
        self.rng = kit.rng
        self.agent = RandomAgent(space, kit.rng, kit.env.obs_space.masked)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        return {}
