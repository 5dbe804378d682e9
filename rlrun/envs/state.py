"""The state of a Gymnasium environment in the middle of an episode, as plain data and without pickle.

A layer (wrapper or environment) with `state_dict` and `load_state_dict` speaks for itself. Of any other, the attributes
that hold plain data are taken: numbers, strings, arrays, random generators, and small lists, tuples, sets, dicts and
deques of those. What cannot change (spaces, functions) is left out, and so are large tables, such as a transition
model, while they are as they were in the new environment; `tables` remembers that. An attribute of any other kind, such
as a physics engine's or a container that has grown too large, may hide state: then there is no capture. Since even a
complete-looking capture may miss something, `probe` proves it on two twins before anyone relies on it.
"""

from __future__ import annotations

import hashlib
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.seeding import generator_state, restore_generator
from rlrun.types import StateDict

MAX_ITEMS = 256  # a container with more is not captured
STEPS_BEFORE, STEPS_AFTER = 7, 60  # of the probe, around the moment of capture

CONTAINERS = (list, tuple, set, deque, dict)
STATIC = (gym.Space, GymSpec, gym.Env, types.ModuleType)  # and whatever can be called

Tables = list[dict[str, bytes]]  # of every layer, outermost first: the fingerprints of its large attributes


class _Unknown(Exception):
    """An attribute that might hold state in a form not understood here."""


class _Static(Exception):
    """A value that cannot be part of the state."""


def tables(env: gym.Env) -> Tables:
    """The large containers of a new environment, by which `capture` knows what has not changed since."""
    return [
        {name: _fingerprint(value) for name, value in vars(layer).items() if _is_large(value)} for layer in _layers(env)
    ]


def capture(env: gym.Env, tables: Tables) -> StateDict | None:
    """The state of every layer, outermost first; None if some attribute is of an unknown kind.

    Args:
        env: in whatever state.
        tables: those that it had when it was new.
    """
    try:
        return {"layers": [_layer_state(layer, known) for layer, known in zip(_layers(env), tables, strict=True)]}
    except _Unknown:
        return None


def restore(env: gym.Env, state: StateDict) -> None:
    """Put a captured state into an environment made the same way, which has been reset at least once."""
    for layer, saved in zip(_layers(env), state["layers"], strict=True):
        if _speaks_for_itself(layer):
            layer.load_state_dict(saved)
            continue
        for name, value in saved.items():
            current = vars(layer).get(name)
            if isinstance(current, np.random.Generator) and isinstance(value, dict):
                restore_generator(current, value["state"])  # in place: others may hold the same generator
            else:
                setattr(layer, name, _decode(value))


def probe(make: Callable[[], gym.Env]) -> str:
    """The grade of resume an environment allows: "exact", or "episode" where a new one must be started.

    A twin is captured in mid-episode and restored into another; both must then go on alike, bit for bit, through
    random actions and at least one reset.
    """
    original, twin = make(), make()
    if original.unwrapped is twin.unwrapped:
        return "episode"  # not ours to play with
    try:
        return "exact" if _continues_alike(original, twin) else "episode"
    finally:
        original.close()
        twin.close()


def _continues_alike(original: gym.Env, twin: gym.Env) -> bool:
    when_new = tables(original)
    original.reset(seed=1)
    twin.reset(seed=2)
    actions = original.action_space
    actions.seed(3)
    for _ in range(STEPS_BEFORE):
        _, _, terminated, truncated, _ = original.step(actions.sample())
        if terminated or truncated:
            original.reset()
    state = capture(original, when_new)
    if state is None:
        return False
    restore(twin, state)
    for t in range(STEPS_AFTER):
        action = actions.sample()
        ours, theirs = original.step(action)[:4], twin.step(action)[:4]
        if not _identical(ours, theirs):
            return False
        if (ours[2] or ours[3] or t == STEPS_AFTER // 2) and not _identical(original.reset()[:1], twin.reset()[:1]):
            return False
    return True


def _identical(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(ours, theirs, strict=True))


def _layers(env: gym.Env) -> Iterator[Any]:
    """The wrappers from outside in, then the environment itself."""
    while env is not env.unwrapped:
        yield env
        env = env.env  # type: ignore[attr-defined]
    yield env


def _speaks_for_itself(layer: Any) -> bool:
    """Whether the layer's own class, not one inside it, can save and load its state."""
    return hasattr(type(layer), "state_dict") and hasattr(type(layer), "load_state_dict")


def _layer_state(layer: Any, known: dict[str, bytes]) -> StateDict:
    if _speaks_for_itself(layer):
        return layer.state_dict()
    state = {}
    for name, value in vars(layer).items():
        if _is_large(value):
            if _fingerprint(value) != known.get(name):
                raise _Unknown(name)
            continue
        try:
            state[name] = _encode(value)
        except _Static:
            continue
    return state


def _encode(value: Any) -> Any:
    """A copy as plain data; a generator, set, deque or dict becomes {"type": ..., ...}."""
    if (
        value is None
        or type(value) in (bool, int, float, str)
        or isinstance(value, (np.bool_, np.integer, np.floating))
    ):
        return value
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if isinstance(value, np.random.Generator):
        return {"type": "generator", "state": generator_state(value)}
    if type(value) in CONTAINERS:
        return _encode_container(value)
    if isinstance(value, STATIC) or callable(value):
        raise _Static
    raise _Unknown(type(value))


def _encode_array(value: np.ndarray) -> np.ndarray:
    if value.dtype.kind in "SU":
        raise _Static  # text, such as a map
    if value.dtype.kind not in "biuf":
        raise _Unknown(value.dtype)
    return value.copy()


def _encode_container(value: Any) -> Any:
    if type(value) is dict:
        return {"type": "dict", "items": [(_encode(key), _encode(item)) for key, item in value.items()]}
    items = [_encode(item) for item in value]
    if type(value) is set:
        return {"type": "set", "items": items}
    if type(value) is deque:
        return {"type": "deque", "items": items, "maxlen": value.maxlen}
    return type(value)(items)


def _is_large(value: Any) -> bool:
    return type(value) in CONTAINERS and _count(value) > MAX_ITEMS


def _fingerprint(value: Any) -> bytes:
    """A digest of nested containers that changes with anything in them, but for the insides of unknown objects."""
    digest = hashlib.blake2b()
    rest = [value]
    while rest:
        part = rest.pop()
        if type(part) in CONTAINERS:
            digest.update(f"{type(part).__name__} {len(part)};".encode())
            rest += [*part, *part.values()] if type(part) is dict else part
        elif isinstance(part, np.ndarray) and not part.dtype.hasobject:
            digest.update(f"{part.dtype} {part.shape};".encode() + part.tobytes())
        else:
            digest.update(f"{part!r};".encode())
    return digest.digest()


def _count(value: Any) -> int:
    """Leaves of nested containers."""
    if type(value) is dict:
        value = [*value.values()]
    return sum(map(_count, value)) if type(value) in CONTAINERS else 1


def _decode(value: Any) -> Any:
    """A copy of what `_encode` was given."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, (list, tuple)):
        return type(value)(_decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value["type"] == "generator":
        rng = np.random.default_rng(0)
        restore_generator(rng, value["state"])
        return rng
    items = _decode(value["items"])
    if value["type"] == "deque":
        return deque(items, value["maxlen"])
    return set(items) if value["type"] == "set" else dict(items)
