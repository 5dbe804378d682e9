"""Means of what updates return: taking one in costs an append, and nothing waits for the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

MAX_PENDING = 1024  # additions that are kept as they came


class UpdateMeans:
    """Means since the last `take`, of every key over the updates that said something of it."""

    def __init__(self) -> None:
        self._pending: list[dict[str, Any]] = []
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, aux: dict[str, Any]) -> None:
        """What one update said, numbers or 0-d tensors, or what k of them said, tensors [k]."""
        self._pending.append(aux)
        if len(self._pending) == MAX_PENDING:
            self._fold()

    def take(self) -> dict[str, Any]:
        """The means; nothing if there was no update. Tensors stay on the device, those of the CPU become floats.

        Whoever collects the means would keep as many small tensors, each in a gap between batches of which no other
        would fit there any more: the process would grow with every update.
        """
        if not self._sums and len(self._pending) == 1:
            means = {key: value.mean() if np.ndim(value) else value for key, value in self._pending.pop().items()}
        else:
            self._fold()
            means = {key: total / self._counts[key] for key, total in self._sums.items()}
            self._sums, self._counts = {}, {}
        return {key: value.item() if getattr(value, "is_cpu", False) else value for key, value in means.items()}

    def _fold(self) -> None:
        for key in dict.fromkeys(key for aux in self._pending for key in aux):
            values = [aux[key] for aux in self._pending if key in aux]
            if isinstance(values[0], torch.Tensor):
                joined = torch.hstack(values)
                total, count = joined.sum(), len(joined)
            else:
                total, count = sum(values), len(values)
            self._sums[key] = self._sums[key] + total if key in self._sums else total
            self._counts[key] = self._counts.get(key, 0) + count
        self._pending.clear()
