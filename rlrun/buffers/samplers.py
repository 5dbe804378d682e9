"""Which of the stored transitions a batch is made of."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

from rlrun.buffers.sumtree import SumTree
from rlrun.schedules import Schedule
from rlrun.state import Stateful, generator_state, restore_generator
from rlrun.types import Array, StateDict


class Sampler(Protocol):
    """Draws slots of a ring. It hears of all that is added, so what changes with a run's age needs no other clock."""

    added: int  # transitions of the whole run so far

    @property
    def ahead(self) -> int | None:
        """Batches that it draws before it must hear how wrong the learner was about them; None: it need not hear."""
        ...

    def add(self, numbers: range) -> None:
        """These transitions are new; each lies in the slot `number % capacity`."""
        ...

    def draw(self, size: int, count: int, batch_size: int) -> Array:
        """Slots below `size` for `count` batches: [count, B] int64."""
        ...

    def weights(self, slots: Array, there: Array | None = None) -> Array | None:
        """[..., B] float32: how much each of what was drawn counts; None if all count 1.

        Args:
            there: of sequences, whose slots are [L, B]: [L, B] bool, which of their steps there are; [B] is returned.
        """
        ...

    def weigh(self, slots: Array, td_error: Array) -> None:
        """How wrong the learner was about the transitions in these slots [N]. Not called where `ahead` is None."""
        ...

    def state_dict(self, contents: bool = True) -> StateDict:
        """Everything, or without `contents` only what does not belong to what is stored."""
        ...

    def load_state_dict(self, state: StateDict) -> None: ...


class Uniform(Stateful):
    """Every transition is equally likely.

    Args:
        rng: draws the slots.
        replacement: whether a batch may hold a transition twice; without costs time in proportion to what is stored.
    """

    state = ("added", "rng")
    ahead = None

    def __init__(self, rng: np.random.Generator, *, replacement: bool = True):
        self.rng, self.replacement = rng, replacement
        self.added = 0

    def add(self, numbers: range) -> None:
        self.added += len(numbers)

    def draw(self, size: int, count: int, batch_size: int) -> Array:
        if self.replacement:
            return self.rng.integers(size, size=(count, batch_size))
        return np.stack([self.rng.choice(size, batch_size, replace=False) for _ in range(count)])

    def weights(self, slots: Array, there: Array | None = None) -> None:
        """All count 1."""

    def weigh(self, slots: Array, td_error: Array) -> None:
        """All stay equally likely."""

    def state_dict(self, contents: bool = True) -> StateDict:
        return super().state_dict()


EPSILON = 1e-6  # is added to an error, so that nothing is never drawn again
LARGEST = 2**16  # of (|TD| + epsilon)^alpha
UNITS = 24  # bits behind the point of a mass, fewer where the sum of all would be too large


class Prioritized:
    """What the learner was wrong about is more likely: P(i) = p_i^alpha / sum p^alpha, p = |TD error| + 1e-6.

    Schaul et al. 2016 (arXiv:1511.05952), proportional variant: equation 1, section 3.3 and appendix B.2.1. A batch is
    stratified: one draw from each of B equal parts of the sum. It counts by

        w_i = (N P(i))^-beta / max_j (N P(j))^-beta,

    over all j that are stored, or over those of the batch. What is new gets the largest p^alpha that there has been,
    1 at first. p^alpha is kept as a whole number of units of 2^-24, at least one and at most 2^40 of them, so that sums
    are exact (see sumtree.py).

    Args:
        capacity: slots of the ring.
        rng: draws the slots.
        alpha: how much more likely; 0: all are equally likely.
        beta: how much of that the weights make up for, as a function of the transitions of the whole run so far.
        normalize: whose largest weight becomes 1: "buffer" or "batch".
        ahead: batches that are drawn before the errors of the first are known.
    """

    def __init__(
        self,
        capacity: int,
        rng: np.random.Generator,
        *,
        alpha: float = 0.6,
        beta: Schedule,
        normalize: str = "buffer",
        ahead: int = 1,
    ):
        self.capacity, self.rng, self.alpha, self.beta, self.ahead = capacity, rng, alpha, beta, ahead
        self.of_buffer = normalize == "buffer"
        self.added = 0
        self.one = 2 ** min(UNITS, 62 - LARGEST.bit_length() - capacity.bit_length())  # the mass of p^alpha = 1
        self.largest = self.one  # mass so far
        # Arrays of no axes: NumPy is quicker with them than with Python's numbers.
        self._epsilon, self._most, self._one = np.array(EPSILON), np.array(float(LARGEST)), np.array(float(self.one))
        self._unit = np.array(1.0)
        self._stored = 0
        self._strata = np.zeros(0)

    @cached_property
    def tree(self) -> SumTree:
        return SumTree(self.capacity)

    def add(self, numbers: range) -> None:
        self.added += len(numbers)
        self._stored = min(self._stored + len(numbers), self.capacity)
        begin = max(numbers.start, numbers.stop - self.capacity)
        while begin < numbers.stop:  # once, or twice where the ring begins anew
            slot = begin % self.capacity
            end = min(numbers.stop, begin + self.capacity - slot)
            self.tree.fill(slot, slot + end - begin, self.largest)
            begin = end

    def draw(self, size: int, count: int, batch_size: int) -> Array:
        if len(self._strata) != batch_size:
            self._strata = np.arange(batch_size, dtype=np.float64)
        values = self.rng.random((count, batch_size))
        values += self._strata
        values *= self.tree.total / batch_size * (1 - 2**-50)  # so that no rounding makes one of them the total
        return self.tree.find(values.ravel().astype(np.int64)).reshape(values.shape)

    def weights(self, slots: Array, there: Array | None = None) -> Array:
        masses = self.tree.masses.take(slots)
        if there is not None:  # a step is drawn as often as those of its sequence are on average
            masses = (masses * there).sum(0) / there.sum(0)
        least = self.tree.smallest if self.of_buffer else masses.min(-1, keepdims=True)
        return ((least / masses) ** self.beta(self.added)).astype(np.float32)

    def weigh(self, slots: Array, td_error: Array) -> None:
        if not len(slots):
            return
        powers = td_error.astype(np.float64)
        np.abs(powers, out=powers)
        powers += self._epsilon
        powers = np.fmin(powers**self.alpha, self._most)
        powers *= self._one
        np.rint(powers, out=powers)
        masses = np.fmax(powers, self._unit).astype(np.int64)
        self.tree.put(slots, masses)
        self.largest = max(self.largest, masses.item(masses.argmax()))

    def state_dict(self, contents: bool = True) -> StateDict:
        masses = self.tree.masses[: self._stored].copy() if contents and self._stored else np.zeros(0, np.int64)
        return {"added": self.added, "rng": generator_state(self.rng), "largest": self.largest, "masses": masses}

    def load_state_dict(self, state: StateDict) -> None:
        masses = state["masses"]
        if len(masses) > self.capacity or masses.min(initial=1) < 1:
            raise ValueError(f"priorities of {len(masses)} transitions were saved, expected {self.capacity} or fewer")
        self.added, self.largest, self._stored = state["added"], state["largest"], len(masses)
        restore_generator(self.rng, state["rng"])
        self.tree.load(masses)
