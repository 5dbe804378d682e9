"""Whether a run fits into memory: what its parts declare that they will allocate, against what the machine has free.

It is asked before anything is made. What is estimated are the large arrays: replay, rollouts, tables, parameters with
their gradients and moments, environments, actors and what they share.
"""

from __future__ import annotations

import contextlib
import functools
import math
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rlrun import registry
from rlrun.envs.vector.ways import WAYS
from rlrun.errors import ConfigError
from rlrun.footprint import Need
from rlrun.text import size
from rlrun.types import EnvSpec, HeadSpec

NOTABLE = 100e6  # bytes from which on it is said at the start of a run


def of_environments(config: Any) -> list[Need]:
    """What the environments ask for: known before one is opened."""
    footprint = registry.get("env", config.env.name).footprint
    if footprint is None:
        return []
    each = WAYS[getattr(config.env, "vector", "in_process")].footprint
    tested = min(getattr(config.eval, "num_envs", 0), getattr(config.eval, "episodes", 0))
    evaluation = Need("eval.num_envs", tested * each, f"{tested:,} environments for evaluation", each)
    return [*footprint(config.env, each), evaluation]


def of_run(config: Any, env: EnvSpec, learns: bool = True) -> list[Need]:
    """All that a run declares.

    Args:
        config: the run's config objects.
        learns: count what learning needs alone, such as a replay.
    """
    found = of_environments(config)
    if learns and config.buffer is not None:
        footprint = registry.get("buffer", config.buffer.name).footprint
        found += footprint(config.buffer, env) if footprint else []
    footprint, stored = registry.get("algo", config.algo.name).footprint, getattr(config.buffer, "capacity", 0)
    return found + list(footprint(config.algo, env, _Parameters(config.network, env, stored)) if footprint else [])


def of_source(config: Any, environments: Any, algo: Any) -> list[Need]:
    """What the source of experience declares beside, which depends on what the agent records.

    Args:
        algo: the learner, with its networks.
    """
    footprint, total = registry.get("experience", config.experience.name).footprint, config.total_timesteps
    if footprint is None:
        return []
    return list(footprint(config.experience, environments, algo, num_envs=config.env.num_envs, total_timesteps=total))


class _Parameters(NamedTuple):
    """See `footprint.Parameters`."""

    config: Any  # of the run's network, if it has one
    env: EnvSpec
    stored: int = 0

    def __call__(self, *heads: HeadSpec) -> int:
        footprint = self.config and registry.get("network", self.config.name).footprint
        return footprint(self.config, self.env.obs_space, *heads) if footprint else 0

    def memory(self, *heads: HeadSpec) -> int:
        remembers = self.config and registry.get("network", self.config.name).remembers
        return remembers(self.config, *heads) if remembers else 0


def check(config: Any, needs: list[Need], share: float = 0.9) -> None:
    """Refuse what cannot fit, naming the largest need's key and, if there is one, a value that would do.

    Args:
        needs: of which the config's keys are the cause.
        share: of what is free may be used up by the value that is recommended.

    Raises:
        ConfigError: there is less memory than that, on the machine or on its GPU.
    """
    on_device = [need for need in needs if need.on_device]
    in_memory = [need for need in needs if not (need.on_device or need.on_disk)]
    on_gpu = _gpu_free(config.device) if sum(need.bytes for need in on_device) > NOTABLE else None
    if on_gpu is None:
        in_memory += on_device
    else:
        _compare(config, on_device, on_gpu, "GPU memory", share)
    if in_memory and sum(need.bytes for need in in_memory) > NOTABLE:
        _compare(config, in_memory, free(), "memory", share)


def notice(needs: list[Need], ranks: int = 1) -> list[str]:
    """A line on the replay and on what is large; environments are left out, they are only guessed at.

    Args:
        needs: of one of so many ranks.
    """
    told = [need for need in needs if need.key == "buffer.capacity" or need.bytes > NOTABLE]
    told = [need for need in told if "num_envs" not in need.key]
    listed = ", ".join(f"{need.what}: {size(need.bytes)}" for need in told)
    whose = f" of each of {ranks} ranks" if ranks > 1 else ""
    return [f"memory{whose} for {listed}; {size(free())} are free"] if told else []


def _compare(config: Any, needs: list[Need], available: float, kind: str, share: float) -> None:
    total = sum(need.bytes for need in needs)
    if total <= available:
        return
    need = max(needs, key=lambda need: need.bytes)
    in_all = f" of {size(total)} in all" if need.bytes <= available else ""
    problem = f"{need.what} would need {size(need.bytes)}{in_all}, {size(available)} of {kind} are free"
    raise ConfigError(need.key, problem, _fitting(config, need, share * available - total) or need.advice)


def _fitting(config: Any, need: Need, left: float) -> str:
    """A value of the need's key that fits, in two digits; `left` is negative by what has to go."""
    value = functools.reduce(getattr, need.key.split("."), config) if need.each else 0
    largest = math.floor(value + left / need.each) if need.each else 0
    if largest < 1:
        return ""
    unit = 10 ** max(len(str(largest)) - 2, 0)
    return f"{need.key}={largest // unit * unit} fits"


def free() -> float:
    """Bytes that can still be used: by the machine, the process's control groups and limits. Infinite if unknown."""
    return max(0.0, min(_machine_free(), *_group_free(), _limit_free()))


def _machine_free() -> float:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return math.inf


def _group_free() -> Iterator[float]:
    """What each control group above this process has left (cgroup v2, then v1)."""
    yield math.inf
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        v1 = "memory" in controllers.split(",")
        if controllers and not v1:
            continue
        base = Path("/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup")
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if v1 else ("memory.max", "memory.current")
        group = base / path.strip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(base):
                break
            numbers = [_number(folder / name) for name in (limit, used)]
            if None not in numbers:
                yield numbers[0] - numbers[1] + _cache(folder)  # type: ignore[operator]


def _cache(folder: Path) -> float:
    """File pages that the kernel gives back when memory is asked for."""
    for line in _lines(folder / "memory.stat"):
        if line.startswith(("inactive_file ", "total_inactive_file ")):
            return float(line.split()[1])
    return 0.0


def _limit_free() -> float:
    """What `ulimit -v` leaves."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = next(iter(_lines("/proc/self/statm")), "0").split()[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit - int(used) * resource.getpagesize()


def _gpu_free(device: Any) -> float | None:
    """Free bytes of the GPU that the run would use; None if it uses none."""
    if getattr(device, "accelerator", "cpu") == "cpu":
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    index = int(device.accelerator.partition(":")[2] or 0)
    return float(torch.cuda.mem_get_info(index)[0]) if index < torch.cuda.device_count() else None


def _number(path: Path) -> float | None:
    return next((float(line) for line in _lines(path) if line.strip().isdigit()), None)


def _lines(path: str | Path) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8").splitlines()
    return []
