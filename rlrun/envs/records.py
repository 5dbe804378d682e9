"""What an environment shows, checked part by part: numbers and arrays of its spaces, Dicts and Tuples as records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlrun.envs import faults
from rlrun.envs.faults import Nonsense
from rlrun.envs.spaces import COMPOSITE, leaves, to_space
from rlrun.types import MASK, Array, Space


def reader(space: gym.Space, what: str = "the observation") -> Callable[[Any], Any]:
    """What turns a value of a space (no Dict or Tuple) into a number or an array as `to_space` has it.

    It raises Nonsense for what cannot be. Bounds of a Box are not checked: many environments overstep theirs, and
    nothing depends on them.
    """
    ours = to_space(space)

    start: Any = getattr(space, "start", 0)

    def number(value: Any) -> int:
        found = faults.whole(what, value)
        if not 0 <= found - start < ours.n:
            raise Nonsense(f"its space is {space}, but {what} is {found}")
        return int(found - start)

    def array(value: Any) -> Array:
        found = np.asarray(value)
        if found.shape != ours.shape or not np.can_cast(found.dtype, ours.dtype, "same_kind"):
            raise Nonsense(f"its space is {ours.dtype} {ours.shape}, but {what} is {found.dtype} {found.shape}")
        return found

    def choices(value: Any) -> Array:
        found = array(value) - start
        if ((found < 0) | (found >= space.nvec)).any():  # type: ignore[attr-defined]
            raise Nonsense(f"its space is {faults.shown(space)}, but {what} is {faults.shown(value)}")
        return found

    if isinstance(space, gym.spaces.Discrete):
        return number
    return choices if isinstance(space, gym.spaces.MultiDiscrete) else array


class Record:
    """An observation of several parts, or with a mask, as one record: `record(obs, info, over)`.

    The record belongs to this object, and the next call overwrites it.

    Args:
        env: shows the observations.
        space: what they become, its mask included.
        source: where the masks are told, as `mask_source` found it; "" without masks.
        choices: how many actions there are to choose from, one number per choice.
    """

    def __init__(self, env: gym.Env, space: Space, source: str, choices: tuple[int, ...]):
        self._record = np.zeros((), space.dtype)
        shown: Any = env.observation_space
        parts = leaves(shown) if isinstance(shown, COMPOSITE) else [("obs", (), shown)]
        self._parts = [
            (self._record[name], path, reader(part, f"the observation's {name!r}" if path else "the observation"))
            for name, path, part in parts
            if not (name == MASK and source == "field")
        ]
        self._source = source
        self.mask = self._record[MASK] if source else None
        self._method = env.get_wrapper_attr("action_masks") if source == "method" else None
        self._choices = np.cumsum([0, *choices[:-1]])

    def __call__(self, obs: Any, info: Any, over: bool) -> Array:
        """The record [] of an observation; its mask may leave nothing to do only where the episode is over."""
        for column, path, read in self._parts:
            column[...] = read(_inside(obs, path))
        if self.mask is not None:
            self._take(self.mask, self._told(obs, info), over)
        return self._record

    def _told(self, obs: Any, info: Any) -> Any:
        if self._method is not None:
            return self._method()
        if self._source == "field":
            return _inside(obs, (MASK,))
        if not isinstance(info, dict) or MASK not in info:
            raise Nonsense(f"info has no {MASK!r}; if it has one at all, it must have it in every reset and step")
        return info[MASK]

    def _take(self, mask: Array, told: Any, over: bool) -> None:
        flat = np.concatenate([np.ravel(part) for part in told]) if isinstance(told, tuple | list) else np.ravel(told)
        if flat.shape != mask.shape or flat.dtype.kind not in "biuf":
            raise Nonsense(f"the action mask is {faults.shown(told)}, its actions take {len(mask)} times true or false")
        mask[...] = flat != 0
        if not over and not np.logical_or.reduceat(mask, self._choices).all():
            raise Nonsense(f"the action mask leaves nothing to do: {faults.shown(told)}")


def _inside(obs: Any, path: tuple[Any, ...]) -> Any:
    """A part of an observation."""
    value = obs
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            raise Nonsense(f"the observation has no {key!r}: it is {faults.shown(obs)}") from None
    return value
