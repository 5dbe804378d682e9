"""What may stand between a vector of environments and the agent: reward scaling and frame stacking.

A wrapper is itself a VectorEnv, adds its own entries to the state of the one inside, and never touches the episode
statistics: those were taken from raw rewards before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rlrun.envs.spaces import record
from rlrun.errors import ConfigError
from rlrun.types import Array, Metrics, Space, StateDict, Step, VectorEnv


class VectorWrapper:
    """Passes everything through; a wrapper overrides what it changes."""

    def __init__(self, env: VectorEnv):
        self.env = env
        self.spec = env.spec
        self.num_envs = env.num_envs
        self.obs = env.obs  # the same array for the life of the vector

    def reset(self, seeds: Sequence[int]) -> Array:
        return self.env.reset(seeds)

    def reset_one(self, env: int, seed: int) -> Array:
        return self.env.reset_one(env, seed)

    def step(self, action: Array) -> Step:
        return self.env.step(action)

    def metrics(self) -> Metrics:
        return self.env.metrics()

    @property
    def caveat(self) -> str:
        return self.env.caveat

    @property
    def pulls(self) -> Array | None:
        return self.env.pulls

    def prove(self, check: Callable[[], None] | None = None) -> None:
        self.env.prove(check)

    def state_dict(self) -> StateDict:
        return self.env.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        self.env.load_state_dict(state)

    def close(self) -> None:
        self.env.close()


class TransformReward(VectorWrapper):
    """reward * scale, then limited to +-clip."""

    def __init__(self, env: VectorEnv, scale: float, clip: float | None):
        super().__init__(env)
        self._scale, self._clip = scale, clip

    def step(self, action: Array) -> Step:
        step = self.env.step(action)
        if not np.count_nonzero(step.reward):  # 0 remains 0: in most games most steps are worth nothing
            return step
        return step._replace(reward=transformed(step.reward, self._scale, self._clip))


def transformed(reward: Array, scale: float, clip: float | None) -> Array:
    """Rewards [...] float32, scaled and then limited; the array itself where that changes nothing."""
    if scale != 1:
        reward = reward * np.float32(scale)
    return reward if clip is None else np.minimum(np.maximum(reward, -clip), clip)


class FrameStack(VectorWrapper):
    """The last `size` observations as one, [E, size, *obs], oldest first; of a Dict every Box, and the rest as it is.

    An episode starts with its first observation repeated; no stack spans two episodes.

    Raises:
        ConfigError: there is no Box to be stacked.
    """

    def __init__(self, env: VectorEnv, size: int):
        super().__init__(env)
        space = self.spec.obs_space
        boxes = [name for name, part in space.fields.items() if part.kind == "box"]
        if space.kind != "box" and not boxes:
            raise ConfigError("env.frame_stack", f"{space.unmasked.kind} observations cannot be stacked", "leave it 1")
        if boxes:
            fields = {**space.fields, **{name: stacked(space.fields[name], size) for name in boxes}}
            space = space._replace(dtype=record(fields), fields=fields)
        else:
            space = stacked(space, size)
        self._boxes, self._others = boxes, [name for name in space.fields if name not in boxes]
        self.spec = replace(self.spec, obs_space=space)
        self.obs = np.zeros((self.num_envs, *space.shape), space.dtype)
        self._frame = math.prod(space.shape[1:])

    def reset(self, seeds: Sequence[int]) -> Array:
        self._begin(self.obs, self.env.reset(seeds))
        return self.obs

    def reset_one(self, env: int, seed: int) -> Array:
        self._begin(self.obs[env : env + 1], np.asarray(self.env.reset_one(env, seed))[None])
        return self.obs[env]

    def step(self, action: Array) -> Step:
        step = self.env.step(action)
        if self._boxes:
            for stacks in self._stacks(self.obs):
                for place in range(stacks.shape[1] - 1):  # one by one they do not overlap, and are copied once
                    stacks[:, place] = stacks[:, place + 1]
        else:  # in one go, through all environments: where a frame came from the next one's stack, the newest will be
            flat = self.obs.reshape(-1)
            flat[: -self._frame] = flat[self._frame :]
        final_obs = {}
        for e, last in step.final_obs.items():
            stack = self.obs[e : e + 1].copy()
            self._put(stack, last[None])
            final_obs[e] = stack[0, ...]
        self._put(self.obs, step.obs)
        for e in final_obs:
            self._begin(self.obs[e : e + 1], step.obs[e : e + 1])
        return step._replace(obs=self.obs, final_obs=final_obs)

    def state_dict(self) -> StateDict:
        return {**self.env.state_dict(), "frames": self.obs.copy()}

    def load_state_dict(self, state: StateDict) -> None:
        self.env.load_state_dict(state)
        if state["grade"] == "exact":
            self.obs[:] = state["frames"]
        else:
            self._begin(self.obs, self.env.obs)

    def _stacks(self, obs: Array) -> list[Array]:
        """Views of what is stacked in observations [E, ...]."""
        return [obs[name] for name in self._boxes] if self._boxes else [obs]

    def _begin(self, obs: Array, first: Array) -> None:
        """Observations [E, ...] at the beginning of an episode."""
        for stacks, frame in zip(self._stacks(obs), self._stacks(first), strict=True):
            stacks[:] = frame[:, None]
        for name in self._others:
            obs[name] = first[name]

    def _put(self, obs: Array, newest: Array) -> None:
        """The newest frames at the end of their stacks."""
        for stacks, frame in zip(self._stacks(obs), self._stacks(newest), strict=True):
            stacks[:, -1] = frame
        for name in self._others:
            obs[name] = newest[name]


def stacked(space: Space, size: int) -> Space:
    """The space of `size` values of a Box as one."""
    low, high = (np.stack([np.asarray(bound)] * size) for bound in (space.low, space.high))
    return space._replace(shape=(size, *space.shape), low=low, high=high, one_hot=False, stack=size)
