"""Checks: config values against their bounds, with messages that name the key; saved arrays against their shapes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np

from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean

# No option is greater unless its dataclass says so: nothing is counted further, and the square still fits float32.
LARGEST_INT = 10**12
LARGEST_FLOAT = 1e15


def within(key: str, value: float | None, low: float = -math.inf, high: float = math.inf) -> None:
    """`low <= value <= high`; None passes, NaN does not."""
    if value is not None and not low <= value <= high:
        bound = f"at least {_number(low)}" if high == math.inf else f"in [{_number(low)}, {_number(high)}]"
        raise ConfigError(key, f"must be {bound}, got {_number(value)}")


def positive(key: str, value: float | None) -> None:
    """`0 < value < inf`; None passes."""
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(key, f"must be greater than 0 and finite, got {_number(value)}")


def countable(key: str, value: float, largest: float | None = None) -> None:
    """A number as any option may have it: finite, and not too large to count or to multiply with."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(key, f"must be a finite number, got {value}")
    largest = largest or (LARGEST_INT if isinstance(value, int) else LARGEST_FLOAT)
    if abs(value) > largest:
        raise ConfigError(key, f"must be at most {largest:g} in size, got {_number(value)}")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def overwrite(array: np.ndarray, saved: np.ndarray) -> None:
    """`array[:] = saved` without broadcasting; ValueError if the saved one is of another shape."""
    if array.shape != np.shape(saved):
        raise ValueError(f"an array of shape {np.shape(saved)} was saved, expected {array.shape}")
    array[:] = saved


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
