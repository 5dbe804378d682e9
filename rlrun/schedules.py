"""Numbers that change with the run's age, and triggers. One clock everywhere: env steps, summed over all environments.

A schedule is a pure function of that clock and has nothing to save. A trigger remembers what it has already fired for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from rlrun.checks import Above0, Bounded, OneOf, Positive, Within
from rlrun.errors import ConfigError
from rlrun.state import Stateful

Schedule = Callable[[float], float]  # env steps -> value


@dataclass(frozen=True)
class Constant:
    """The same value at all times."""

    value: float

    def __call__(self, env_steps: float) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` at 0 to `end` at `steps`, then `end`."""

    start: float
    end: float
    steps: float

    def __call__(self, env_steps: float) -> float:
        if env_steps >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * (env_steps / self.steps)


@dataclass(frozen=True)
class WarmUp:
    """1 until `steps`, from then on what another schedule says, whose clock began at 0."""

    steps: float
    schedule: Schedule

    def __call__(self, env_steps: float) -> float:
        return 1.0 if env_steps < self.steps else self.schedule(env_steps)


class Exponential:
    """`end + (start - end) * exp(-rate * t)`: every step takes the same share off the distance to `end`.

    Args:
        rate: that share, per env step.
        time_constant: env steps until 37 % (1/e) of the distance is left: `1 / rate`, the other way to say the same.

    Raises:
        ValueError: not exactly one of `rate` and `time_constant` is given.
    """

    def __init__(self, start: float, end: float, *, rate: float | None = None, time_constant: float | None = None):
        if (rate is None) == (time_constant is None):
            raise ValueError("give either rate or time_constant")
        self.start, self.end = start, end
        self.rate = rate if rate is not None else 1 / time_constant  # type: ignore[operator]

    def __call__(self, env_steps: float) -> float:
        return self.end + (self.start - self.end) * math.exp(-self.rate * env_steps)


_SPANS = {"constant": (), "linear": ("fraction", "steps"), "exponential": ("rate", "time_constant")}


@dataclass
class ScheduleConfig(Bounded):
    """A schedule as the user writes it; `make` turns it into a function of env steps."""

    # constant | linear (end; fraction or steps) | exponential (end; rate or time_constant)
    kind: Annotated[str, OneOf(*_SPANS)] = "constant"
    start: float = 1.0  # value at the first env step
    end: float | None = None  # value that a linear schedule ends on and an exponential one approaches
    # linear: share of total_timesteps after which `end` is reached
    fraction: Annotated[float, Above0(1)] | None = None
    steps: Annotated[int, Above0()] | None = None  # linear: env steps after which `end` is reached
    rate: Positive | None = None  # exponential: share of the distance to `end` that each env step takes off
    time_constant: Positive | None = None  # exponential: env steps until 37 % of the distance to `end` is left

    extremes = ("start", "end")  # its values lie between these, which a bound on the whole is asked of

    def __post_init__(self) -> None:
        super().__post_init__()
        # The fields of the kind are there, once; those of other kinds are not, since they would be silently unread.
        spans = _SPANS[self.kind]
        needed = ("end", *spans) if spans else ()
        given = [key for key in ("end", "fraction", "steps", "rate", "time_constant") if getattr(self, key) is not None]
        unread = [key for key in given if key not in needed]
        if unread:
            hint = f"choose another kind, or give null to {' and '.join(unread)}"
            raise ConfigError(unread[0], f"has no meaning for a schedule of kind {self.kind}", hint)
        if spans and "end" not in given:
            raise ConfigError("end", f"a schedule of kind {self.kind} needs it")
        if spans and len(given) != 2:
            raise ConfigError(spans[0], f"a schedule of kind {self.kind} takes exactly one of {' and '.join(spans)}")


Probability = Annotated[ScheduleConfig, Within(0, 1)]


def make(cfg: ScheduleConfig, total_timesteps: int) -> Schedule:
    """The schedule that `cfg` describes, for a run of `total_timesteps` env steps."""
    if cfg.end is None:
        return Constant(cfg.start)
    if cfg.kind == "linear":
        return Linear(cfg.start, cfg.end, cfg.steps or cfg.fraction * total_timesteps)  # type: ignore[operator]
    return Exponential(cfg.start, cfg.end, rate=cfg.rate, time_constant=cfg.time_constant)


def annealed(start: float, kind: str, total_timesteps: int) -> Schedule:
    """What learning rates and clip ranges do: stay ("constant"), or fall to 0 at the end of the run ("linear")."""
    return Linear(start, 0.0, total_timesteps) if kind == "linear" else Constant(start)


class Every(Stateful):
    """Fires once a multiple of `interval` env steps has been crossed; 0 never fires.

    Crossing, not `%`: chunks of any size fire at the same places, and a chunk that crosses several fires once.
    `due` only asks, `consume` marks as done, so work that was interrupted in between is still due on resume.

    Args:
        interval: env steps between two firings.
    """

    state = ("_consumed",)

    def __init__(self, interval: int):
        if interval < 0:
            raise ValueError(f"interval must be at least 0, got {interval}")
        self.interval = interval
        self._consumed = 0  # env steps at the last `consume`

    def due(self, env_steps: int) -> bool:
        return self.interval > 0 and env_steps // self.interval > self._consumed // self.interval

    def consume(self, env_steps: int) -> None:
        self._consumed = env_steps


class Ratio(Stateful):
    """`gradient_steps` updates for every `per` env steps, however the env steps arrive.

    The remainder is kept as an integer, so updates per env step do not depend on the number of environments.

    Args:
        gradient_steps: updates per round, at least 0.
        per: env steps per round (`train_freq`), at least 1.
    """

    state = ("_remainder",)

    def __init__(self, gradient_steps: int, per: int = 1):
        if gradient_steps < 0 or per < 1:
            raise ValueError(f"need gradient_steps >= 0 and per >= 1, got {gradient_steps} and {per}")
        self.gradient_steps, self.per = gradient_steps, per
        self._remainder = 0  # env steps since the last full round

    def owed(self, env_steps: int) -> int:
        """Updates to make now that `env_steps` more were taken."""
        rounds, self._remainder = divmod(self._remainder + env_steps, self.per)
        return rounds * self.gradient_steps
