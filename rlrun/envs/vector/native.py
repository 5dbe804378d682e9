"""The environment's own vectorised implementation, where it has one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from rlrun.envs.contact import LARGEST
from rlrun.envs.faults import Nonsense, described, is_ours, shown, step_of
from rlrun.envs.recipe import Recipe
from rlrun.envs.spaces import COMPOSITE, ActionMap, read_spec
from rlrun.envs.state import Proof, Unsaveable
from rlrun.envs.vector.base import Together
from rlrun.envs.vector.in_process import InProcess, in_process
from rlrun.errors import ConfigError, EnvError
from rlrun.types import Array, StateDict, Step, VectorEnv

log = logging.getLogger(__name__)


class Native(Together):
    """An environment's own vector, which must reset in the same step. Most have one random stream, not one per env.

    One whose metadata say `"seeds": "each"` takes a seed for every environment, and starts those of a `reset_mask`.

    Args:
        envs: a Gymnasium vector.
        actions: how an agent's actions become the environment's.

    Raises:
        ConfigError: the vector resets in the next step or not at all, or has spaces of several parts.
    """

    def __init__(self, envs: gym.vector.VectorEnv, actions: ActionMap):
        _require_same_step(envs)
        _require_one_part(envs)
        super().__init__(read_spec(envs, envs.single_observation_space, actions, envs.num_envs), actions)
        self.envs = envs
        self._seeds_each = envs.metadata.get("seeds") == "each"
        self._inner: Any = envs.unwrapped  # what may have a state_dict

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start all environments; where there is one stream for all, the first seed is its. Returns obs [E, *obs]."""
        all_seeds = self._begin(seeds)
        return self._started(seed=all_seeds if self._seeds_each else all_seeds[0])

    def reset_one(self, env: int, seed: int) -> Array:
        """Abandon one environment's episode and start another from a seed. Returns its obs [*obs]."""
        if not self._seeds_each:
            raise EnvError(f"{self.spec.id}: a native vector cannot start one environment by itself")
        self._begin_one(env, int(seed))
        self._started(seed=self._seeds, options={"reset_mask": np.arange(self.num_envs) == env})
        return self.obs[env]

    def _started(self, **how: Any) -> Array:
        try:
            result = self.envs.reset(**how)
            if not (isinstance(result, tuple) and len(result) == 2):
                raise Nonsense(f"it must return (obs, info), not {type(result).__name__}")
            self.obs[:] = self._checked(result[0])
        except BaseException as error:
            if is_ours(error):
                raise
            raise self._failure("reset()", error) from error
        self._require_finite(self.obs, range(self.num_envs))
        return self.obs

    def step(self, action: Array) -> Step:
        """Step all environments; those whose episode ends are reset at once."""
        actions = np.array(self._actions(action))  # a copy: a vector may keep its actions or change them
        try:
            obs, reward, terminated, truncated, info = self.envs.step(actions)
            reward, terminated, truncated = self._numbers(reward), self._flags(terminated), self._flags(truncated)
            if not isinstance(info, dict):
                raise Nonsense(f"info must be a dict, not {shown(info)}")
            result = self._checked(obs), reward, terminated, truncated, info
        except BaseException as error:
            if is_ours(error):
                raise
            raise self._failure(step_of(action.tolist()), error) from error
        return self._digest(action, result)

    def close(self) -> None:
        try:
            self.envs.close()
        except BaseException as error:
            if is_ours(error):
                raise
            log.warning("%s: close() failed: %s", self.spec.id, described(error))

    def _checked(self, obs: Any) -> Array:
        """Observations [E, *obs] of the space."""
        obs, space = np.asarray(obs), self.spec.obs_space
        fits = obs.dtype == space.dtype or np.can_cast(obs.dtype, space.dtype, "same_kind")
        if obs.shape != self.obs.shape or not fits:
            wanted = f"{space.dtype} {self.obs.shape}"
            raise Nonsense(f"its observations must be {wanted}, but they are {obs.dtype} {obs.shape}")
        if space.n and (obs.min() < 0 or obs.max() >= space.n):
            raise Nonsense(f"its space is Discrete({space.n}), but the observations are {shown(obs.tolist())}")
        if space.nvec and (obs.min() < 0 or (obs >= np.reshape(space.nvec, space.shape)).any()):
            raise Nonsense(
                f"its space is MultiDiscrete({list(space.nvec)}), but the observations are {shown(obs.tolist())}"
            )
        return obs

    def _numbers(self, reward: Any) -> Array:
        """Rewards float64 [E]."""
        reward = np.asarray(reward)
        if reward.shape != (self.num_envs,) or reward.dtype.kind not in "biuf":
            raise Nonsense(f"its rewards are {reward.dtype} {reward.shape}, not a number per environment")
        whole = reward.dtype.kind != "f"  # and none too large
        reward = reward.astype(np.float64)
        if not (whole or sum(map(abs, reward.tolist())) <= LARGEST or (np.abs(reward) <= LARGEST).all()):
            raise Nonsense(f"the rewards are {shown(reward.tolist())}")
        return reward

    def _flags(self, flags: Any) -> Array:
        """`terminated` or `truncated` [E] as bool, the caller's own."""
        flags = np.array(flags)
        if flags.shape != (self.num_envs,) or flags.dtype.kind != "b":
            raise Nonsense(f"`terminated` and `truncated` must be bool [{self.num_envs}], not {flags.dtype}")
        return flags

    def _failure(self, call: str, error: BaseException) -> EnvError:
        return EnvError(f"{self.spec.id}: the vector (seed {self._seeds[0]}) failed in {call}\n{described(error)}")

    def _find_proof(self, check: Callable[[], None] | None) -> Proof:
        return Proof("" if hasattr(self._inner, "state_dict") else "its own vector cannot save its state")

    def _doubt(self, states: list[StateDict]) -> str:
        return ""  # it speaks for itself

    def _capture(self) -> list[StateDict]:
        try:
            return [self._inner.state_dict()]
        except BaseException as error:
            if is_ours(error):
                raise
            raise Unsaveable(f"its state_dict() failed: {described(error)}") from error

    def _restore(self, states: list[StateDict]) -> None:
        self._inner.load_state_dict(states[0])


