"""One tree of seeds per run: every role has a branch of its own, so no two roles and no two runs share a stream.

The branch of a role is `SeedSequence(seed, spawn_key=(role, index))`: adding environments or switching evaluation on
does not move anybody else's stream.
"""

from __future__ import annotations

import enum
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

LARGEST = 2**31 - 1  # seed for environments and other libraries


class Role(enum.IntEnum):
    """Who draws. The numbers are part of the file format: append, never renumber."""

    ENV = 0  # one per training environment
    ACTION_SPACE = 1
    AGENT = 2  # exploration
    BUFFER = 3  # sampling, minibatch order
    NETWORK = 4  # initial weights, torch's global stream
    EVAL = 5  # one per episode of a periodic evaluation
    FINAL_EVAL = 6  # one per episode of the final evaluation
    PROBLEM = 7  # parameters drawn once, such as a bandit's arms; shared by training and evaluation
    TEST = 8  # one per episode of `rlrun eval` and `rlrun play`: no checkpoint was chosen by them


class SeedTree:
    """All seeds of a run, from one number.

    Args:
        seed: the number.
        version: 1 has seeds of 32 bits; 2, the same without their highest bit: there are libraries that keep a seed in
            a signed number of 32.
    """

    def __init__(self, seed: int, version: int = 2):
        self.seed = seed
        self._mask = 0xFFFFFFFF if version == 1 else LARGEST

    def generator(self, role: Role, index: int = 0) -> np.random.Generator:
        return np.random.default_rng(self._sequence(role, index))

    def integer(self, role: Role, index: int = 0) -> int:
        """A seed for libraries that take a number."""
        return int(self._sequence(role, index).generate_state(1, np.uint32)[0]) & self._mask

    def integers(self, role: Role, count: int) -> list[int]:
        return [self.integer(role, index) for index in range(count)]

    def _sequence(self, role: Role, index: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=(int(role), index))


@contextmanager
def aside(seed: int) -> Iterator[None]:
    """Code of others that may draw from the global streams (Python, NumPy, torch): here from seeded ones of its own.

    Afterwards the global streams stand where they stood.
    """
    torch = sys.modules.get("torch")  # where torch was never imported, nobody draws from it
    before = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)
    if torch:
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch:
            torch.set_rng_state(before[2])
