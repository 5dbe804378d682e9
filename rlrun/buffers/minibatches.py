"""What on-policy algorithms learn from: one rollout, flattened, in shuffled minibatches, then forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from rlrun.compute.device import Device
from rlrun.ops.fields import mapped
from rlrun.state import Stateful
from rlrun.types import Array, Tensor


class Minibatches(Stateful):
    """Cuts the columns of a rollout into minibatches.

    Args:
        rng: draws their order.
    """

    state = ("rng",)

    def __init__(self, rng: np.random.Generator, device: Device):
        self.rng, self.device = rng, device

    def flat(
        self, columns: Mapping[str, Array], batch_size: int, epochs: int, normalize: str | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Stacks of minibatches [m, B, ...] to make updates of in order: each epoch visits all T x E transitions once.

        An epoch has an order of its own. It is one stack, and one more of a single smaller minibatch where a rest is
        left; where one minibatch holds everything, all epochs are one stack of the same one.

        Args:
            columns: arrays [T, E, ...].
            batch_size: transitions per minibatch.
            normalize: the column that gets mean 0 and standard deviation 1 within each minibatch. A rest of a single
                transition, which has no spread, is left out then.
        """
        flat = {key: column.reshape(-1, *column.shape[2:]) for key, column in columns.items()}
        total = len(next(iter(flat.values())))
        if batch_size >= total:  # one minibatch holds everything, so its order means nothing
            batch = {key: self.device.tensor(column) for key, column in flat.items()}
            if normalize is not None:
                batch[normalize] = _normalized(batch[normalize])
            yield mapped(lambda x: x.expand(epochs, *x.shape), batch)
            return
        whole = total // batch_size * batch_size
        for _ in range(epochs):
            order = self.rng.permutation(total)
            shuffled = {key: self.device.tensor(column.take(order, axis=0)) for key, column in flat.items()}
            if normalize is not None:
                shuffled[normalize] = torch.cat([_normalized(x) for x in shuffled[normalize].split(batch_size)])
            yield mapped(lambda x: x[:whole].unflatten(0, (-1, batch_size)), shuffled)
            if total - whole > (normalize is not None):
                yield mapped(lambda x: x[None, whole:], shuffled)


def _normalized(x: Tensor) -> Tensor:
    return (x - x.mean()) / (x.std() + 1e-8) if len(x) > 1 else x  # a single number has no spread
