"""Which process is meant by a number: on which machine, since when, and whether it is still there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What tells this process from every other, on this machine or another, before a restart or after it."""
    return {"pid": os.getpid(), "pid_started": process_start(os.getpid()), **_machine()}


def is_this(process: Mapping[str, Any]) -> bool:
    """Whether it is this very process."""
    own = this_process()
    return all(process.get(key) == own[key] for key in ("pid", "pid_started")) and is_here(process)


def is_here(process: Mapping[str, Any]) -> bool:
    """Whether a process is of this machine, this start of it and this container: its number then means something."""
    return all(process.get(key) in (None, value) for key, value in _machine().items())  # 0.1.0 noted the host alone


def exists(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine runs, and is not another one with its number."""
    return is_running(process["pid"]) and process_start(process["pid"]) == process.get("pid_started")


def is_running(pid: int) -> bool:
    """Whether a process of this number exists on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it exists and is somebody else's
        return True
    return True


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: a pid given out anew differs. None if unknown or gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def machine() -> str:
    """A few letters that stand for this machine, start and container."""
    return hashlib.sha256(repr(_machine()).encode()).hexdigest()[:8]


def _machine() -> dict[str, str | None]:
    """Host, start of the kernel, and the name space that gives out numbers: a container has one of its own."""
    boot = space = None
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    return {"host": platform.node(), "boot": boot, "pid_namespace": space}
