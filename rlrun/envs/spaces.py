"""What rlrun sees of a Gymnasium environment: its two spaces, its spec, and how an agent's action becomes its own.

Spaces are Discrete, Box, MultiDiscrete, MultiBinary, and Dicts and Tuples of them, which become records: a Dict inside
a Dict has its fields under dotted names, the parts of a Tuple are called "0", "1", ... A Tuple of Discrete observations
alone (Blackjack's) becomes one Discrete with a value per combination, which tabular agents can index, if they are not
too many.

**Masks.** An environment may say which of its discrete actions can be taken: in `info["action_mask"]` of every reset
and step, by a method `action_masks()`, or in a field `action_mask` of its observations. Wherever it says so, here the
mask is a field `action_mask` of the observation, bool: [n] of Discrete actions, of MultiDiscrete ones [sum(nvec)], one
choice after the other.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.envs import faults
from rlrun.envs.faults import Nonsense
from rlrun.envs.goals import goals_of
from rlrun.errors import ConfigError
from rlrun.seeding import aside
from rlrun.types import MASK, Array, EnvSpec, Space, TransitionModel


def to_space(space: gym.Space, what: str = "observation") -> Space:
    """The parts of a Gymnasium space that algorithms need.

    Discrete spaces are taken to count from 0 (`plain`, Contact and `action_map` see to it); floating point becomes
    float32.

    Raises:
        ConfigError: the space is of another kind.
    """
    if isinstance(space, gym.spaces.Discrete):
        return Space("discrete", (), np.dtype(np.int64), n=int(space.n))
    if 0 in (space.shape or ()):
        raise ConfigError("env.id", f"its {what} space {space.shape} has no elements", "there is nothing to learn from")
    if isinstance(space, gym.spaces.MultiDiscrete):
        return Space("multi_discrete", space.shape, np.dtype(np.int64), nvec=tuple(space.nvec.ravel().tolist()))
    if isinstance(space, gym.spaces.MultiBinary):
        return Space("multi_binary", space.shape, np.dtype(np.int8))
    if isinstance(space, COMPOSITE):
        fields = {name: to_space(part, what) for name, _, part in leaves(space)}
        return Space("dict", (), record(fields), fields=fields)
    if not isinstance(space, gym.spaces.Box):
        raise ConfigError(
            "env.id",
            f"a {type(space).__name__} {what} space is not supported",
            "Box, Discrete, MultiDiscrete, MultiBinary and Dicts and Tuples of them are; wrap the environment",
        )
    dtype = np.dtype(np.float32) if np.issubdtype(space.dtype, np.floating) else np.dtype(space.dtype)
    with np.errstate(over="ignore"):  # a bound too large for float32 is no bound
        low, high = space.low.astype(dtype), space.high.astype(dtype)
    return Space("box", space.shape, dtype, low=low, high=high)


COMPOSITE = (gym.spaces.Dict, gym.spaces.Tuple)
MOST_COMBINATIONS = 10**6  # of a Tuple of Discretes that becomes one; beyond, each is a part of its own


def leaves(space: gym.Space) -> list[tuple[str, tuple[Any, ...], gym.Space]]:
    """The parts of a Dict or Tuple, those of its parts included: dotted name, the keys that lead to it, its space.

    Raises:
        ConfigError: there are none, or two have one name.
    """
    found = list(_leaves(space, ()))
    names = [name for name, _, _ in found]
    if not found:
        raise ConfigError("env.id", f"its {type(space).__name__} space has no parts", "there is nothing to learn from")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError("env.id", f"two parts of its {type(space).__name__} space would be called {twice!r}")
    return found


def _leaves(space: gym.Space, path: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...], gym.Space]]:
    if isinstance(space, COMPOSITE):
        parts = space.spaces
        for key, part in parts.items() if isinstance(parts, Mapping) else enumerate(parts):
            yield from _leaves(part, (*path, key))
    else:
        yield ".".join(map(str, path)), path, space


def mask_size(actions: Space) -> int:
    """How many elements a mask of these actions has; 0 if they have no masks."""
    return actions.n or sum(actions.nvec)


def masked(space: Space, actions: Space) -> Space:
    """An observation space with the mask of the actions as a field; what is no Dict becomes the field `obs`."""
    mask = Space("multi_binary", (mask_size(actions),), np.dtype(bool))
    fields = {**(space.fields or {"obs": space}), MASK: mask}
    return Space("dict", (), record(fields), fields=fields)


def record(fields: Mapping[str, Space]) -> np.dtype:
    """The dtype of a Dict's values."""
    return np.dtype([(name, part.dtype, part.shape) for name, part in fields.items()])


