"""Small goal environments, registered with Gymnasium as `rlrun/BitFlip-v0` and `rlrun/Reach-v0`.

Every step costs 1 but for one that reaches the goal, which ends the episode: an agent that never gets there by chance
hears nothing but -1. That is what hindsight replay is for. Their methods are those of Gymnasium-Robotics' environments,
and take many goals at once.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Space

from rlrun.errors import ConfigError
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, StateDict

Info = dict[str, Any]
Seen = dict[str, Array]


class _GoalEnv(gym.Env):
    """Base: a position that actions move, and a goal that it has to reach within `length` steps."""

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own form

    def __init__(self, place: Space, length: int):
        self.observation_space = Dict({"observation": place, "achieved_goal": place, "desired_goal": place})
        self._length, self._t = length, 0
        self._position = self._goal = np.zeros(place.shape or (), place.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, Info]:
        super().reset(seed=seed)
        self._t, self._position, self._goal = 0, self._draw(), self._draw()
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Seen, float, bool, bool, Info]:
        self._t, self._position = self._t + 1, self._moved(action)
        reached = bool(self._reached(self._position, self._goal))
        reward, cut = float(reached) - 1, self._t >= self._length and not reached
        return self._seen(), reward, reached, cut, {"is_success": float(reached)}

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """0 where the goal is reached, else -1: [N] of goals [N, *goal]."""
        return self._reached(achieved_goal, desired_goal).astype(np.float32) - 1

    def compute_terminated(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """Whether the goal is reached: [N] of goals [N, *goal]."""
        return self._reached(achieved_goal, desired_goal)

    def _seen(self) -> Seen:
        position, goal = self._position.copy(), self._goal.copy()
        return {"observation": position, "achieved_goal": position, "desired_goal": goal}

    def _draw(self) -> Array:
        raise NotImplementedError

    def _moved(self, action: Any) -> Array:
        raise NotImplementedError

    def _reached(self, achieved: Array, desired: Array) -> Array:
        raise NotImplementedError

    def state_dict(self) -> StateDict:
        state = {"t": self._t, "position": self._position, "goal": self._goal}
        return state | {"rng": generator_state(self.np_random)}

    def load_state_dict(self, state: StateDict) -> None:
        self._t, self._position, self._goal = state["t"], state["position"], state["goal"]
        restore_generator(self.np_random, state["rng"])


class BitFlipEnv(_GoalEnv):
    """n bits, of which each action flips one, until they are those of the goal (Andrychowicz et al. 2017, section 3.1).

    Two random rows of bits differ in n / 2 of them, so n steps are enough; 2^n of them are too many to be tried. The
    best return is 1 minus the number of bits that differ.
    """

    def __init__(self, n: int = 15):
        if not isinstance(n, int) or n < 1:
            raise ConfigError("env.kwargs.n", f"must be a whole number, at least 1, got {n}")
        super().__init__(MultiBinary(n), length=n)
        self.action_space = Discrete(n)
        self._n = n

    def _draw(self) -> Array:
        return self.np_random.integers(2, size=self._n, dtype=np.int8)

    def _moved(self, action: int) -> Array:
        bits = self._position.copy()
        bits[action] ^= 1
        return bits

    def _reached(self, achieved: Array, desired: Array) -> Array:
        return (achieved == desired).all(-1)


class ReachEnv(_GoalEnv):
    """A point in a square, moved by an action of up to `speed` in each direction, until it is near enough to the goal.

    Args:
        near: distance from the goal at which it is reached; the square has sides of 2.
    """

    def __init__(self, near: float = 0.05, speed: float = 0.1, length: int = 50):
        super().__init__(Box(-1.0, 1.0, (2,)), length)
        self.action_space = Box(-1.0, 1.0, (2,))
        self._near, self._speed = near, speed

    def _draw(self) -> Array:
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)

    def _moved(self, action: Array) -> Array:
        return np.clip(self._position + self._speed * np.asarray(action, np.float32), -1, 1)

    def _reached(self, achieved: Array, desired: Array) -> Array:
        return np.linalg.norm(achieved - desired, axis=-1) <= self._near


for _env in (BitFlipEnv, ReachEnv):
    _id = f"rlrun/{_env.__name__.removesuffix('Env')}-v0"
    if _id not in gym.registry:
        gym.register(_id, entry_point=f"{_env.__module__}:{_env.__name__}")
