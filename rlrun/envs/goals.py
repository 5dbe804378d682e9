"""Goal environments: what a step would have been worth if another goal had been given (Plappert et al. 2018,
arXiv:1802.09464, section 1.4).

Their observations are Dicts with the parts `observation`, `achieved_goal` and `desired_goal`, the latter two of one
space, and they have a method `compute_reward(achieved_goal, desired_goal, info)`, of Gymnasium-Robotics also
`compute_terminated`. Such a function should take many goals at once, [N, *goal], and return [N] numbers. Whether one
does is tried on a few pairs of goals; others are called for one pair after the other. `info` is {}.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from rlrun.envs import faults
from rlrun.envs.faults import Nonsense
from rlrun.errors import EnvError
from rlrun.types import ACHIEVED, DESIRED, Array, Goals, Space

REWARD, TERMINATED = "compute_reward", "compute_terminated"


def goals_of(env: gym.Env | gym.vector.VectorEnv, seen: Space) -> Goals | None:
    """What an environment with these observations tells of goals; None if it is no goal environment."""
    achieved, desired = (seen.fields.get(name) for name in (ACHIEVED, DESIRED))
    if achieved is None or desired is None or (achieved.shape, achieved.dtype) != (desired.shape, desired.dtype):
        return None
    if isinstance(env, gym.vector.VectorEnv) or not env.has_wrapper_attr(REWARD):
        return None
    reward = OfMany(env, REWARD, desired, np.float32)
    return Goals(reward, OfMany(env, TERMINATED, desired, bool) if env.has_wrapper_attr(TERMINATED) else None)


class OfMany:
    """A function of an environment's, of a pair of goals or of many: called with many.

    Args:
        env: may be closed by the time that it is called.
        goal: the space of its goals.
        dtype: of the results [N].
    """

    def __init__(self, env: gym.Env, name: str, goal: Space, dtype: Any):
        self._id = env.spec.id if env.spec else type(env.unwrapped).__name__
        self._name, self._goal, self._dtype = name, goal, dtype
        self._function: Callable[..., Any] = env.get_wrapper_attr(name)

    def __call__(self, achieved: Array, desired: Array) -> Array:
        """Results [N] of goals [N, *goal]; EnvError if there are none."""
        ways = self._at_once if self._takes_many else self._singly
        try:
            found = ways(np.ascontiguousarray(achieved), np.ascontiguousarray(desired))
            if found.shape != (len(achieved),) or not np.isfinite(found).all():
                raise Nonsense(f"of {len(achieved)} pairs of goals it returned {faults.shown(found.tolist())}")
        except BaseException as error:
            if faults.is_ours(error):
                raise
            call = f"{self._name}(achieved_goal, desired_goal, info={{}})"
            raise EnvError(f"{self._id}: {call} failed\n{faults.described(error)}") from error
        return found

    def _at_once(self, achieved: Array, desired: Array) -> Array:
        return np.array(self._function(achieved, desired, {}), self._dtype)

    def _singly(self, achieved: Array, desired: Array) -> Array:
        return np.array([self._function(*pair, {}) for pair in zip(achieved, desired, strict=True)], self._dtype)

    @cached_property
    def _takes_many(self) -> bool:
        """Whether of several pairs at once it says what it says of each."""
        shape = (5, *self._goal.shape)
        achieved, desired = np.random.default_rng(0).integers(2, size=(2, *shape)).astype(self._goal.dtype)
        achieved[::2] = desired[::2]  # so that there are equal ones
        try:
            at_once, singly = self._at_once(achieved, desired), self._singly(achieved, desired)
        except BaseException as error:
            if faults.is_ours(error):
                raise
            return False  # those of a run will tell more
        return at_once.shape == (len(achieved),) and np.array_equal(at_once, singly)
