"""What an agent sees of observations that come from elsewhere: made as in an evaluation, with nothing to be stepped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlrun.envs.recorded import Record, StandIn
from rlrun.envs.spaces import ActionMap
from rlrun.types import Array, VectorEnv


class Shown(NamedTuple):
    """Observations of N environments at one moment."""

    obs: Sequence[Any]  # [N] as the environments have them
    masks: Sequence[Any] | None  # [N] which actions can be taken; None: all
    begins: Array  # [N] bool: the first of an episode


class View:
    """From observations of environments to those of an agent, and from an agent's actions to theirs.

    Args:
        record: what the environments are.
        vector: what stands-in for them are seen through.
        actions: how an agent's actions become theirs.
        frames: how many of the last observations an agent sees at once.
    """

    def __init__(
        self, record: Record, vector: Callable[[list[gym.Env]], VectorEnv], actions: ActionMap, frames: int = 1
    ):
        self.observation_space, self.action_space = record.observation_space, record.action_space
        self.frames, self.actions = frames, actions
        self.takes_masks = record.masks in ("method", "info")  # beside the observations
        self._record, self._vector = record, vector
        self._envs: list[StandIn] = []  # as many as observations the last time
        self._through: Any = None

    def __call__(self, recent: Sequence[Shown]) -> Array:
        """What an agent sees [N, *obs] after these observations; the newest comes last. The next call overwrites it.

        Raises:
            EnvError: an observation is not of the space.
        """
        count = len(recent[-1].obs)
        if count != len(self._envs):
            self._envs = [StandIn(self._record) for _ in range(count)]
            self._through = self._vector([*self._envs])
        space = self._through.spec.action_space
        nothing = np.zeros((count, *space.shape), space.dtype)
        for number, shown in enumerate(recent):
            for e, env in enumerate(self._envs):
                env.obs, env.over = shown.obs[e], bool(shown.begins[e])
                env.mask = env.all_actions if shown.masks is None else shown.masks[e]
            seen = self._through.step(nothing).obs if number else self._through.reset([0] * count)
        found: Array = seen
        return found
