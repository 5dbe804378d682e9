"""Buffers of what a source gave, as Python objects: for a loop of one's own, and for items of any kind.

    buffer = ExperienceReplayBuffer(source, buffer_size=10_000)
    buffer.populate(1)                          # takes an item from the source: one more step is played
    batch = unpack_batch(buffer.sample(32))

An item costs its objects, and its observations once: what one step led to is what the next began with. Of stacked
pictures each is kept once (see `frames`): some 7.6 KB for a step of four 84 x 84. The runner's replay (`rlrun.buffers`)
keeps columns of numbers instead of objects. Both draw with the same samplers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rlrun.buffers.samplers import Prioritized, Sampler, Uniform
from rlrun.errors import RlrunError
from rlrun.schedules import Constant
from rlrun.types import Array


class _Items:
    """The newest items of a source: number i lies in slot i % capacity."""

    def __init__(self, experience_source: Iterable[Any] | None, buffer_size: int, sampler: Sampler):
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be at least 1, got {buffer_size}")
        self.capacity, self.sampler = buffer_size, sampler
        self._source = None if experience_source is None else iter(experience_source)
        self._items: list[Any] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        """The items, the oldest first."""
        first = self.sampler.added % len(self._items) if self._items else 0
        return iter(self._items[first:] + self._items[:first])

    def populate(self, samples: int) -> None:
        """Take so many items from the source. Of an episode's end several may come with one step: they are no steps.

        Raises:
            RlrunError: it has no source, or one that came to its end.
        """
        if self._source is None:
            raise RlrunError("this buffer has no source: give it one, or use `add`")
        for _ in range(samples):
            try:
                self.add(next(self._source))
            except StopIteration:
                raise RlrunError("the source of this buffer came to its end") from None

    def add(self, item: Any) -> None:
        """One more item; the oldest makes room for it."""
        number = self.sampler.added
        if number < self.capacity:
            self._items.append(item)
        else:
            self._items[number % self.capacity] = item
        self.sampler.add(range(number, number + 1))

    def _draw(self, batch_size: int) -> Array:
        """Slots [B]."""
        if batch_size < 1:
            raise ValueError(f"a batch holds at least one item, got batch_size={batch_size}")
        if len(self) < batch_size:
            raise RlrunError(f"a batch of {batch_size} was asked of a buffer that holds {len(self)} items")
        return self.sampler.draw(len(self), 1, batch_size)[0]


class ExperienceReplayBuffer(_Items):
    """The newest items of a source, all equally likely (Lin 1992).

    Args:
        experience_source: gives the items; None if `add` does.
        buffer_size: how many are kept.
        rng: draws; without it, a stream of the buffer's own, whose draws do not repeat.
        replacement: whether a batch may hold an item twice; without costs time in proportion to what is stored.
    """

    def __init__(
        self,
        experience_source: Iterable[Any] | None,
        buffer_size: int,
        rng: np.random.Generator | None = None,
        replacement: bool = True,
    ):
        super().__init__(
            experience_source, buffer_size, Uniform(rng or np.random.default_rng(), replacement=replacement)
        )

    def sample(self, batch_size: int) -> list[Any]:
        """`batch_size` items; RlrunError if fewer are stored."""
        return [self._items[slot] for slot in self._draw(batch_size).tolist()]


class PrioritizedReplayBuffer(_Items):
    """What the learner was wrong about is more likely (Schaul et al. 2016): see `rlrun.buffers.samplers.Prioritized`.

        samples, indices, weights = buffer.sample(32, beta)
        batch = unpack_batch(samples, weights=weights, indices=indices)
        ...                                                 # the loss is a mean of batch.weight * error
        buffer.update_priorities(indices, td_error.abs())

    Args:
        experience_source: gives the items; None if `add` does.
        buffer_size: how many are kept.
        alpha: how much more likely; 0: all are equally likely.
        rng: draws; without it, a stream of the buffer's own, whose draws do not repeat.
    """

    sampler: Prioritized

    def __init__(
        self,
        experience_source: Iterable[Any] | None,
        buffer_size: int,
        alpha: float = 0.6,
        rng: np.random.Generator | None = None,
    ):
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, got {alpha}")
        sampler = Prioritized(buffer_size, rng or np.random.default_rng(), alpha=alpha, beta=Constant(0.4))
        super().__init__(experience_source, buffer_size, sampler)

    def sample(self, batch_size: int, beta: float = 0.4) -> tuple[list[Any], Array, Array]:
        """Items, their numbers int64 [B] and their importance weights float32 [B]; RlrunError if fewer are stored.

        Args:
            beta: how much the weights make up for what is drawn more often; anneal it to 1.
        """
        if beta < 0:
            raise ValueError(f"beta must be at least 0, got {beta}")
        slots = self._draw(batch_size)
        self.sampler.beta = Constant(beta)
        newest = self.sampler.added - 1
        numbers = newest - (newest - slots) % self.capacity
        return [self._items[slot] for slot in slots.tolist()], numbers, self.sampler.weights(slots)

    def update_priorities(self, batch_indices: Sequence[int] | Array, batch_priorities: Any) -> None:
        """How wrong the learner was about items, by their numbers [B]; what was overwritten meanwhile is passed over.

        Args:
            batch_priorities: [B] |TD error|, as an array or tensor; 1e-6 is added, so that 0 is drawn again some day.
        """
        if hasattr(batch_priorities, "detach"):
            batch_priorities = batch_priorities.detach().cpu()
        numbers, errors = np.asarray(batch_indices), np.asarray(batch_priorities, np.float64)
        if numbers.shape != errors.shape or not np.isfinite(errors).all():
            raise ValueError(f"{numbers.size} items need as many finite priorities, got {errors.tolist()}")
        there = (numbers >= self.sampler.added - len(self)) & (numbers < self.sampler.added)
        self.sampler.weigh(numbers[there] % self.capacity, errors[there])


class ExperienceSourceBuffer:
    """Endless random pieces of stored episodes: a random episode, and n steps that follow each other in it.

        episodes = list(islice(ExperienceSource(env, agent).episodes(), 100))
        for steps in ExperienceSourceBuffer(episodes, steps_count=4):
            ...

    Args:
        buffer: episodes, each a sequence of steps.
        steps_count: n; an episode that has fewer comes whole.
        rng: draws; without it, a stream of its own, whose draws do not repeat.
    """

    def __init__(self, buffer: Sequence[Sequence[Any]], steps_count: int = 1, rng: np.random.Generator | None = None):
        self.steps_count, self.rng = steps_count, rng or np.random.default_rng()
        self.update_buffer(buffer)

    def update_buffer(self, buffer: Sequence[Sequence[Any]]) -> None:
        """From now on, other episodes."""
        if not buffer or not all(map(len, buffer)):
            raise ValueError("there must be an episode, and a step in each")
        self.buffer = buffer

    def __iter__(self) -> Iterator[Sequence[Any]]:
        while True:
            episode = self.buffer[int(self.rng.integers(len(self.buffer)))]
            first = int(self.rng.integers(max(1, len(episode) - self.steps_count + 1)))
            yield episode[first : first + self.steps_count]
