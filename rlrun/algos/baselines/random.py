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
from rlrun.registry import register
from rlrun.types import Array, Metrics, Progress, Rollout, Space


@dataclass
class RandomConfig:
    """Uniformly random actions."""

    name: str = "random"  # registered name of the algorithm


class RandomAgent(Agent):
    """Draws from the action space whatever it sees, whether it explores or not."""

    def __init__(self, space: Space, rng: np.random.Generator):
        self.space, self.rng = space, rng

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        space, num_envs = self.space, len(obs)
        if space.kind == "discrete":
            return self.rng.integers(space.n, size=num_envs), memory, NOTHING
        action = self.rng.uniform(space.low, space.high, (num_envs, *space.shape))  # type: ignore[arg-type]
        return action.astype(space.dtype), memory, NOTHING


@register("algo", RandomConfig)
class Random(Algorithm):
    """Uniformly random actions; learns nothing."""

    state = ("rng",)

    def __init__(self, cfg: RandomConfig, kit: Kit):
        super().__init__(cfg, kit)
        space = kit.env.action_space
        if space.kind == "box" and not np.isfinite(np.array([space.low, space.high])).all():
            raise ConfigError("env.id", f"{kit.env.id} has unbounded actions: there is no uniform draw from them")
        self.rng = kit.rng
        self.agent = RandomAgent(space, kit.rng)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        return {}
