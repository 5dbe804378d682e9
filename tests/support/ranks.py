"""Ranks as threads of one process: real gloo between them, without the seconds that processes take to start."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

from torch import distributed

from rlrun.compute.spread import Group
from rlrun.ranks import Place

T = TypeVar("T")


def as_ranks(work: Callable[[Group], T], size: int = 2) -> list[T]:
    """What `work(group)` returns on each rank."""
    store = distributed.HashStore()

    def rank(number: int) -> T:
        place = Place(number, size, number, size)
        group = Group(distributed.ProcessGroupGloo(store, number, size, timedelta(seconds=60)), store, place)
        try:
            group.meet()  # as a run's ranks do: one that is done must not leave while the other still connects
            return work(group)
        finally:
            group.leave()

    with ThreadPoolExecutor(size) as pool:
        return [future.result() for future in [pool.submit(rank, number) for number in range(size)]]
