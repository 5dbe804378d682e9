"""The state of a Gymnasium environment in the middle of an episode, as plain data and without pickle.

A layer (wrapper or environment) with `state_dict` and `load_state_dict` speaks for itself. Of any other, the attributes
that hold plain data are taken: numbers, strings, arrays, random generators, and lists, tuples, sets, dicts and deques
of those. What cannot change (spaces, functions) is left out, and so are large tables, such as a transition model, while
they are as they were in the new environment; `tables` remembers that. An attribute of any other kind, such as a physics
engine's, may hide state: then there is no capture.

Since even a complete-looking capture may miss something, `prove` tries it on two twins, at several moments, before
anyone relies on it. What later has a form that was not tried is no longer proven: `form` tells.
"""

from __future__ import annotations

import copy
import hashlib
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.envs import faults, physics
from rlrun.envs.contact import Contact
from rlrun.envs.spaces import action_map
from rlrun.ops.distributions import distribution
from rlrun.seeding import aside
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, StateDict

TABLE = 256  # a container with more leaves than this is a table until it changes
MAX_LEAVES = 100_000  # of a container that changed: more would cost too much in every checkpoint

# Steps of the original at which its twin takes over, and for how long they must then go on alike: at the start, early
# in an episode of any length but 1, and after things have grown. None is a multiple of a short episode's length.
MOMENTS, ALIKE = (0, 3, 11, 53, 199), 30
PATIENCE = 5.0  # seconds after which no further moment is tried: an environment may be slow

DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
CONTAINERS = (list, tuple, set, deque, dict)
ARGUMENTS = ("_ezpickle_args", "_ezpickle_kwargs")  # what Gymnasium's EzPickle keeps of how the environment was made
STATIC = (gym.Space, GymSpec, gym.Env, types.ModuleType)  # and whatever can be called

NOTHING = "nothing"  # the kind of None, which may become a number without being a new form

Tables = list[dict[str, bytes]]  # of every layer, outermost first: fingerprints of its large attributes and arguments
Form = frozenset[tuple[int, str, str]]  # the attributes of a captured state: layer, name, kind


class Unsaveable(Exception):
    """The state cannot be captured; the text says why."""


class Proof(NamedTuple):
    """Whether environments of this kind go on exactly where they were saved."""

    reason: str  # why not; "" if they do
    form: Form = frozenset()  # of all states that were tried


class _Static(Exception):
    """A value that cannot be part of the state."""


def tables(env: gym.Env) -> Tables:
    """What of a new environment `capture` leaves out unless it has changed since: large containers, physical models,
    and texts that it was given as arguments, which the next one is given as well and which may be secret."""
    arguments = {text for value in (env.spec.kwargs if env.spec else {}).values() for text in _texts(value)}
    return [
        {
            name: _fingerprint(value)
            for name, value in vars(layer).items()
            if _leaves(value, TABLE) > TABLE
            or not arguments.isdisjoint(_texts(value))
            or physics.kind(value) == physics.MADE_OF
        }
        for layer in _layers(env)
    ]


def capture(env: gym.Env, tables: Tables) -> StateDict:
    """The state of every layer, outermost first.

    Args:
        env: in whatever state.
        tables: those that it had when it was new.

    Raises:
        Unsaveable: some attribute is of an unknown kind or has grown too large.
    """
    layers = [*_layers(env)]
    if len(layers) != len(tables):
        raise Unsaveable("its wrappers have changed")
    return {"layers": [_layer_state(layer, known) for layer, known in zip(layers, tables, strict=True)]}


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
            elif physics.kind(current):
                physics.restore(current, value)
            else:
                setattr(layer, name, _decode(value))


def form(state: StateDict) -> Form:
    """Which attributes a captured state has, and of what kind each is."""
    return frozenset(
        (depth, name, _kind(value)) for depth, layer in enumerate(state["layers"]) for name, value in layer.items()
    )


