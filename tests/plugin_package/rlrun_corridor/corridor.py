"""A corridor of rooms: walk right to the last one. The best return is 1 - 0.02 * (rooms - 2)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

LEFT, RIGHT = 0, 1


class Corridor(gymnasium.Env):
    """Start in room 0. Reward 1 for reaching the last room, which ends the episode, and -0.02 for any other step."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)

    def __init__(self, rooms: int = 8, render_mode: str | None = None):
        self.rooms, self.render_mode = rooms, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.room = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.room = max(0, self.room + (1 if action == RIGHT else -1))
        arrived = self.room == self.rooms - 1
        return self._observe(), 1.0 if arrived else -0.02, arrived, False, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.room / (self.rooms - 1)], np.float32)
