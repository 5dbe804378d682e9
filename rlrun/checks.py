"""Checks: config values against their bounds, with messages that name the key; and hashes of arrays.

The bounds of an option stand in the annotation of its field, where the check, the help and whoever searches for good
values find them:

    @dataclass
    class DQNConfig(Bounded):
        gamma: Share = 0.99  # discount factor per step
        max_grad_norm: Positive | None = None  # null is not asked
        hidden: list[Annotated[int, Within(1, 10**6)]] = ...  # of a list: its elements
        epsilon: Annotated[ScheduleConfig, Within(0, 1)] = ...  # of a schedule: where it starts and ends
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

import numpy as np

from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean

# No option is greater unless its dataclass says so: nothing is counted further, and the square still fits float32.
LARGEST_INT = 10**12
LARGEST_FLOAT = 1e15


def within(key: str, value: float | None, low: float = -math.inf, high: float = math.inf) -> None:
    """`low <= value <= high`; None passes, NaN does not."""
    if value is not None and not low <= value <= high:
        only_low = high > LARGEST_FLOAT and not value > high  # nobody is helped by a bound that large
        bound = f"at least {_number(low)}" if only_low else f"in [{_number(low)}, {_number(high)}]"
        raise ConfigError(key, f"must be {bound}, got {_number(value)}")


def ascending(key: str, bounds: Sequence[float] | None) -> None:
    """`[low, high]` with `low < high`; None passes."""
    if bounds is not None and (len(bounds) != 2 or bounds[0] >= bounds[1]):
        raise ConfigError(key, f"must be [low, high] with low < high, got {list(bounds)}")


def countable(key: str, value: float, largest: float | None = None) -> None:
    """A number as any option may have it: finite, and not too large to count or to multiply with."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(key, f"must be a finite number, got {value}")
    largest = largest or (LARGEST_INT if isinstance(value, int) else LARGEST_FLOAT)
    if abs(value) > largest:
        raise ConfigError(key, f"must be at most {largest:g} in size, got {_number(value)}")


def only_with(config: Any, key: str, option: str, *words: str) -> None:
    """A field that has a meaning where another is one of these words; elsewhere it stays at its default."""
    chosen, usual = getattr(config, option), type(config).__dataclass_fields__[key].default
    if chosen not in words and getattr(config, key) != usual:
        instead = " or ".join(f"{option}={word}" for word in words)
        hint = f"write {key}={_literal(usual)}, or {instead}"
        raise ConfigError(key, f"has no meaning with {option}={chosen}", hint)


class Bound(Protocol):
    """What an annotation says of the values of its field; `str` has it for the help, unless that has its `words`."""

    @property
    def words(self) -> Sequence[str]: ...

    def check(self, key: str, value: Any) -> None:
        """Raise ConfigError, with the key, for a value that is out of bounds."""
        ...


@dataclass(frozen=True)
class Within:
    """`low <= value <= high`."""

    low: float = -math.inf
    high: float = math.inf

    def check(self, key: str, value: float) -> None:
        within(key, value, self.low, self.high)

    @property
    def words(self) -> Sequence[str]:
        return (str(self),)

    def __str__(self) -> str:
        return f"at least {self.low:,.15g}" if self.high > LARGEST_FLOAT else f"{self.low:,.15g} to {self.high:,.15g}"


@dataclass(frozen=True)
class Above0:
    """`0 < value <= high`, and finite."""

    high: float = math.inf

    def check(self, key: str, value: float) -> None:
        if not (0 < value <= self.high and math.isfinite(value)):
            bound = "greater than 0 and finite" if self.high == math.inf else f"in (0, {_number(self.high)}]"
            raise ConfigError(key, f"must be {bound}, got {_number(value)}")

    @property
    def words(self) -> Sequence[str]:
        return (str(self),)

    def __str__(self) -> str:
        return "above 0" if self.high == math.inf else f"above 0, at most {self.high:,.15g}"


class OneOf:
    """One of these words."""

    def __init__(self, *words: str):
        self.words = words

    def check(self, key: str, value: str) -> None:
        one_of(key, value, self.words)

    def __str__(self) -> str:
        return " | ".join(self.words)


class AutoOr:
    """The word `auto`, or a number in bounds, which a field of text holds."""

    def __init__(self, bound: Within | Above0):
        self.bound = bound

    @property
    def words(self) -> Sequence[str]:
        return ("auto", str(self.bound))

    def __str__(self) -> str:
        return f"auto or {self.bound}"

    def check(self, key: str, value: str) -> None:
        if value == "auto":
            return
        try:
            number = float(value)
        except ValueError:
            raise ConfigError(key, f"must be auto or a number, got {value!r}") from None
        countable(key, number)
        self.bound.check(key, number)


Share = Annotated[float, Within(0, 1)]
Positive = Annotated[float, Above0()]
NotNegative = Annotated[float, Within(0)]
Natural = Annotated[int, Within(0)]
Count = Annotated[int, Within(1)]


class Bounded:
    """Base of config dataclasses: their values are held to their bounds when they are made."""

    def __post_init__(self) -> None:
        check_bounds(self)


def check_bounds(config: Any) -> None:
    """ConfigError for the first field of a dataclass that is out of its bounds."""
    schema: type = type(config)
    for name, found in bounds(schema).items():
        for key, value in _bounded(name, getattr(config, name)):
            for bound in found:
                bound.check(key, value)


# The types of a dataclass's fields, without their bounds; kept, since it takes time to read annotations.
types_of: Callable[[Any], Mapping[str, Any]] = functools.cache(get_type_hints)


@functools.cache
def bounds(schema: type) -> Mapping[str, tuple[Bound, ...]]:
    """The bounds of the fields of a dataclass, of those that have any."""
    hints = get_type_hints(schema, include_extras=True)
    found = {field.name: tuple(_stated(hints[field.name])) for field in fields(schema)}
    return {name: bounds for name, bounds in found.items() if bounds}


def largest(schema: Any, name: str) -> float | None:
    """How large a number in a field of a dataclass may be, where its bound lets it be larger than `LARGEST_INT`."""
    if not is_dataclass(schema):
        return None
    found: type = schema  # type: ignore[assignment]
    highs = (getattr(bound, "high", 0) for bound in bounds(found).get(name, ()))
    return next((high for high in highs if LARGEST_INT < high < math.inf), None)


def _stated(hint: Any) -> Iterator[Bound]:
    """The bounds in an annotation, wherever in it they stand."""
    if get_origin(hint) is Annotated:
        yield from (extra for extra in hint.__metadata__ if hasattr(extra, "check"))
        yield from _stated(hint.__origin__)
    else:
        for inner in get_args(hint):
            yield from _stated(inner)


def _bounded(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What of a value is held to its field's bounds, by key: elements of a list, extremes of a schedule, no null."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _bounded(key, item)
    elif hasattr(value, "extremes"):
        for part in value.extremes:
            yield from _bounded(f"{key}.{part}", getattr(value, part))
    elif value is not None:
        yield key, value


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _literal(value: str | float | None) -> str:
    """As it is written in YAML."""
    if value is None or isinstance(value, str):
        return value or "null"
    return _number(value).lower()


def one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """`value` is one of the words."""
    if value not in set(choices):
        raise ConfigError(key, f"there is no {value!r}", did_you_mean(value, choices))


def digest(*arrays: np.ndarray) -> str:
    """A hash of arrays: their shapes, their types and every element."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape};".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
