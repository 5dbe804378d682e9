"""Tiny environments whose stream or value is known beforehand, registered with Gymnasium as `rlrun/...`.

    import rlrun.envs.toy
    gymnasium.make("rlrun/Toy-v0")

They exist to check experience sources, returns and learners against numbers worked out by hand, and they are the
example of an environment that can be saved in the middle of an episode: `state_dict` and `load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rlrun.errors import ConfigError
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, StateDict

Info = dict[str, Any]


class _CountedEnv(gym.Env):
    """Base: its whole state is the number of steps taken in this episode."""

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own form

    def __init__(self) -> None:
        self._t = 0

    def state_dict(self) -> StateDict:
        return {"t": self._t}

    def load_state_dict(self, state: StateDict) -> None:
        self._t = state["t"]


class ToyEnv(_CountedEnv):
    """Five observations in a cycle, three actions, reward = action. Every episode has the same length.

    Args:
        variant: "book": observations 0 1 2 3 4 0 ..., 10 transitions, all rewarded. "notebook": the first
            observation comes twice, 11 transitions, the last with reward 0.
    """

    def __init__(self, variant: str = "book"):
        if variant not in ("book", "notebook"):
            raise ConfigError("env.kwargs.variant", f"there is no {variant!r}", "choose one of: book, notebook")
        super().__init__()
        self.observation_space, self.action_space = Discrete(5), Discrete(3)
        self._notebook = variant == "notebook"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, Info]:
        super().reset(seed=seed)
        self._t = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, Info]:
        t, self._t = self._t, self._t + 1
        if self._notebook:
            over = t == 10
            return t % 5, 0.0 if over else float(action), over, False, {}
        return (t + 1) % 5, float(action), t == 9, False, {}


class CountingEnv(_CountedEnv):
    """The observation is the number of steps taken, [1] float32; the reward too. Terminates after `length` steps."""

    def __init__(self, length: int = 10):
        super().__init__()
        self.observation_space, self.action_space = Box(0.0, length, (1,)), Discrete(2)
        self._length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Info]:
        super().reset(seed=seed)
        self._t = 0
        return self._obs(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, Info]:
        self._t += 1
        return self._obs(), float(self._t), self._t == self._length, False, {}

    def _obs(self) -> Array:
        return np.array([self._t], np.float32)


class ConstantRewardEnv(_CountedEnv):
    """One state, reward 1 for ever, cut (truncated, never terminated) every `length` steps.

    Its value is 1 / (1 - gamma): 10 at gamma 0.9. A learner that takes the cut for an end finds less.
    """

    def __init__(self, length: int = 5):
        super().__init__()
        self.observation_space, self.action_space = Discrete(1), Discrete(2)
        self._length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, Info]:
        super().reset(seed=seed)
        self._t = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, Info]:
        self._t += 1
        return 0, 1.0, False, self._t == self._length, {}


class _RandomTarget(gym.Env):
    """Base: a random target is shown, and answered by one action; `length` targets make an episode."""

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own form

    def __init__(self, length: int):
        self._length, self._t = length, 0
        self._target: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        super().reset(seed=seed)
        self._t, self._target = 0, self._draw()
        return self._target, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        reward = self._score(action)
        self._t, self._target = self._t + 1, self._draw()
        return self._target, reward, self._t == self._length, False, {}

    def _draw(self) -> Any:
        raise NotImplementedError

    def _score(self, action: Any) -> float:
        raise NotImplementedError

    def state_dict(self) -> StateDict:
        return {"t": self._t, "target": self._target, "rng": generator_state(self.np_random)}

    def load_state_dict(self, state: StateDict) -> None:
        self._t, self._target = state["t"], state["target"]
        restore_generator(self.np_random, state["rng"])


class IdentityEnv(_RandomTarget):
    """Reward 1 for the action that equals the observation, else 0; the best return is `length`."""

    def __init__(self, n: int = 4, length: int = 16):
        super().__init__(length)
        self.observation_space, self.action_space = Discrete(n), Discrete(n)
        self._n = n

    def _draw(self) -> int:
        return int(self.np_random.integers(self._n))

    def _score(self, action: int) -> float:
        return float(action == self._target)


class TargetEnv(_RandomTarget):
    """Continuous twin of IdentityEnv: reward -(action - obs)^2 summed over `size` dimensions; the best return is 0."""

    def __init__(self, size: int = 1, length: int = 16):
        super().__init__(length)
        self.observation_space = self.action_space = Box(-1.0, 1.0, (size,))
        self._size = size

    def _draw(self) -> Array:
        return self.np_random.uniform(-1.0, 1.0, self._size).astype(np.float32)

    def _score(self, action: Array) -> float:
        return -float(np.square(action - self._target).sum())


class MultiIdentityEnv(_RandomTarget):
    """IdentityEnv with several numbers at once, MultiDiscrete: the reward is the share that equals the observation."""

    def __init__(self, nvec: Sequence[int] = (3, 4), length: int = 16):
        super().__init__(length)
        self.observation_space = self.action_space = MultiDiscrete(list(nvec))
        self._nvec = list(nvec)

    def _draw(self) -> Array:
        return np.asarray(self.np_random.integers(self._nvec))

    def _score(self, action: Array) -> float:
        return float((action == self._target).mean())


class BitsEnv(_RandomTarget):
    """IdentityEnv with bits, MultiBinary: the reward is the share of bits that equal the observation's."""

    def __init__(self, n: int = 4, length: int = 16):
        super().__init__(length)
        self.observation_space = self.action_space = MultiBinary(n)
        self._n = n

    def _draw(self) -> Array:
        return self.np_random.integers(2, size=self._n, dtype=np.int8)

    def _score(self, action: Array) -> float:
        return float((action == self._target).mean())


