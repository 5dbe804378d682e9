"""Numbers that environments tell in `info`, as metrics: `logger.info_keys=[…]`.

A key is averaged over the steps that had it since the last row: a number of every step over all steps, one that comes
only at an episode's end over the episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rlrun.types import Metrics, StateDict

PREFIX = "rollout/info/"

Totals = Mapping[str, tuple[float, int]]  # key -> sum and number of steps that had it


class InfoMeter:
    """Sums up some keys of one environment's `info`. What is no finite number counts as missing.

    Args:
        keys: those that are wanted.
    """

    def __init__(self, keys: Sequence[str]):
        self._keys = tuple(keys)
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, info: Any) -> None:
        """Take in what a step returned as `info`."""
        if not isinstance(info, dict):
            return
        for key in self._keys:
            value = number(info[key]) if key in info else None
            if value is not None:
                self._sums[key] = self._sums.get(key, 0.0) + value
                self._counts[key] = self._counts.get(key, 0) + 1

    def take(self) -> dict[str, tuple[float, int]]:
        """The totals since the last call."""
        totals = {key: (total, self._counts[key]) for key, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return totals

    def state_dict(self) -> StateDict:
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a state; keys that are no longer wanted are dropped."""
        self._sums = {key: total for key, total in state["sums"].items() if key in self._keys}
        self._counts = {key: state["counts"][key] for key in self._sums}


def number(value: Any) -> float | None:
    """A finite number, also as an array of one; None for anything else."""
    try:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "biuf":
            return None
        found = float(array.item())
    except Exception:  # what an environment tells may be anything
        return None
    return found if np.isfinite(found) else None


def means(totals: Iterable[Totals]) -> Metrics:
    """`rollout/info/<key>` over several environments."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for one in totals:
        for key, (total, count) in one.items():
            sums[key] = sums.get(key, 0.0) + total
            counts[key] = counts.get(key, 0) + count
    return {PREFIX + key: total / counts[key] for key, total in sums.items()}
