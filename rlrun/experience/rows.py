"""Where a rollout is written, row by row: one array for each of its columns, with room for T sweeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlrun.types import Array, EnvSpec

COLUMNS = ("action", "reward", "terminated", "truncated")

Allocate = Callable[[tuple[int, ...], "np.dtype"], Array]  # an array of zeros of this shape and type


class Rows:
    """The columns of a rollout of T sweeps over E environments, and what agents record beside them.

    Args:
        env: tells the shapes, and E.
        steps: T.
        allocate: makes the arrays; in this process's own memory by default.
    """

    def __init__(self, env: EnvSpec, steps: int, allocate: Allocate | None = None):
        obs, action, shape = env.obs_space, env.action_space, (steps, env.num_envs)
        self._allocate = allocate = allocate or np.zeros
        self.obs = allocate((steps + 1, env.num_envs, *obs.shape), obs.dtype)
        self.action = allocate((*shape, *action.shape), action.dtype)
        self.reward = allocate(shape, np.dtype(np.float32))
        self.terminated, self.truncated = allocate(shape, np.dtype(bool)), allocate(shape, np.dtype(bool))
        self.extras: dict[str, Array] = {}

    def extra(self, key: str, value: Array) -> Array:
        """The column [T, E, ...] of what the agent records under this name, made when it does so for the first time.

        Args:
            value: [E, ...] of one sweep.
        """
        if key not in self.extras:
            self.extras[key] = self._allocate((*self.reward.shape, *value.shape[1:]), value.dtype)
        return self.extras[key]

    def clear(self) -> None:
        """No episode ends in any row."""
        self.terminated[:] = self.truncated[:] = False
