"""What on-policy algorithms learn from: one rollout, flattened, in shuffled minibatches, then forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from rlrun.buffers.sequences import batches, columns_of, cut
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
            normalize: the column that gets mean 0 and standard deviation 1 within each minibatch, over all ranks. A
                rest of a single transition, which has no spread, is left out then.
        """
        flat = {key: column.reshape(-1, *column.shape[2:]) for key, column in columns.items()}
        total = len(next(iter(flat.values())))
        if batch_size >= total:  # one minibatch holds everything, so its order means nothing
            batch = {key: self.device.tensor(column) for key, column in flat.items()}
            if normalize is not None:
                batch[normalize] = self._normalized(batch[normalize], total)
            yield mapped(lambda x: x.expand(epochs, *x.shape), batch)
            return
        whole = total // batch_size * batch_size
        for _ in range(epochs):
            order = self.rng.permutation(total)
            shuffled = {key: self.device.tensor(column.take(order, axis=0)) for key, column in flat.items()}
            if normalize is not None:
                shuffled[normalize] = self._normalized(shuffled[normalize], batch_size)
            yield mapped(lambda x: x[:whole].unflatten(0, (-1, batch_size)), shuffled)
            if total - whole > (normalize is not None):
                yield mapped(lambda x: x[None, whole:], shuffled)

    def sequences(
        self,
        columns: Mapping[str, Array],
        memory: Array,
        ended: Array,
        *,
        length: int,
        burn_in: int,
        batch_size: int,
        epochs: int,
        normalize: str | None = None,
    ) -> Iterator[dict[str, Tensor]]:
        """The same in sequences, for a network that remembers; a minibatch is as `sequences.columns_of` has it.

        They vary in length, so a stack holds one minibatch, or the same one several times.

        Args:
            columns, epochs, normalize: as for `flat`; the column `obs` is what the network reads.
            memory: what the agent had before each step [T, E, M].
            ended: [T, E] bool, whether an episode ended with the step.
            length: most steps of a sequence.
            burn_in: steps before a sequence that bring its memory up to date, at most `length`.
            batch_size: transitions per minibatch, give or take a sequence.
        """
        every = cut(ended, length, burn_in)
        in_order = np.arange(len(every.env))
        if batch_size >= ended.size:
            batch = self._tensors(columns_of(every, columns, memory, burn_in), normalize)
            yield mapped(lambda x: x.expand(epochs, *x.shape), batch)
            return
        for _ in range(epochs):
            for group in batches(every, self.rng.permutation(in_order), batch_size):
                if normalize is None or group.steps.sum() > 1:
                    batch = self._tensors(columns_of(group, columns, memory, burn_in), normalize)
                    yield mapped(lambda x: x[None], batch)

    def _tensors(self, columns: Mapping[str, Array], normalize: str | None) -> dict[str, Any]:
        batch: dict[str, Any] = {key: self.device.tensor(column) for key, column in columns.items()}
        if normalize is not None:
            batch[normalize] = _normalized(batch[normalize])
        return batch

    def _normalized(self, column: Tensor, batch_size: int) -> Tensor:
        """A column [N] with mean 0 and standard deviation 1 in every minibatch of all ranks together."""
        pieces, group = column.split(batch_size), self.device.group
        if group.size == 1:
            return torch.cat([_normalized(x) for x in pieces])
        mean = group.mean(torch.stack([x.mean() for x in pieces]))
        centred = [x - m for x, m in zip(pieces, mean, strict=True)]
        counts = [group.size * len(x) for x in pieces]
        var = group.mean(torch.stack([x.square().mean() for x in centred])) * torch.tensor(
            [n / (n - 1) for n in counts], device=column.device
        )
        return torch.cat([x / (std + 1e-8) for x, std in zip(centred, var.sqrt(), strict=True)])


def flat_bursts(rollout: int, batch_size: int, epochs: int) -> tuple[int, ...]:
    """How many updates `Minibatches.flat` gives in a row, for a rollout of so many transitions."""
    if batch_size >= rollout:
        return (epochs,)
    return (rollout // batch_size, 1) if rollout % batch_size else (rollout // batch_size,)


def _normalized(x: Tensor) -> Tensor:
    return (x - x.mean()) / (x.std() + 1e-8) if len(x) > 1 else x  # a single number has no spread