def prove(make: Callable[[], gym.Env], check: Callable[[], None] | None = None, masks: str = "") -> Proof:
    """Whether an environment can be saved and restored so that it goes on as if nothing had happened.

    An original plays at random. At every moment its state goes into a twin, and both must then go on alike, bit for
    bit, across the ends of episodes. No stream of the run is touched.

    Args:
        make: makes such an environment.
        check: called between two steps; what it raises is passed on.
        masks: where it tells which actions can be taken, as `mask_source` found it.
    """
    opened: list[Contact] = []
    guarded = _Guarded(check)
    with aside(1):
        try:
            for _ in range(2):
                opened.append(Contact(make(), masks=masks))
            original, twin = opened
            return _tried(original, twin, guarded)
        except BaseException as error:
            if error is guarded.raised or faults.is_ours(error):
                raise
            return Proof(f"trying it failed: {' '.join(faults.described(error).split())}")
        finally:
            for contact in opened:
                contact.close()


class _Guarded:
    """Calls a check and remembers what it raised, which is nobody else's failure."""

    def __init__(self, check: Callable[[], None] | None):
        self._check = check
        self.raised: BaseException | None = None

    def __call__(self) -> None:
        if self._check is None:
            return
        try:
            self._check()
        except BaseException as error:
            self.raised = error
            raise


def _tried(original: Contact, twin: Contact, check: Callable[[], None]) -> Proof:
    if original.env.unwrapped is twin.env.unwrapped:
        return Proof("there is only one of its kind")  # not ours to play with
    if name := _differing(original.env, twin.env):
        return Proof(f"{name} differs between two of its kind: it may name what a resumed run has not got")
    when_new, end = tables(original.env), time.monotonic() + PATIENCE
    actions = copy.deepcopy(original.env.action_space)  # its stream may be the environment's
    actions.seed(3)
    rng = np.random.default_rng(3)
    original.reset(1)
    forms: set[tuple[int, str, str]] = set()
    alike = 0  # steps that the twin still has to follow
    for t in range(MOMENTS[-1] + ALIKE):
        check()
        if t in MOMENTS and (t <= MOMENTS[1] or time.monotonic() < end):
            try:
                state = capture(original.env, when_new)
            except Unsaveable as error:
                return Proof(str(error))
            tried = form(state)
            forms |= tried | {(depth, name, "plain") for depth, name, kind in tried if kind == NOTHING}
            twin.reset(2)  # as at a resume: nothing of the original's is in it yet
            restore(twin.env, state)
            alike = ALIKE
        action = actions.sample() if original.mask is None else _allowed(actions, original.mask, rng)
        action = int(action) if isinstance(actions, gym.spaces.Discrete) else action
        _, _, terminated, truncated, _ = ours = original.step(copy.deepcopy(action))
        follows, alike = alike > 0, alike - 1
        ends = terminated or truncated or alike == ALIKE // 2
        if follows and not _identical(ours[:4], twin.step(action)[:4]):
            return Proof("a restored twin went on differently")
        if ends:
            started = original.reset()
            if follows and not _identical((started,), (twin.reset(),)):
                return Proof("a restored twin began the next episode differently")
    return Proof("", frozenset(forms))


def _allowed(space: gym.Space, mask: Array, rng: np.random.Generator) -> Any:
    """A random action that the mask lets pass, as the environment takes it."""
    actions = action_map(space)
    return next(iter(actions.singly(actions(distribution(actions.space).uniform(1, rng, mask[None])))))


def _differing(one: gym.Env, other: gym.Env) -> str:
    """A text or number that two new environments do not share, such as a folder, a port or a process of their own."""
    for layer, twin in zip(_layers(one), _layers(other), strict=True):
        for name, value in {} if _speaks_for_itself(layer) else vars(layer).items():
            if type(value) in (str, int) and value != vars(twin).get(name):
                return f"`{name}` of {_name(layer)}"
    return ""


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
        try:
            state = copy.deepcopy(layer.state_dict())
            _encode(state)  # is it plain data?
            return state
        except BaseException as error:
            if faults.is_ours(error):
                raise
            raise Unsaveable(f"{_name(layer)}.state_dict() failed: {faults.described(error)}") from error
    state = {}
    for name, value in vars(layer).items():
        if name in ARGUMENTS or (name in known and _fingerprint(value) == known[name]):
            continue
        if _leaves(value, MAX_LEAVES) > MAX_LEAVES:
            raise Unsaveable(f"`{name}` of {_name(layer)} has grown beyond {MAX_LEAVES:,} items")
        try:
            state[name] = physics.capture(value) if physics.kind(value) else _encode(value)
        except _Static:
            continue
        except Unsaveable as error:
            raise Unsaveable(f"`{name}` of {_name(layer)} {error}") from error
        except RecursionError as error:
            raise Unsaveable(f"`{name}` of {_name(layer)} is nested without end") from error
    return state


