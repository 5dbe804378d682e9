"""The same action always, or the same distribution: a baseline, and a probe for environments whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.selectors import ProbabilityActionSelector
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.errors import ConfigError
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Array, Metrics, Progress, Rollout, Space


@dataclass
class FixedConfig:
    """The same action always."""

    name: str = "fixed"  # registered name of the algorithm
    action: Any = 0  # number of a discrete action; of others a list, or one number for all dimensions
    p: list[float] | None = None  # in place of `action`: the probability of each discrete action


class FixedAgent(Agent):
    """Plays one action [*action], explored or not."""

    def __init__(self, action: Array):
        self.action = action

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        return np.repeat(self.action[None], len(obs), axis=0), memory, NOTHING


class MixedAgent(Agent):
    """Draws discrete actions with probabilities p [A]; the greedy policy is the most likely one."""

    def __init__(self, p: Array, rng: np.random.Generator):
        self.p, self.selector = p, ProbabilityActionSelector(rng)

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        if explore:
            return self.selector(np.tile(self.p, (len(obs), 1))), memory, NOTHING
        return np.full(len(obs), self.p.argmax()), memory, NOTHING

    def fork(self, rng: np.random.Generator) -> MixedAgent:
        return MixedAgent(self.p, rng)


@register("algo", FixedConfig, needs=Needs(action={"discrete", "box", "multi_discrete", "multi_binary"}, obs=ANY_SPACE))
class Fixed(Algorithm):
    """The same action, or the same probabilities, always; learns nothing."""

    state = ("rng",)

    def __init__(self, cfg: FixedConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.rng = kit.rng
        if cfg.p is None:
            self.agent = FixedAgent(to_action(cfg.action, kit.env.action_space))
        else:
            self.agent = MixedAgent(to_probabilities(cfg.p, kit.env.action_space), kit.rng)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        return {}


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
        low, high = bounds(space)
        if not np.all((low <= action) & (action <= high)):
            raise ConfigError("algo.action", f"must lie between {low} and {high}, got {value}")
        if space.kind != "box" and (action % 1).any():
            raise ConfigError("algo.action", f"must be whole numbers, got {value}")
    return np.broadcast_to(action.astype(space.dtype), space.shape)


def bounds(space: Space) -> tuple[Array, Array]:
    """The least and the greatest value of every number of an action."""
    if space.kind == "box":
        return np.asarray(space.low), np.asarray(space.high)
    counts = np.reshape(space.nvec, space.shape) if space.nvec else np.full(space.shape, 2)  # bits
    return np.zeros_like(counts), counts - 1


def to_probabilities(values: Sequence[float], space: Space) -> Array:
    """p [A] as the user wrote it; ConfigError unless it is a distribution over the actions."""
    p = np.array(values, np.float64)
    if space.kind != "discrete":
        raise ConfigError("algo.p", f"only discrete actions have one, these are {space.kind}", "write algo.action")
    if len(p) != space.n:
        raise ConfigError("algo.p", f"must hold {space.n} probabilities, one per action, got {len(p)}")
    if not ((p >= 0).all() and abs(p.sum() - 1) < 1e-6):
        raise ConfigError("algo.p", f"must be at least 0 and sum to 1, got {list(values)}")
    return p
