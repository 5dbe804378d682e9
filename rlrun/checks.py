"""Range checks for config dataclasses; the message names the key, the bound and what was given."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean


def within(key: str, value: float | None, low: float = -math.inf, high: float = math.inf) -> None:
    """`low <= value <= high`; None passes, NaN does not."""
    if value is not None and not low <= value <= high:
        bound = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ConfigError(key, f"must be {bound}, got {value:g}")


def positive(key: str, value: float | None) -> None:
    """`value > 0`; None passes."""
    if value is not None and not value > 0:
        raise ConfigError(key, f"must be greater than 0, got {value:g}")


def one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """`value` is one of the words."""
    if value not in set(choices):
        raise ConfigError(key, f"there is no {value!r}", did_you_mean(value, choices))