def _texts(value: Any) -> set[str]:
    """A text, or those in a container; a large one is looked at in part."""
    found, waiting, looks = set(), [value], 0
    while waiting and looks < TABLE:
        part, looks = waiting.pop(), looks + 1
        if isinstance(part, str) and part:
            found.add(str(part))
        elif type(part) in CONTAINERS:
            waiting += part.values() if type(part) is dict else part
    return found


def _name(layer: Any) -> str:
    return type(layer).__name__


def _kind(value: Any) -> str:
    """Of an encoded attribute: what may change into one another by itself is of one kind."""
    if value is None:
        return NOTHING
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, dict):
        return str(value.get("type"))
    return type(value).__name__ if isinstance(value, (list, tuple)) else "plain"


def _encode(value: Any) -> Any:
    """A copy as plain data; a generator, set, deque or dict becomes {"type": ..., ...}."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic) and value.dtype.name in DTYPES:
        return value
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if isinstance(value, np.random.Generator):
        return {"type": "generator", "state": generator_state(value)}
    if type(value) in CONTAINERS:
        return _encode_container(value)
    if isinstance(value, STATIC) or callable(value) or physics.is_static(value):
        raise _Static
    raise Unsaveable(f"is a {type(value).__name__}, which may hide anything")


def _encode_array(value: np.ndarray) -> np.ndarray:
    if value.dtype.kind in "SU":
        raise _Static  # text, such as a map
    if value.dtype.name not in DTYPES:
        raise Unsaveable(f"is an array of {value.dtype}, which may hide anything")
    return value.copy()


def _encode_container(value: Any) -> Any:
    if type(value) is dict:
        return {"type": "dict", "items": list(zip(_encode_all(value), _encode_all(value.values()), strict=True))}
    items = _encode_all(value)
    if type(value) is set:
        return {"type": "set", "items": items}
    if type(value) is deque:
        return {"type": "deque", "items": items, "maxlen": value.maxlen}
    return type(value)(items)


def _encode_all(values: Iterable[Any]) -> list[Any]:
    """The members of a container; what holds nothing but functions, spaces and the like cannot change either."""
    encoded, static = [], 0
    for value in values:
        try:
            encoded.append(_encode(value))
        except _Static:
            static += 1
    if static and not encoded:
        raise _Static
    if static:
        raise Unsaveable("holds a function, a space or a text array among other things")
    return encoded


def _fingerprint(value: Any) -> bytes:
    """A digest of nested containers that changes with anything in them, but for the insides of unknown objects."""
    if physics.kind(value) == physics.MADE_OF:
        return physics.fingerprint(value)
    digest = hashlib.blake2b()
    rest, seen = [value], set()
    while rest:
        part = rest.pop()
        if type(part) in CONTAINERS:
            digest.update(f"{type(part).__name__} {len(part)};".encode())
            if id(part) not in seen:
                seen.add(id(part))
                rest += [*part, *part.values()] if type(part) is dict else part
        elif isinstance(part, np.ndarray) and not part.dtype.hasobject:
            digest.update(f"{part.dtype} {part.shape};".encode() + part.tobytes())
        else:
            digest.update(f"{_text(part)};".encode(errors="replace"))
    return digest.digest()


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"{type(value).__name__} at {id(value)}"


def _leaves(value: Any, limit: int) -> int:
    """Leaves of nested containers, or some number beyond `limit` if there are more; 1 for anything else."""
    if type(value) not in CONTAINERS:
        return 1
    count, rest, seen = 0, [value], set()
    while rest and count + len(rest) <= limit:
        part = rest.pop()
        if type(part) in CONTAINERS and part and id(part) not in seen:
            seen.add(id(part))
            rest += part.values() if type(part) is dict else part
        else:
            count += 1  # an empty container takes a place, too
    return count + len(rest)


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
