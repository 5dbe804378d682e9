"""Mean and variance of all numbers seen so far (Chan, Golub & LeVeque 1979), in float64, without a prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rlrun.types import StateDict

    Array = np.ndarray

EPSILON = 1e-8  # added to the variance


class RunningMeanStd:
    """Mean and population variance of everything given to `update`, per element of `shape`."""

    def __init__(self, shape: tuple[int, ...] = ()):
        self.count = 0
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)  # sum of squared deviations from the mean

    @property
    def var(self) -> Array:
        return self._squares / max(self.count, 1)

    @property
    def std(self) -> Array:
        """Square root of var + EPSILON; 1 before there are two samples to differ."""
        return np.sqrt(self.var + EPSILON) if self.count > 1 else np.ones_like(self.mean)

    def update(self, batch: Array) -> None:
        """Take in a batch [N, *shape], N >= 1."""
        mean = batch.mean(axis=0, dtype=np.float64)
        self._join(len(batch), mean, np.square(batch - mean).sum(axis=0))

    def since(self, earlier: RunningMeanStd) -> Array:
        """What was taken in since they were as these are: its number, means and squared deviations, in a row."""
        n = self.count - earlier.count
        mean = (self.mean * self.count - earlier.mean * earlier.count) / max(n, 1)
        between = (mean - earlier.mean) ** 2 * (earlier.count * n / max(self.count, 1))
        squares = np.maximum(self._squares - earlier._squares - between, 0.0)
        return np.concatenate([[n], mean.ravel(), squares.ravel()])

    def join(self, row: Array) -> None:
        """Take in what `since` says of others."""
        if n := int(row[0]):
            mean, squares = row[1:].reshape(2, *self.mean.shape)
            self._join(n, mean, squares)

    def _join(self, n: int, mean: Array, squares: Array) -> None:
        """Take in n samples by their mean and the sum of their squared deviations from it."""
        seen, delta = self.count, mean - self.mean
        self.count = seen + n
        self._squares = self._squares + squares + delta**2 * (seen * n / self.count)
        self.mean = self.mean + delta * (n / self.count)

    def normalized(self, values: Array, limit: float) -> Array:
        """(values - mean) / std per element, within +-limit, float32."""
        return np.clip((values - self.mean) / self.std, -limit, limit).astype(np.float32)

    def state_dict(self) -> StateDict:
        return {"count": self.count, "mean": np.array(self.mean), "squares": np.array(self._squares)}

    def load_state_dict(self, state: StateDict) -> None:
        self.count = state["count"]
        self.mean, self._squares = np.array(state["mean"]), np.array(state["squares"])
