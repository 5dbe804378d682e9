"""Masses of many slots, in whole numbers, and the slot at which a running sum of them reaches a value.

    masses   [C] int64                  level 0, padded with zeros to whole groups
    level k  [ceil(C / 32^k)] int64     sums of 32 neighbours of the level below, up to a top of at most 4096

A tree so wide is a few levels high, and one step down for all of a batch is a few NumPy calls on rows that lie together
in memory: groups are taken, summed up one behind the other in one running sum, and searched by bisection.

Whole numbers add up to the same whatever their order. So a change is added to the sums above it, none of which is ever
computed anew, and a tree that is made from saved masses is the one that was saved.

For a batch of 32 the calls are what costs, not the numbers. NumPy is quicker with an array of no axes than with a
number of Python's, hence `_shift`; and an extreme is found quicker by its index.
"""

from __future__ import annotations

import numpy as np

from rlrun.types import Array

WIDTH = 32  # masses in a group, a power of 2
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
        self._shift = np.array(WIDTH.bit_length() - 1)  # x >> shift is x // WIDTH
        self._down = [level.reshape(-1, WIDTH) for level in self._levels[-2::-1]]  # groups, as a search goes
        self._top = Running(len(self._levels[-1]))
        self._current = True  # it is the top's
        self._room = Room(0)
        self._marks = np.zeros(0, np.int64)
        self.masses = self._levels[0][:capacity]  # [C]; to be changed by `put` and `fill` alone
        self._least, self._of_least = 2**62, 0  # none above 0 is smaller, and so many are as small; 0 if not known

    def put(self, slots: Array, masses: Array) -> None:
        """Give slots [N] masses [N] above 0; of a slot that comes twice the last counts."""
        own, count = self.masses, len(slots)
        if len(self._marks) < count:
            self._marks = -np.arange(1, count + 1)
        marks = self._marks[:count]
        old = own.take(slots)
        own[slots] = marks
        last = own.take(slots) == marks
        own[slots] = masses
        if np.count_nonzero(last) < count:
            slots, masses, old = slots[last], masses[last], old[last]
        self._changed(slots, old, masses)

    def fill(self, start: int, stop: int, mass: int) -> None:
        """Give the slots from `start` to `stop` a mass above 0."""
        old = self.masses[start:stop].copy()
        self.masses[start:stop] = mass
        self._changed(np.arange(start, stop), old, self.masses[start:stop])

    def load(self, masses: Array) -> None:
        """Masses [N] of the first slots; the others become 0."""
        self.masses[:] = 0
        self.masses[: len(masses)] = masses
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            groups = below.reshape(-1, WIDTH)
            above[: len(groups)] = groups.sum(1)
        self._current, self._least, self._of_least = False, 0, 0

    def _changed(self, slots: Array, old: Array, new: Array) -> None:
        """Carry what became of masses [N] of different slots to the sums above them."""
        change = new - old
        for level in self._levels[1:]:
            slots = slots >> self._shift
            np.add.at(level, slots, change)
        self._current = False
        least = new.item(new.argmin())
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
            self._top.add_up(self._levels[-1])
            self._current = True
        return self._top.sums.item(-1)

    def find(self, values: Array) -> Array:
        """[N] int64: the slots where the running sum of the masses goes beyond values [N], 0 <= value < total."""
        if len(values) > AT_ONCE:
            return np.concatenate([self.find(values[i : i + AT_ONCE]) for i in range(0, len(values), AT_ONCE)])
        if self._room.count != len(values):
            self._room = Room(len(values))
        running, room = self._top, self._room
        found = at = running.behind.searchsorted(values, "right")
        for groups in self._down:
            values = values - running.before.take(found)
            running = room.running
            running.add_up(groups.take(at, axis=0).ravel())
            values += room.starts
            found = running.behind.searchsorted(values, "right")
            at = (at << self._shift) + found
            at -= room.first
        return at


class Running:
    """Running sum of `count` masses: what comes `before` each of them, and what has come `behind` it."""

    def __init__(self, count: int):
        self.sums = np.zeros(count + 1, np.int64)
        self.before, self.behind = self.sums[:-1], self.sums[1:]

    def add_up(self, masses: Array) -> None:
        np.add.accumulate(masses, out=self.behind)


class Room:
    """Room for the running sum over `count` groups one behind the other."""

    def __init__(self, count: int):
        self.count, self.running = count, Running(count * WIDTH)
        self.starts = self.running.before[::WIDTH]  # [count] what comes before each group
        self.first = np.arange(0, count * WIDTH, WIDTH)  # [count] its first mass
