"""Where the episodes of a ring begin and end, as far as they are stored."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from rlrun.buffers.ring import Ring
from rlrun.types import Array

GOES_ON = 2**63 - 1  # in place of the number of an episode's last transition


class Episodes:
    """Of every stored transition the first and the last one of its episode, by number.

    It has no state of its own: all follows from what the ring holds.
    """

    def __init__(self, ring: Ring):
        self.ring = ring

    @cached_property
    def _begun(self) -> Array:
        """[E] where the episodes under way began, or earlier if that is not stored any more."""
        oldest = self.ring.added - len(self.ring)
        return np.arange(oldest, oldest + self.ring.envs)

    @cached_property
    def _first(self) -> Array:
        """[C] of episodes that have ended."""
        return np.zeros(self.ring.capacity, np.int64)

    @cached_property
    def _last(self) -> Array:
        """[C] of episodes that have ended; GOES_ON of others."""
        return np.zeros(self.ring.capacity, np.int64)

    def add(self, numbers: range) -> None:
        """These are the newest that were stored."""
        ring = self.ring
        oldest = numbers.stop - ring.capacity
        new = np.arange(max(numbers.start, oldest), numbers.stop)
        self._last[new % ring.capacity] = GOES_ON
        before = np.arange(max(numbers.start - ring.envs, oldest, 0), new[0])  # may have been cut in between
        known = np.concatenate([before, new])
        steps = ring.take(known % ring.capacity)
        for number in known[steps["after"] >= ring.cells.in_rows].tolist():
            if self._last[number % ring.capacity] == GOES_ON:
                self._close(number)

    def _close(self, last: int) -> None:
        """An episode ended with this transition."""
        envs, capacity = self.ring.envs, self.ring.capacity
        first = int(self._begun[last % envs])
        slots = np.arange(max(first, last % envs + self._oldest), last + 1, envs) % capacity
        self._first[slots], self._last[slots] = first, last
        self._begun[last % envs] = last + envs

    @property
    def _oldest(self) -> int:
        """The number of the oldest stored transition of the first environment."""
        return self.ring.added - len(self.ring)

    def clear(self) -> None:
        """The ring holds something else."""
        for column in ("_begun", "_first", "_last"):
            self.__dict__.pop(column, None)
        if len(self.ring):
            self.add(range(self._oldest, self.ring.added))

    def around(self, numbers: Array) -> tuple[Array, Array]:
        """The first and the last stored transition [...] of the episodes that stored ones [...] belong to."""
        ring, slots, env = self.ring, numbers % self.ring.capacity, numbers % self.ring.envs
        last = self._last.take(slots)
        first = np.where(last == GOES_ON, self._begun.take(env), self._first.take(slots))
        return np.maximum(first, self._oldest + env), np.minimum(last, ring.added - ring.envs + env)
