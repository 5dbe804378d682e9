"""What is known of an environment as plain data, and a stand-in that shows what it is given.

A run writes it down, so that its policy can be used without the environment, which need not even be installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.envs.spaces import mask_size, to_space
from rlrun.types import MASK, Array, EnvSpec, Space

LARGEST = 2**24  # elements of a space that is made of what somebody wrote down
METADATA = ("one_hot", "render_modes")  # what is read of an environment's


class NotRecorded(ValueError):
    """What was written down is no space, or there is no way to write one down."""


def describe(space: gym.Space) -> dict[str, Any]:
    """A space as JSON takes it; NotRecorded for kinds that have no fixed form (Text, Sequence, Graph)."""
    kind = type(space).__name__
    match space:
        case gym.spaces.Discrete():
            return {"kind": kind, "n": int(space.n), "start": int(space.start), "dtype": space.dtype.name}
        case gym.spaces.Box():
            bounds = {"low": _listed(space.low), "high": _listed(space.high)}
            return {"kind": kind, "shape": list(space.shape), "dtype": space.dtype.name, **bounds}
        case gym.spaces.MultiDiscrete():
            return {"kind": kind, "nvec": space.nvec.tolist(), "start": space.start.tolist(), "dtype": space.dtype.name}
        case gym.spaces.MultiBinary():
            return {"kind": kind, "shape": space.n if isinstance(space.n, int) else list(space.shape)}
        case gym.spaces.Tuple():
            return {"kind": kind, "spaces": [describe(part) for part in space]}
        case gym.spaces.Dict():
            return {"kind": kind, "spaces": [[name, describe(part)] for name, part in space.items()]}
    raise NotRecorded(f"a {kind} space has no fixed form")


def rebuild(data: Any) -> gym.Space:
    """The space that was described.

    Raises:
        NotRecorded: the data describe none.
    """
    try:
        return _rebuilt(data)
    except (AssertionError, AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise NotRecorded(f"no space: {error!r}"[:200]) from error


def _rebuilt(data: Mapping[str, Any]) -> gym.Space:
    match data["kind"]:
        case "Discrete":
            return gym.spaces.Discrete(data["n"], start=data["start"], dtype=_dtype(data))
        case "Box":
            shape, dtype = _shape(data), _dtype(data)
            low, high = (_array(data[name], shape, dtype) for name in ("low", "high"))
            return gym.spaces.Box(low, high, shape, dtype)
        case "MultiDiscrete":
            return gym.spaces.MultiDiscrete(data["nvec"], start=data["start"], dtype=_dtype(data))
        case "MultiBinary":
            shape = _shape(data)
            return gym.spaces.MultiBinary(shape if isinstance(data["shape"], list) else shape[0])
        case "Tuple":
            return gym.spaces.Tuple([_rebuilt(part) for part in data["spaces"]])
        case "Dict":
            return gym.spaces.Dict([(name, _rebuilt(part)) for name, part in data["spaces"]])
    raise ValueError(f"there is no space {data['kind']!r}")


def _listed(bound: Array) -> Any:
    """A bound as the one number that it is everywhere, else as a list; infinity, which JSON lacks, as text."""
    values = np.unique(bound)
    return _told(values.item() if len(values) == 1 else bound.tolist())


def _told(value: Any) -> Any:
    if isinstance(value, list):
        return [_told(item) for item in value]
    return value if math.isfinite(value) else str(value)


def _array(listed: Any, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    values = np.array(listed, object)
    if values.shape not in ((), shape):
        raise ValueError(f"bounds of shape {values.shape} in a space of shape {shape}")
    numbers = values.astype(np.float64) if dtype.kind == "f" else values
    return np.broadcast_to(numbers.astype(dtype), shape).copy()


def _shape(data: Mapping[str, Any]) -> tuple[int, ...]:
    sizes = data["shape"] if isinstance(data["shape"], list) else [data["shape"]]
    shape = tuple(int(size) for size in sizes)
    if not 0 <= math.prod(shape) <= LARGEST or any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    return shape


def _dtype(data: Mapping[str, Any]) -> np.dtype:
    dtype = np.dtype(str(data["dtype"]))
    if dtype.kind not in "biuf":
        raise ValueError(f"dtype {dtype}")
    return dtype


@dataclass
class Record:
    """What is known of an environment without opening it. The spaces are those of one environment, all wrappers on."""

    id: str
    observation_space: gym.Space
    action_space: gym.Space
    max_episode_steps: int | None
    masks: str  # where it tells which actions can be taken, as `mask_source` found it
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, env: gym.Env | gym.vector.VectorEnv, masks: str, max_episode_steps: int | None) -> Record:
        """The record of an environment, or of what a vector is made of."""
        single = "single_" if isinstance(env, gym.vector.VectorEnv) else ""
        shown, taken = (getattr(env, f"{single}{name}_space") for name in ("observation", "action"))
        metadata = {name: env.metadata[name] for name in METADATA if env.metadata.get(name)}
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        return cls(name, shown, taken, max_episode_steps, masks, metadata)

    @classmethod
    def like(cls, spec: EnvSpec) -> Record:
        """The record of an environment that shows and takes what a spec says, numbers or arrays of them."""
        shown, taken = map(_as_gymnasium, (spec.obs_space, spec.action_space))
        return cls(spec.id, shown, taken, spec.max_episode_steps, "", {"one_hot": spec.obs_space.one_hot})

    def to_json(self) -> dict[str, Any]:
        """The record as `from_json` reads it; NotRecorded for spaces without a fixed form."""
        spaces = {name: describe(getattr(self, name)) for name in ("observation_space", "action_space")}
        return {**vars(self), **spaces, "metadata": dict(self.metadata)}

    @classmethod
    def from_json(cls, data: Any) -> Record:
        """NotRecorded if the data are no record."""
        if not isinstance(data, Mapping) or data.keys() != cls.__dataclass_fields__.keys():
            raise NotRecorded("no record of an environment")
        limit, texts = data["max_episode_steps"], (data["id"], data["masks"])
        if not all(isinstance(text, str) for text in texts) or not isinstance(data["metadata"], Mapping):
            raise NotRecorded("no record of an environment")
        if limit is not None and type(limit) is not int:
            raise NotRecorded(f"{limit!r} is no number of steps")
        spaces = {name: rebuild(data[name]) for name in ("observation_space", "action_space")}
        return cls(**{**data, **spaces})


def _as_gymnasium(space: Space) -> gym.Space:
    if space.kind == "discrete":
        return gym.spaces.Discrete(space.n)
    return gym.spaces.Box(np.asarray(space.low), np.asarray(space.high))


class StandIn(gym.Env):
    """An environment that shows what it is given to show, in place of one that is not there.

    `obs` is its next observation, `mask` says which actions can then be taken, and `over` whether the episode before
    ended. It does not care what is done.
    """

    def __init__(self, record: Record):
        self.observation_space, self.action_space = record.observation_space, record.action_space
        self.metadata = dict(record.metadata)
        self.spec = GymSpec(record.id, max_episode_steps=record.max_episode_steps)
        self._masks = record.masks
        self.all_actions = np.ones(mask_size(to_space(record.action_space, "action")), bool) if record.masks else None
        self.obs: Any = None
        self.mask: Any = self.all_actions
        self.over = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.obs, self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.obs, 0.0, self.over, False, self._info()

    def action_masks(self) -> Any:
        return self.mask

    def _info(self) -> dict[str, Any]:
        return {MASK: self.mask} if self._masks == "info" else {}