class PartsEnv(_RandomTarget):
    """A choice and a point to be answered by the same, both spaces a Dict (or a Tuple, without the names).

    The reward is 1 for the right choice, less the squared distance of the points; the best return is `length`.
    """

    def __init__(self, as_tuple: bool = False, length: int = 16):
        super().__init__(length)
        parts = {"choice": Discrete(3), "point": Box(-1.0, 1.0, (2,))}
        self.observation_space = self.action_space = Tuple(parts.values()) if as_tuple else Dict(parts)
        self._as_tuple = as_tuple

    def _draw(self) -> Any:
        choice, point = int(self.np_random.integers(3)), self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return (choice, point) if self._as_tuple else {"choice": choice, "point": point}

    def _score(self, action: Any) -> float:
        ours, theirs = (tuple(x) if self._as_tuple else (x["choice"], x["point"]) for x in (action, self._target))
        return float(ours[0] == theirs[0]) - float(np.square(ours[1] - theirs[1]).sum())


class LampEnv(_RandomTarget):
    """A picture shows a lamp in its left or right half, a number beside it whether to answer with the other side.

    Reward 1 for the right answer, else 0. Either part alone says nothing about it: 0.5 a step is the best without both.
    """

    def __init__(self, length: int = 16, side: int = 8):
        super().__init__(length)
        self._side = side
        picture = Box(0, 255, (side, side, 1), np.uint8)
        self.observation_space = Dict({"picture": picture, "other": Box(0.0, 1.0, (1,))})
        self.action_space = Discrete(2)

    def _draw(self) -> dict[str, Array]:
        picture = np.zeros((self._side, self._side, 1), np.uint8)
        picture[tuple(self.np_random.integers(self._side, size=2))] = 255
        return {"picture": picture, "other": self.np_random.integers(2, size=1).astype(np.float32)}

    def _score(self, action: int) -> float:
        right_half = self._target["picture"][:, self._side // 2 :].any()
        return float(action == (right_half != self._target["other"][0]))


class MaskedEnv(_RandomTarget):
    """Three of `n` actions are there at any time; the highest of them brings 1, the others nothing.

    Which they are, only the mask tells; any other action ends the episode. So the best return is `length`, but without
    the mask hardly anyone comes beyond the first steps.

    Args:
        choices: with more than one, actions are MultiDiscrete, and the reward is the share of right choices.
        tells: where the mask is told: "info", "method" or "field", the three ways of an environment.
    """

    def __init__(self, n: int = 12, choices: int = 1, tells: str = "info", length: int = 16):
        if tells not in ("info", "method", "field"):
            raise ConfigError("env.kwargs.tells", f"there is no {tells!r}", "choose one of: info, method, field")
        super().__init__(length)
        self._n, self._choices, self._tells = n, choices, tells
        self.action_space = Discrete(n) if choices == 1 else MultiDiscrete([n] * choices)
        sight = Discrete(1)
        mask = MultiBinary(n * choices)
        self.observation_space = Dict({"sight": sight, "action_mask": mask}) if tells == "field" else sight
        if tells == "method":
            self.action_masks = lambda: self._target.ravel()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        super().reset(seed=seed)
        return self._seen(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        there = self._target[range(self._choices), action].all()
        _, reward, cut, _, _ = super().step(action)
        return self._seen(), reward, not there, cut and bool(there), self._info()

    def _draw(self) -> Array:
        masks = np.zeros((self._choices, self._n), np.int8)
        for mask in masks:
            mask[self.np_random.choice(self._n, 3, replace=False)] = 1
        return masks

    def _score(self, action: Any) -> float:
        highest = self._n - 1 - self._target[:, ::-1].argmax(1)
        return float((highest == action).mean())

    def _seen(self) -> Any:
        return {"sight": 0, "action_mask": self._target.ravel()} if self._tells == "field" else 0

    def _info(self) -> Info:
        return {"action_mask": self._target.ravel()} if self._tells == "info" else {}


OURS = (
    ToyEnv,
    CountingEnv,
    ConstantRewardEnv,
    IdentityEnv,
    TargetEnv,
    MultiIdentityEnv,
    BitsEnv,
    PartsEnv,
    LampEnv,
    MaskedEnv,
)
for _env in OURS:
    _id = f"rlrun/{_env.__name__.removesuffix('Env')}-v0"
    if _id not in gym.registry:
        gym.register(_id, entry_point=f"{_env.__module__}:{_env.__name__}")
