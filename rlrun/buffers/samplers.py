"""Which of the stored transitions a batch is made of."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rlrun.state import Stateful
from rlrun.types import Array, StateDict


class Sampler(Protocol):
    """Draws slots of a ring. It hears of all that is added, so what changes with a run's age needs no other clock."""

    added: int  # transitions of the whole run so far
    weighs: bool  # whether it wants to know how wrong the learner was about what it drew

    def add(self, numbers: range) -> None:
        """These transitions are new; each lies in the slot `number % capacity`."""
        ...

    def draw(self, size: int, count: int, batch_size: int) -> Array:
        """Slots below `size` for `count` batches: [count, B] int64."""
        ...

    def weigh(self, slots: Array, td_error: Array) -> None:
        """How wrong the learner was about the transitions in these slots."""
        ...

    def state_dict(self) -> StateDict: ...
    def load_state_dict(self, state: StateDict) -> None: ...


class Uniform(Stateful):
    """Every transition is equally likely.

    Args:
        rng: draws the slots.
        replacement: whether a batch may hold a transition twice; without costs time in proportion to what is stored.
    """

    state = ("added", "rng")
    weighs = False

    def __init__(self, rng: np.random.Generator, *, replacement: bool = True):
        self.rng, self.replacement = rng, replacement
        self.added = 0

    def add(self, numbers: range) -> None:
        self.added += len(numbers)

    def draw(self, size: int, count: int, batch_size: int) -> Array:
        if self.replacement:
            return self.rng.integers(size, size=(count, batch_size))
        return np.stack([self.rng.choice(size, batch_size, replace=False) for _ in range(count)])

    def weigh(self, slots: Array, td_error: Array) -> None:
        """All stay equally likely."""
