"""Tiny environments whose stream or value is known beforehand, registered with Gymnasium as `rlrun/...`.

    import rlrun.envs.toy
    gymnasium.make("rlrun/Toy-v0")

They exist to check experience sources, returns and learners against numbers worked out by hand, and they are the
example of an environment that can be saved in the middle of an episode: `state_dict` and `load_state_dict`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.errors import ConfigError
from rlrun.seeding import generator_state, restore_generator
from rlrun.types import Array, StateDict

Info = dict[str, Any]


class _CountedEnv(gym.Env):
    """Base: its whole state is the number of steps taken in this episode."""

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own form

    def __init__(self) -> None:
        self._t = 0

    def state_dict(self) -> StateDict:
        return {"t": self._t}

    def load_state_dict(self, state: StateDict) -> None:
        self._t = state["t"]


class ToyEnv(_CountedEnv):
    """Five observations in a cycle, three actions, reward = action. Every episode has the same length.

    Args:
        variant: "book": observations 0 1 2 3 4 0 ..., 10 transitions, all rewarded. "notebook": the first
            observation comes twice, 11 transitions, the last with reward 0.
    """

    def __init__(self, variant: str = "book"):
        if variant not in ("book", "notebook"):
            raise ConfigError("env.kwargs.variant", f"there is no {variant!r}", "choose one of: book, notebook")
        super().__init__()
        self.observation_space, self.action_space = Discrete(5), Discrete(3)
        self._notebook = variant == "notebook"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, Info]:
        super().reset(seed=seed)
        self._t = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, Info]:
        t, self._t = self._t, self._t + 1
        if self._notebook:
            over = t == 10
            return t % 5, 0.0 if over else float(action), over, False, {}
        return (t + 1) % 5, float(action), t == 9, False, {}


class CountingEnv(_CountedEnv):
    """The observation is the number of steps taken, [1] float32; the reward too. Terminates after `length` steps."""

    def __init__(self, length: int = 10):
        super().__init__()
        self.observation_space, self.action_space = Box(0.0, length, (1,)), Discrete(2)
        self._length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Info]:
        super().reset(seed=seed)
        self._t = 0
        return self._obs(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, Info]:
        self._t += 1
        return self._obs(), float(self._t), self._t == self._length, False, {}

    def _obs(self) -> Array:
        return np.array([self._t], np.float32)


class ConstantRewardEnv(_CountedEnv):
    """One state, reward 1 for ever, cut (truncated, never terminated) every `length` steps.

    Its value is 1 / (1 - gamma): 10 at gamma 0.9. A learner that takes the cut for an end finds less.
    """

    def __init__(self, length: int = 5):
        super().__init__()
        self.observation_space, self.action_space = Discrete(1), Discrete(2)
        self._length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, Info]:
        super().reset(seed=seed)
        self._t = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, Info]:
        self._t += 1
        return 0, 1.0, False, self._t == self._length, {}


class _RandomTarget(gym.Env):
    """Base: a random target is shown, and answered by one action; `length` targets make an episode."""

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own form

    def __init__(self, length: int):
        self._length, self._t = length, 0
        self._target: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        super().reset(seed=seed)
        self._t, self._target = 0, self._draw()
        return self._target, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        reward = self._score(action)
        self._t, self._target = self._t + 1, self._draw()
        return self._target, reward, self._t == self._length, False, {}

    def _draw(self) -> Any:
        raise NotImplementedError

    def _score(self, action: Any) -> float:
        raise NotImplementedError

    def state_dict(self) -> StateDict:
        return {"t": self._t, "target": self._target, "rng": generator_state(self.np_random)}

    def load_state_dict(self, state: StateDict) -> None:
        self._t, self._target = state["t"], state["target"]
        restore_generator(self.np_random, state["rng"])


class IdentityEnv(_RandomTarget):
    """Reward 1 for the action that equals the observation, else 0; the best return is `length`."""

    def __init__(self, n: int = 4, length: int = 16):
        super().__init__(length)
        self.observation_space, self.action_space = Discrete(n), Discrete(n)
        self._n = n

    def _draw(self) -> int:
        return int(self.np_random.integers(self._n))

    def _score(self, action: int) -> float:
        return float(action == self._target)


class TargetEnv(_RandomTarget):
    """Continuous twin of IdentityEnv: reward -(action - obs)^2 summed over `size` dimensions; the best return is 0."""

    def __init__(self, size: int = 1, length: int = 16):
        super().__init__(length)
        self.observation_space = self.action_space = Box(-1.0, 1.0, (size,))
        self._size = size

    def _draw(self) -> Array:
        return self.np_random.uniform(-1.0, 1.0, self._size).astype(np.float32)

    def _score(self, action: Array) -> float:
        return -float(np.square(action - self._target).sum())


for _env in (ToyEnv, CountingEnv, ConstantRewardEnv, IdentityEnv, TargetEnv):
    _id = f"rlrun/{_env.__name__.removesuffix('Env')}-v0"
    if _id not in gym.registry:
        gym.register(_id, entry_point=f"{_env.__module__}:{_env.__name__}")
