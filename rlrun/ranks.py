"""Whether this process is one of several that make one run together, which `torchrun` has started: its ranks.

Every rank runs the same command on a share of the environments and of every batch; rank 0 leads: it alone writes into
the run's directory and speaks. How they go together is in compute/spread.py.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NamedTuple

from rlrun.errors import ConfigError

PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h


class Place(NamedTuple):
    """Of one process among all, and among those of its machine."""

    rank: int
    size: int
    local: int  # the rank among those of this machine
    beside: int  # how many there are on this machine


def place() -> Place | None:
    """What torchrun has told this process; None where it was not started so, or is the only one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    rank, size, local, beside = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    return Place(rank, size, local, beside) if size > 1 else None


def leads() -> bool:
    """Whether this process speaks for the run: it is rank 0, or the only one."""
    found = place()
    return found is None or found.rank == 0


def end_with_torchrun() -> None:
    """Where Linux can, SIGTERM comes when torchrun is gone, whatever has killed it: the run is saved and ends."""
    if sys.platform == "linux":
        import ctypes  # takes a moment, and every command imports this module

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


def refuse(what: str) -> None:
    """Raise ConfigError where torchrun has started several processes for something that they cannot do together."""
    if place() is not None:
        raise ConfigError(
            "torchrun", f"starts processes that train one run together, {what} is none", "write rlrun in its place"
        )
