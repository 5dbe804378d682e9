"""The same action always: a baseline, and a probe for environments whose answer to it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.errors import ConfigError
from rlrun.registry import register
from rlrun.types import Array, EnvSpec, Metrics, Progress, Rollout, Space, State, StateDict


@dataclass
class FixedConfig:
    """The same action always."""

    name: str = "fixed"  # registered name of the algorithm
    action: Any = 0  # number of a discrete action; for a continuous one a list, or one number for all dimensions


class FixedAgent:
    """Plays one action [*action], explored or not."""

    def __init__(self, action: Array):
        self.action = action

    def initial_state(self, num_envs: int) -> State:
        return None

    def act(
        self, obs: Array, state: State, *, explore: bool, env_steps: int
    ) -> tuple[Array, State, Mapping[str, Array]]:
        return np.repeat(self.action[None], len(obs), axis=0), state, {}

    def fork(self, rng: np.random.Generator) -> FixedAgent:
        return self


@register("algo", "fixed", config=FixedConfig, action={"discrete", "box"}, obs={"discrete", "box"}, memory=None)
class Fixed:
    """The same action always; learns nothing."""

    rollout_steps = 1

    def __init__(self, cfg: FixedConfig, env: EnvSpec, **_: Any):
        self.agent = FixedAgent(to_action(cfg.action, env.action_space))

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        return {}

    def state_dict(self) -> StateDict:
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        pass


def to_action(value: Any, space: Space) -> Array:
    """The action [*action] that the user wrote; ConfigError unless it lies in the space."""
    try:
        action = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError("algo.action", f"must be a number or a list of numbers, got {value!r}") from error
    if space.kind == "discrete":
        if action.shape != () or action not in np.arange(space.n):
            raise ConfigError("algo.action", f"must be a whole number from 0 to {space.n - 1}, got {value}")
    else:
        if action.shape not in ((), space.shape):
            raise ConfigError("algo.action", f"must be one number or have shape {space.shape}, got {value}")
        low, high = np.asarray(space.low), np.asarray(space.high)
        if not np.all((low <= action) & (action <= high)):
            raise ConfigError("algo.action", f"must lie between {low} and {high}, got {value}")
    return np.broadcast_to(action.astype(space.dtype), space.shape)
