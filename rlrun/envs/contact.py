"""The one boundary between rlrun and an environment: what comes from it is checked here, and its failures get a name.

An environment may return the same array in every step, change it later, return what is not of its space, or raise
whatever it likes. Everything is checked in every step; what is as it was the last time passes by identity and costs
next to nothing. Whoever calls copies the observation at once: it belongs to the environment. Whether the numbers are
finite is asked of all environments of a vector together (vector/base.py), and of the reward here.
"""

from __future__ import annotations

import logging
from typing import Any

import gymnasium as gym
import numpy as np
from numpy import ndarray

from rlrun.envs import faults
from rlrun.envs.faults import Nonsense
from rlrun.envs.records import Record, reader
from rlrun.envs.spaces import masked, plain, to_space
from rlrun.errors import EnvError
from rlrun.types import Array

log = logging.getLogger(__name__)

LARGEST = float(np.finfo(np.float32).max)  # rewards are float32


class Contact:
    """One environment, checked.

    Args:
        env: may count its discrete observations from wherever it likes; seen from here it counts from 0.
        index: its place in the vector, for messages.
        masks: where it tells which actions can be taken, as `mask_source` found it; "" to take no notice.

    Raises:
        EnvError: from `reset` and `step`, if the environment raises anything or returns what cannot be.
    """

    def __init__(self, env: gym.Env, index: int = 0, masks: str = ""):
        self.env = plain(env)
        self.index = index
        self.id = env_id(env)
        self.space = to_space(self.env.observation_space)
        actions = to_space(env.action_space, "action") if masks else None
        if actions:
            self.space = masked(self.space, actions)
        choices = (actions.nvec or (actions.n,)) if actions else ()
        self._record = Record(self.env, self.space, masks, choices) if self.space.fields else None
        self._read = reader(self.env.observation_space) if self._record is None else None
        self._n, self._shape = self.space.n, self.space.shape
        self._dtype: Any = None  # of the last observation; what comes again needs no second look
        self._seed, self._episode, self._steps = 0, 0, 0

    def reset(self, seed: int | None = None) -> Any:
        """Start an episode, from a seed or where the environment's own stream stands. Returns the observation."""
        if seed is None:
            self._episode += 1
        else:
            self._seed, self._episode = seed, 0
        self._steps = 0
        try:
            result = self.env.reset() if seed is None else self.env.reset(seed=seed)
            if not (isinstance(result, tuple) and len(result) == 2):
                raise Nonsense(f"it must return (obs, info), not {_form(result)}")
            obs, info = result
            if not isinstance(info, dict):
                raise Nonsense(f"info must be a dict, not {faults.shown(info)}")
            known = type(obs) is ndarray and obs.dtype is self._dtype and obs.shape == self._shape
            return obs if known else self._seen(obs, info, False)
        except BaseException as error:
            if faults.is_ours(error):
                raise
            raise self.failure("reset()", error) from error

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        """Step it: (obs, reward, terminated, truncated, info); the observation is the environment's own array."""
        self._steps += 1
        try:
            result = self.env.step(action)
            try:
                obs, reward, terminated, truncated, info = result
            except (TypeError, ValueError):
                what = f"it must return (obs, reward, terminated, truncated, info), not {_form(result)}"
                raise Nonsense(what) from None
            if self._n:
                if type(obs) is not int or not 0 <= obs < self._n:
                    obs = self._seen(obs, info, terminated)
            elif type(obs) is not ndarray or obs.dtype is not self._dtype or obs.shape != self._shape:
                obs = self._seen(obs, info, terminated)
            if type(reward) is not float:
                reward = real(reward)
            if not -LARGEST <= reward <= LARGEST:
                raise Nonsense(f"the reward is {reward}")
            if terminated is not True and terminated is not False:
                terminated = _flag("terminated", terminated)
            if truncated is not True and truncated is not False:
                truncated = _flag("truncated", truncated)
            if type(info) is not dict and not isinstance(info, dict):
                raise Nonsense(f"info must be a dict, not {faults.shown(info)}")
            return obs, reward, terminated, truncated, info
        except BaseException as error:
            if faults.is_ours(error):
                raise
            raise self.failure(faults.step_of(action), error) from error

    @property
    def mask(self) -> Array | None:
        """The mask of the last observation; None without masks."""
        return self._record.mask if self._record else None

    def close(self) -> None:
        """Close it. One that cannot even do that has been of use before: it costs a warning."""
        try:
            self.env.close()
        except BaseException as error:
            if faults.is_ours(error):
                raise
            log.warning("%s", self.failure("close()", error))

    def failure(self, call: str, error: BaseException) -> EnvError:
        """An error in a call, with where the environment stands."""
        when = faults.moment(self._seed, self._episode, self._steps)
        return faults.failure(self.id, self.index, when, call, error)

    def _seen(self, value: Any, info: Any, over: bool) -> Any:
        """An observation that is not known to be as it was the last time."""
        if self._read is None:
            return self._record(value, info, over)  # type: ignore[misc]
        obs = self._read(value)
        if not (self._n or self.space.nvec):  # whose numbers have to be looked at every time
            self._dtype = obs.dtype
        return obs


def env_id(env: gym.Env) -> str:
    """The id it was registered under, or the name of its class."""
    return env.spec.id if env.spec else type(env.unwrapped).__name__


def real(value: Any, what: str = "the reward") -> float:
    """A real number, or an array of just one; Nonsense names anything else."""
    if isinstance(value, float | int):
        return float(value)
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "biuf":
        raise Nonsense(f"{what} is {faults.shown(value)}, not a number")
    return float(number.item())


def _flag(name: str, value: Any) -> bool:
    """True or False, also as NumPy's, as an array of one, or as 0 and 1."""
    flag = np.asarray(value)
    if flag.size != 1 or flag.dtype.kind not in "biu" or flag.item() not in (0, 1):
        raise Nonsense(f"`{name}` is {faults.shown(value)}, not true or false")
    return bool(flag.item())


def _form(result: Any) -> str:
    if isinstance(result, tuple | list):
        return f"{len(result)} values"
    return f"{type(result).__name__} {faults.shown(result)}" if result is not None else "None"
