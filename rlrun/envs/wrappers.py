"""What may stand between a vector of environments and the agent: reward scaling and frame stacking.

A wrapper is itself a VectorEnv, adds its own entries to the state of the one inside, and never touches the episode
statistics: those were taken from raw rewards before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rlrun.errors import ConfigError
from rlrun.types import Array, Metrics, StateDict, Step, VectorEnv


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
        self._scale, self._clip = np.float32(scale), clip

    def step(self, action: Array) -> Step:
        step = self.env.step(action)
        reward = step.reward * self._scale
        if self._clip is not None:
            np.clip(reward, -self._clip, self._clip, out=reward)
        return step._replace(reward=reward)


class FrameStack(VectorWrapper):
    """The last `size` observations as one, [E, size, *obs], oldest first.

    An episode starts with its first observation repeated; no stack spans two episodes.
    """

    def __init__(self, env: VectorEnv, size: int):
        super().__init__(env)
        space = self.spec.obs_space
        if space.kind != "box":
            raise ConfigError("env.frame_stack", f"{space.kind} observations cannot be stacked", "leave it 1")
        low, high = (np.stack([np.asarray(bound)] * size) for bound in (space.low, space.high))
        self.spec = replace(
            self.spec,
            obs_space=space._replace(shape=(size, *space.shape), low=low, high=high, one_hot=False, stack=size),
        )
        self.obs = np.zeros((self.num_envs, size, *space.shape), space.dtype)

    def reset(self, seeds: Sequence[int]) -> Array:
        self.obs[:] = self.env.reset(seeds)[:, None]
        return self.obs

    def reset_one(self, env: int, seed: int) -> Array:
        self.obs[env] = self.env.reset_one(env, seed)
        return self.obs[env]

    def step(self, action: Array) -> Step:
        step = self.env.step(action)
        self.obs[:, :-1] = self.obs[:, 1:]
        final_obs = {e: np.concatenate((self.obs[e, :-1], last[None])) for e, last in step.final_obs.items()}
        self.obs[:, -1] = step.obs
        for e in final_obs:
            self.obs[e] = step.obs[e]
        return step._replace(obs=self.obs, final_obs=final_obs)

    def state_dict(self) -> StateDict:
        return {**self.env.state_dict(), "frames": self.obs.copy()}

    def load_state_dict(self, state: StateDict) -> None:
        self.env.load_state_dict(state)
        self.obs[:] = state["frames"] if state["grade"] == "exact" else self.env.obs[:, None]
