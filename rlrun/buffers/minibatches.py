"""The memory of on-policy algorithms: one rollout, flattened, in shuffled minibatches, then forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rlrun.compute.device import Device
from rlrun.ops.fields import rows
from rlrun.registry import register
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, EnvSpec, StateDict, Tensor


@dataclass
class RolloutBufferConfig:
    """One rollout at a time."""

    name: str = "rollout"  # registered kind of buffer


@register("buffer", RolloutBufferConfig, keeps="rollout")
class RolloutBuffer:
    """Cuts the columns of a rollout into minibatches."""

    def __init__(
        self, cfg: RolloutBufferConfig, env: EnvSpec, *, gamma: float, rng: np.random.Generator, device: Device
    ):
        self.rng, self.device = rng, device

    def minibatches(
        self, columns: Mapping[str, Array], batch_size: int, epochs: int, normalize: str | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Each epoch visits all T x E transitions once, in a new order.

        Args:
            columns: arrays [T, E, ...].
            batch_size: transitions per minibatch; the last one of an epoch holds the rest.
            normalize: the column that gets mean 0 and standard deviation 1 within each minibatch. A rest of a single
                transition, which has no spread, is left out then.
        """
        flat = {key: column.reshape(-1, *column.shape[2:]) for key, column in columns.items()}
        total = len(next(iter(flat.values())))
        if batch_size >= total:  # one minibatch holds everything, so its order means nothing
            batch = {key: self.device.tensor(column) for key, column in flat.items()}
            _normalize(batch, normalize)
            for _ in range(epochs):
                yield batch
            return
        for _ in range(epochs):
            order = self.rng.permutation(total)
            shuffled = {key: self.device.tensor(column.take(order, axis=0)) for key, column in flat.items()}
            for start in range(0, total - (normalize is not None), batch_size):
                batch = rows(shuffled, slice(start, start + batch_size))
                _normalize(batch, normalize)
                yield batch

    def state_dict(self, contents: bool = True) -> StateDict:
        return {"rng": generator_state(self.rng)}

    def load_state_dict(self, state: StateDict) -> None:
        restore_generator(self.rng, state["rng"])


def _normalize(batch: dict[str, Tensor], key: str | None) -> None:
    if key is not None and len(batch[key]) > 1:  # a single number has no spread
        batch[key] = (batch[key] - batch[key].mean()) / (batch[key].std() + 1e-8)
