"""Masses of many slots, in whole numbers, and the slot at which a running sum of them reaches a value.

    masses   [C] int64                  level 0, padded with zeros to whole groups
    level k  [ceil(C / 64^k)] int64     sums of 64 neighbours of the level below, up to a top of at most 4096

A tree so wide is a few levels high, and one step down for all of a batch is a few NumPy calls on rows that lie together
in memory: groups are taken, summed up one behind the other in one running sum, and searched by bisection.

Whole numbers add up to the same whatever their order. So a change is added to the sums above it, none of which is ever
computed anew, and a tree that is made from saved masses is the one that was saved.
"""

from __future__ import annotations

import numpy as np

from rlrun.types import Array

WIDTH = 64  # masses in a group
TOP = 4096  # groups at most that are searched without a level above
AT_ONCE = 4096  # values that are searched for together


class SumTree:
    """Masses of `capacity` slots, 0 at the beginning.

    The sum of all must stay below 2^62, and so must `AT_ONCE` times the largest sum of a group at the bottom.
    """

    def __init__(self, capacity: int):
        sizes = [capacity]
        while sizes[-1] > TOP:
            sizes.append(-(-sizes[-1] // WIDTH))
        self._levels = [np.zeros(-(-size // WIDTH) * WIDTH, np.int64) for size in sizes]
        self._groups = [level.reshape(-1, WIDTH) for level in self._levels]
        self._running = np.zeros(len(self._levels[-1]) + 1, np.int64)  # of the top: sums of all before each, and of all
        self._room = (np.zeros(1, np.int64), np.zeros(0, np.int64))
        self._current = True
        self.masses = self._levels[0][:capacity]  # [C]; to be changed by `put` and `fill` alone
        self._least, self._of_least = 2**62, 0  # none above 0 is smaller, and so many are as small; 0 if not known

    def put(self, slots: Array, masses: Array) -> None:
        """Give slots [N] masses [N] above 0; of a slot that comes twice the last counts."""
        own, mark = self.masses, -np.arange(1, len(slots) + 1)
        old = own.take(slots)
        own[slots] = mark
        last = own.take(slots) == mark
        own[slots] = masses
        if np.count_nonzero(last) < len(slots):
            slots, masses, old = slots[last], masses[last], old[last]
        self._changed(slots, old, masses)

    def fill(self, start: int, stop: int, mass: int) -> None:
        """Give the slots from `start` to `stop` a mass above 0."""
        old = self.masses[start:stop].copy()
        self.masses[start:stop] = mass
        self._changed(np.arange(start, stop), old, np.full(stop - start, mass))

    def load(self, masses: Array) -> None:
        """Masses [N] of the first slots; the others become 0."""
        self.masses[:] = 0
        self.masses[: len(masses)] = masses
        for groups, above in zip(self._groups, self._levels[1:], strict=False):
            above[: len(groups)] = groups.sum(1)
        self._current, self._least, self._of_least = False, 0, 0

    def _changed(self, slots: Array, old: Array, new: Array) -> None:
        """Carry what became of masses [N] of different slots to the sums above them."""
        change = new - old
        for level in self._levels[1:]:
            slots = slots // WIDTH
            np.add.at(level, slots, change)
        self._current = False
        least = int(np.minimum.reduce(new))
        if least < self._least:
            self._least, self._of_least = least, 0
        else:
            self._of_least -= int(np.count_nonzero(old == self._least))
        if least == self._least:
            self._of_least += int(np.count_nonzero(new == least))

    @property
    def smallest(self) -> int:
        """The smallest mass above 0; ValueError if there is none.

        It is looked for among all when the last of its size was changed. That of all masses is the one least often
        drawn, so of n draws no more than n / C cause such a search.
        """
        if self._of_least <= 0:
            held = self.masses[self.masses > 0]
            self._least = int(held.min())
            self._of_least = int(np.count_nonzero(held == self._least))
        return self._least

    @property
    def total(self) -> int:
        """The sum of all masses."""
        if not self._current:
            np.add.accumulate(self._levels[-1], out=self._running[1:])
            self._current = True
        return int(self._running[-1])

    def find(self, values: Array) -> Array:
        """[N] int64: the slots where the running sum of the masses goes beyond values [N], 0 <= value < total."""
        if len(values) > AT_ONCE:
            return np.concatenate([self.find(values[i : i + AT_ONCE]) for i in range(0, len(values), AT_ONCE)])
        at = self._running[1:].searchsorted(values, "right")
        if len(self._groups) == 1:
            return at
        values = values - self._running.take(at)
        running, first = self._scratch(len(values))
        for groups in reversed(self._groups[:-1]):
            np.add.accumulate(groups.take(at, axis=0).ravel(), out=running[1:])
            values += running[:-1:WIDTH]
            found = running[1:].searchsorted(values, "right")
            values -= running.take(found)
            at *= WIDTH
            at += found
            at -= first
        return at

    def _scratch(self, count: int) -> tuple[Array, Array]:
        """Room for the running sum over `count` groups, beginning with 0, and where in it each group begins."""
        if len(self._room[1]) != count:
            self._room = (np.zeros(count * WIDTH + 1, np.int64), np.arange(0, count * WIDTH, WIDTH))
        return self._room