class _Single(gym.Env):
    """A vector of one as a plain environment: it ends its episode by showing the final observation."""

    def __init__(self, envs: gym.vector.VectorEnv):
        _require_same_step(envs)
        self._envs = envs
        self.spec, self.metadata = envs.spec, envs.metadata
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._envs.reset(seed=seed)[0][0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self._envs.step(np.asarray(action)[None])
        last = info["final_obs"] if terminated[0] or truncated[0] else obs
        return last[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def close(self) -> None:
        self._envs.close()


def native(recipe: Recipe, num_envs: int, *, evaluation: bool = False) -> VectorEnv:
    """The environment's own vectorised implementation, where it has one; one random stream for all."""
    if not evaluation or recipe.seeds_each:
        envs = recipe.vector(num_envs)
        return Native(envs, recipe.actions(envs.single_action_space))
    # every evaluation episode has a seed of its own, which this vector cannot take
    if recipe.spec.entry_point is not None:
        return in_process(recipe, num_envs)
    singles = [_Single(recipe.vector(1)) for _ in range(num_envs)]
    return InProcess(singles, recipe.actions(singles[0].action_space))


def _require_one_part(envs: gym.vector.VectorEnv) -> None:
    for what, space in (("observations", envs.single_observation_space), ("actions", envs.single_action_space)):
        if isinstance(space, COMPOSITE):
            kind = type(space).__name__
            raise ConfigError(
                "env.vector",
                f"{type(envs.unwrapped).__name__} has {what} of several parts ({kind}), one array for each of them",
                "use env.vector=in_process or subprocess, which put them together",
            )


def _require_same_step(envs: gym.vector.VectorEnv) -> None:
    mode = envs.metadata.get("autoreset_mode")
    if mode == AutoresetMode.SAME_STEP:
        return
    said = f"resets in mode {mode.value}" if isinstance(mode, AutoresetMode) else "does not say when it resets"
    raise ConfigError(
        "env.vector",
        f"{type(envs.unwrapped).__name__} {said}: its resets would end up in the data as transitions that never were",
        "use env.vector=in_process, or a vector whose metadata['autoreset_mode'] is AutoresetMode.SAME_STEP",
    )
