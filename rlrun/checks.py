"""Checks: config values against their bounds, with messages that name the key; saved arrays against their shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean


def within(key: str, value: float | None, low: float = -math.inf, high: float = math.inf) -> None:
    """`low <= value <= high`; None passes, NaN does not."""
    if value is not None and not low <= value <= high:
        bound = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ConfigError(key, f"must be {bound}, got {value:g}")


def positive(key: str, value: float | None) -> None:
    """`0 < value < inf`; None passes."""
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(key, f"must be greater than 0 and finite, got {value:g}")


def overwrite(array: np.ndarray, saved: np.ndarray) -> None:
    """`array[:] = saved` without broadcasting; ValueError if the saved one is of another shape."""
    if array.shape != np.shape(saved):
        raise ValueError(f"an array of shape {np.shape(saved)} was saved, expected {array.shape}")
    array[:] = saved


def one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """`value` is one of the words."""
    if value not in set(choices):
        raise ConfigError(key, f"there is no {value!r}", did_you_mean(value, choices))
