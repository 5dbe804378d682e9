"""Uniformly random actions: the floor every other score is read against.

The policy itself is random, so it draws in evaluation as well, from the stream that evaluation gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.errors import ConfigError
from rlrun.registry import register
from rlrun.seeding import generator_state, restore_generator
from rlrun.types import Array, EnvSpec, Metrics, Progress, Rollout, Space, State, StateDict


@dataclass
class RandomConfig:
    """Uniformly random actions."""

    name: str = "random"  # registered name of the algorithm


class RandomAgent:
    """Draws from the action space whatever it sees, whether it explores or not."""

    def __init__(self, space: Space, rng: np.random.Generator):
        self.space, self.rng = space, rng

    def initial_state(self, num_envs: int) -> State:
        return None

    def act(
        self, obs: Array, state: State, *, explore: bool, env_steps: int
    ) -> tuple[Array, State, Mapping[str, Array]]:
        space, num_envs = self.space, len(obs)
        if space.kind == "discrete":
            return self.rng.integers(space.n, size=num_envs), state, {}
        action = self.rng.uniform(space.low, space.high, (num_envs, *space.shape))  # type: ignore[arg-type]
        return action.astype(space.dtype), state, {}

    def fork(self, rng: np.random.Generator) -> RandomAgent:
        return RandomAgent(self.space, rng)


@register("algo", "random", config=RandomConfig, action={"discrete", "box"}, obs={"discrete", "box"}, memory=None)
class Random:
    """Uniformly random actions; learns nothing."""

    rollout_steps = 1

    def __init__(self, cfg: RandomConfig, env: EnvSpec, *, rng: np.random.Generator, **_: Any):
        space = env.action_space
        if space.kind == "box" and not np.isfinite(np.array([space.low, space.high])).all():
            raise ConfigError("env.id", f"{env.id} has unbounded actions: there is no uniform draw from them")
        self.agent = RandomAgent(space, rng)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        return {}

    def state_dict(self) -> StateDict:
        return {"rng": generator_state(self.agent.rng)}

    def load_state_dict(self, state: StateDict) -> None:
        restore_generator(self.agent.rng, state["rng"])