def mask_source(env: Any) -> str:
    """Where an environment, or a vector, tells the masks of its actions: `field`, `method` or `info`; "" if nowhere.

    To look into `info` it is reset, with all global random streams put back.

    Raises:
        ConfigError: a field `action_mask` of its observations is no mask of its actions, or all there is.
    """
    single = "single_" if isinstance(env, gym.vector.VectorEnv) else ""
    shown, actions = getattr(env, f"{single}observation_space"), getattr(env, f"{single}action_space")
    if not isinstance(actions, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        return ""
    size = mask_size(to_space(actions, "action"))
    if isinstance(shown, gym.spaces.Dict) and MASK in shown.spaces:
        field = shown[MASK]
        if math.prod(field.shape or (0,)) != size:
            raise ConfigError("env.id", f"its field {MASK} is {field}", f"a mask of its actions has {size} elements")
        if len(shown.spaces) == 1:
            raise ConfigError("env.id", f"it shows nothing but {MASK}", "env.action_masks=false shows it as it is")
        return "field"
    if hasattr(env.unwrapped, "action_masks") if single else env.has_wrapper_attr("action_masks"):
        return "method"
    with aside(1):
        try:
            info = env.reset(seed=1)[1]
        except BaseException as error:  # whatever it is, it will be seen again when the environment is used
            if faults.is_ours(error):
                raise
            return ""
    return "info" if isinstance(info, dict) and MASK in info else ""


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
    return CountFromZero(env) if shifted or _combines(space) else env


def _combines(space: gym.Space) -> bool:
    """Whether it is a Tuple whose every combination can be a value of one Discrete."""
    parts = space.spaces if isinstance(space, gym.spaces.Tuple) else ()
    numbers = [int(part.n) for part in parts if isinstance(part, gym.spaces.Discrete)]
    return 0 < len(numbers) == len(parts) and math.prod(numbers) <= MOST_COMBINATIONS


class ActionMap(Protocol):
    """From an agent's actions [E, *action] to what the environments take."""

    space: Space  # what the agent sees

    def __call__(self, action: Array) -> Array:
        """The environments' own numbers, still in one array [E, ...]."""
        ...

    def singly(self, action: Array) -> Iterable[Any]:
        """What `__call__` returned, one by one in the form that an environment takes."""
        ...


class DiscreteActions:
    """Agents count from 0; environments from `start`. An environment gets an int: it may look it up in a list."""

    def __init__(self, space: gym.spaces.Discrete):
        self.space = to_space(space, "action")
        self._start = int(space.start)

    def __call__(self, action: Array) -> Array:
        return action + self._start if self._start else action

    def singly(self, action: Array) -> Iterable[int]:
        return action.tolist()


class MultiDiscreteActions:
    """Several choices or bits, each counted from its own `start`, in the environment's dtype."""

    def __init__(self, space: gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        self.space = to_space(space, "action")
        self._start, self._dtype = getattr(space, "start", 0), space.dtype

    def __call__(self, action: Array) -> Array:
        return (action + self._start).astype(self._dtype)  # always a copy: an environment may keep its action

    def singly(self, action: Array) -> Iterable[Array]:
        return action


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

    def singly(self, action: Array) -> Iterable[Array]:
        """As arrays, also where they have no dimension."""
        return action if action.ndim > 1 else (action[e, ...] for e in range(len(action)))


class DictActions:
    """Records of actions, every field by the map of its own; an environment gets the Dict or Tuple that it declared."""

    def __init__(self, space: gym.Space, clip: bool, rescale: Sequence[float] | None):
        parts = leaves(space)
        self._maps = {name: action_map(part, clip, rescale) for name, _, part in parts}
        self._form = _form(space, iter(self._maps))
        fields = {name: part.space for name, part in self._maps.items()}
        self.space = to_space(space, "action")._replace(fields=fields)
        self._dtype = np.dtype([(name, part.dtype or np.int64, part.shape or ()) for name, _, part in parts])

    def __call__(self, action: Array) -> Array:
        own = np.zeros(len(action), self._dtype)
        for name, part in self._maps.items():
            own[name] = part(action[name])
        return own

    def singly(self, action: Array) -> Iterable[Any]:
        columns = {name: list(part.singly(action[name])) for name, part in self._maps.items()}
        return [self._form({name: column[e] for name, column in columns.items()}) for e in range(len(action))]


def _form(space: gym.Space, names: Iterator[str]) -> Callable[[Mapping[str, Any]], Any]:
    """Puts the values of a record's fields together as the Dict or Tuple has them; `names` are those of its leaves."""
    if isinstance(space, gym.spaces.Dict):
        inner = {key: _form(part, names) for key, part in space.spaces.items()}
        return lambda values: {key: form(values) for key, form in inner.items()}
    if isinstance(space, gym.spaces.Tuple):
        forms = [_form(part, names) for part in space.spaces]
        return lambda values: tuple(form(values) for form in forms)
    return operator.itemgetter(next(names))


def action_map(space: gym.Space, clip: bool = True, rescale: Sequence[float] | None = None) -> ActionMap:
    """The map that fits a Gymnasium action space; ConfigError if none does."""
    if isinstance(space, gym.spaces.Box):
        return BoxActions(space, clip, rescale)
    if isinstance(space, COMPOSITE):
        return DictActions(space, clip, rescale)
    if isinstance(space, gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        return MultiDiscreteActions(space)
    to_space(space, "action")  # refuses what is not Discrete
    return DiscreteActions(cast(gym.spaces.Discrete, space))


def read_spec(
    env: gym.Env | gym.vector.VectorEnv, obs_space: gym.Space, actions: ActionMap, num_envs: int, has_mask: bool = False
) -> EnvSpec:
    """The EnvSpec of environments with this (single) observation space, whose actions go through `actions`."""
    spec, seen = env.spec, to_space(obs_space)._replace(one_hot=_is_one_hot(env, obs_space))
    return EnvSpec(
        id=spec.id if spec else type(env.unwrapped).__name__,
        obs_space=masked(seen, actions.space) if has_mask else seen,
        action_space=actions.space,
        num_envs=num_envs,
        max_episode_steps=_time_limit(spec),
        reward_threshold=spec.reward_threshold if spec else None,
        model=_model(env, obs_space, actions.space),
        render_modes=tuple(env.metadata.get("render_modes") or ()),
        goals=goals_of(env, seen),
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
