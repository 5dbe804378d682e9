"""What rlrun sees of a Gymnasium environment: its two spaces, its spec, and how an agent's action becomes its own.

Observations are Box or Discrete. A Tuple of Discrete observations (Blackjack's) becomes one Discrete with a value per
combination, which tabular agents can index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.envs import faults
from rlrun.envs.faults import Nonsense
from rlrun.errors import ConfigError
from rlrun.types import Array, EnvSpec, Space, TransitionModel


def to_space(space: gym.Space, what: str = "observation") -> Space:
    """The parts of a Gymnasium space that algorithms need.

    Discrete spaces are taken to count from 0 (`plain` and `action_map` see to it); floating point becomes float32.

    Raises:
        ConfigError: the space is neither Discrete nor Box.
    """
    if isinstance(space, gym.spaces.Discrete):
        return Space("discrete", (), np.dtype(np.int64), n=int(space.n))
    if not isinstance(space, gym.spaces.Box):
        raise ConfigError(
            "env.id",
            f"a {type(space).__name__} {what} space is not supported",
            "Discrete and Box are; wrap the environment to flatten others (gymnasium.wrappers.FlattenObservation)",
        )
    if 0 in space.shape:
        raise ConfigError("env.id", f"its {what} space {space.shape} has no elements", "there is nothing to learn from")
    dtype = np.dtype(np.float32) if np.issubdtype(space.dtype, np.floating) else np.dtype(space.dtype)
    with np.errstate(over="ignore"):  # a bound too large for float32 is no bound
        low, high = space.low.astype(dtype), space.high.astype(dtype)
    return Space("box", space.shape, dtype, low=low, high=high)


class CountFromZero(gym.ObservationWrapper):
    """Discrete observations as one number from 0: a `start` is taken off, a Tuple is read in mixed radix.

    The last part of a Tuple counts fastest.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        space: Any = env.observation_space
        self._is_tuple = isinstance(space, gym.spaces.Tuple)
        self._parts = [(int(part.n), int(part.start)) for part in (space if self._is_tuple else (space,))]
        self.observation_space = gym.spaces.Discrete(math.prod(n for n, _ in self._parts))

    def observation(self, observation: Any) -> int:
        values = tuple(observation) if self._is_tuple else (observation,)
        if len(values) != len(self._parts):
            raise Nonsense(
                f"its space has {len(self._parts)} parts, but the observation is {faults.shown(observation)}"
            )
        number = 0
        for (n, start), value in zip(self._parts, values, strict=True):
            digit = faults.whole("the observation", value) - start
            if not 0 <= digit < n:
                raise Nonsense(f"its space is Discrete({n}, start={start}), but the observation is {digit + start}")
            number = number * n + digit
        return number


def plain(env: gym.Env) -> gym.Env:
    """The environment itself, or counting its discrete observations from 0 where it does not."""
    space = env.observation_space
    shifted = isinstance(space, gym.spaces.Discrete) and space.start != 0
    tupled = isinstance(space, gym.spaces.Tuple) and all(isinstance(part, gym.spaces.Discrete) for part in space)
    return CountFromZero(env) if shifted or tupled else env


class ActionMap(Protocol):
    """From an agent's actions [E, *action] to what the environments take."""

    space: Space  # what the agent sees

    def __call__(self, action: Array) -> Array: ...


class DiscreteActions:
    """Agents count from 0; environments from `start`."""

    def __init__(self, space: gym.spaces.Discrete):
        self.space = to_space(space, "action")
        self._start = int(space.start)

    def __call__(self, action: Array) -> Array:
        return action + self._start if self._start else action


class BoxActions:
    """Continuous actions, per dimension rescaled to the environment's bounds, clipped to them, in its dtype.

    Args:
        space: the environment's action space.
        clip: bring every dimension inside its bounds.
        rescale: the range (low, high) that agents act in, mapped affinely onto the bounds; implies clipping.

    Raises:
        ConfigError: integer actions, or a rescaling of a dimension without bounds.
    """

    def __init__(self, space: gym.spaces.Box, clip: bool, rescale: Sequence[float] | None):
        self.space = to_space(space, "action")
        self._low, self._high, self._dtype = space.low, space.high, space.dtype
        self._clip = clip or rescale is not None
        self._rescale = rescale
        if not np.issubdtype(space.dtype, np.floating):
            raise ConfigError("env.id", f"Box actions of {space.dtype} are not supported", "use Discrete or float Box")
        if rescale is None:
            return
        if not space.is_bounded():
            raise ConfigError("env.rescale_action", "an action dimension has no bounds to rescale to", "leave it null")
        low, high = rescale
        self._scale = (space.high - space.low) / (high - low)
        full = np.ones(space.shape, np.float32)
        self.space = self.space._replace(low=low * full, high=high * full)

    def __call__(self, action: Array) -> Array:
        if self._rescale is not None:
            action = self._low + (action - self._rescale[0]) * self._scale
        if self._clip:
            action = np.clip(action, self._low, self._high)
        return action.astype(self._dtype)  # always a copy: an environment may keep its action


def action_map(space: gym.Space, clip: bool = True, rescale: Sequence[float] | None = None) -> ActionMap:
    """The map that fits a Gymnasium action space; ConfigError if none does."""
    if isinstance(space, gym.spaces.Box):
        return BoxActions(space, clip, rescale)
    to_space(space, "action")  # refuses what is not Discrete
    return DiscreteActions(cast(gym.spaces.Discrete, space))


def read_spec(env: gym.Env | gym.vector.VectorEnv, obs_space: gym.Space, actions: ActionMap, num_envs: int) -> EnvSpec:
    """The EnvSpec of environments with this (single) observation space, whose actions go through `actions`."""
    spec = env.spec
    return EnvSpec(
        id=spec.id if spec else type(env.unwrapped).__name__,
        obs_space=to_space(obs_space)._replace(one_hot=_is_one_hot(env, obs_space)),
        action_space=actions.space,
        num_envs=num_envs,
        max_episode_steps=_time_limit(spec),
        reward_threshold=spec.reward_threshold if spec else None,
        model=_model(env, obs_space, actions.space),
        render_modes=tuple(env.metadata.get("render_modes") or ()),
    )


def _time_limit(spec: GymSpec | None) -> int | None:
    """Steps after which an episode is cut at the latest. Atari games count it in frames, in an argument of theirs."""
    if spec is None:
        return None
    if spec.max_episode_steps is not None:
        return spec.max_episode_steps
    frames, skip = (spec.kwargs.get(name) for name in ("max_num_frames_per_episode", "frameskip"))
    return frames // skip if isinstance(frames, int) and isinstance(skip, int) and skip > 0 else None


def _is_one_hot(env: gym.Env | gym.vector.VectorEnv, obs_space: gym.Space) -> bool:
    """Whether the environment declares its vectors to be one-hot: bounds of 0 and 1 alone do not make them so."""
    return isinstance(obs_space, gym.spaces.Box) and len(obs_space.shape) == 1 and bool(env.metadata.get("one_hot"))


def _model(env: gym.Env | gym.vector.VectorEnv, obs_space: gym.Space, actions: Space) -> TransitionModel | None:
    """The environment's table `P` of transitions, if it has one for all its states and actions, counted from 0."""
    table = getattr(env.unwrapped, "P", None)
    if not isinstance(table, dict) or not isinstance(obs_space, gym.spaces.Discrete):
        return None
    states, pairs = range(int(obs_space.n)), range(actions.n)
    complete = table.keys() == set(states) and all(table[s].keys() == set(pairs) for s in states)
    return table if complete else None
