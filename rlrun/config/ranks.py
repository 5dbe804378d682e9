"""A run of several ranks (`torchrun`): what cannot be spread over them, and what each of them has of the whole.

The config is that of the whole run, whose sizes are dealt out: each of N ranks steps `env.num_envs / N` environments,
draws `algo.batch_size / N` of every batch and keeps `buffer.capacity / N` transitions. Whatever is counted in env steps
(`total_timesteps`, schedules, `train_freq`, `learning_starts`, ...) counts those of all ranks and stays as it is.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from rlrun import registry
from rlrun.config.schema import RunConfig
from rlrun.errors import ConfigError

START = "torchrun --nproc-per-node"

# What each rank has a share of: it is counted in environments, and in what is drawn or kept of their steps.
DEALT = {
    "env": {"num_envs"},
    "algo": {"batch_size", "batch_rollouts", "replay_capacity", "replay_min"},
    "buffer": {"capacity"},
}
EVENLY, AT_LEAST = {"num_envs", "batch_size", "batch_rollouts"}, {"replay_capacity", "replay_min"}


def check(config: RunConfig) -> None:
    """A config can be spread over ranks; ConfigError names what cannot."""
    algo, network = config.algo.name, config.network
    if not registry.get("algo", algo).needs.ranks:
        able = ", ".join(name for name in registry.names("algo") if registry.get("algo", name).needs.ranks)
        raise ConfigError("algo", f"{algo} learns on one rank alone", f"these learn on several: {able}")
    if config.experience.name != "rollouts":
        problem = f"{config.experience.name} goes with one rank: here every rank collects what it learns from"
        raise ConfigError("experience", problem, "write experience=rollouts")
    if config.device.compile == "true":
        raise ConfigError("device.compile", "ranks meet in the middle of an update, which no graph has", "write auto")
    from_rollouts = registry.get("algo", algo).needs.memory is None
    if from_rollouts and network is not None and registry.get("network", network.name).remembers:
        problem = f"{network.name} learns from the sequences of a rollout, of which no two ranks have equally many"
        raise ConfigError("network", problem, "write network=mlp, or start one rank")
    if getattr(config.algo, "reduction", "mean") == "sum":
        problem = "a sum over a batch is not the mean of the sums over its shares, which ranks take"
        raise ConfigError("algo.reduction", problem, "write mean, or start one rank")
    if getattr(network, "batch_norm", "none") != "none":
        problem = "the statistics of a batch are not those of its shares on several ranks"
        raise ConfigError("network.batch_norm", problem, "write none, or start one rank")


def of_rank(config: RunConfig, size: int) -> RunConfig:
    """The config that one of `size` ranks builds its part by.

    Raises:
        ConfigError: environments or batches cannot be dealt out evenly.
    """
    shares: dict[str, Any] = {}
    for kind, names in DEALT.items():
        part = getattr(config, kind)
        known = {field.name for field in fields(part)} if part is not None else set()
        mine = {}
        for name in names & known:
            whole = getattr(part, name)
            if whole is not None:
                if name in EVENLY and whole % size:
                    raise _uneven(f"{kind}.{name}", whole, size)
                mine[name] = -(-whole // size) if name in AT_LEAST else max(1, whole // size)
        shares[kind] = replace(part, **mine) if mine else part
    return replace(config, **shares)


def _uneven(key: str, whole: int, size: int) -> ConfigError:
    near = [n for n in (whole // size * size, -(-whole // size) * size) if n]
    fewer = [n for n in range(2, size) if whole % n == 0]
    started = f"{START}={fewer[-1]}" if fewer else "one rank"
    hint = f"write {key}={' or '.join(map(str, near))}, or start {started}"
    return ConfigError(key, f"{size} ranks cannot have equally much of {whole}", hint)


def shares(share: RunConfig, size: int) -> list[str]:
    """A line on what each of `size` ranks has; nothing for a single one."""
    if size == 1:
        return []
    batch = getattr(share.algo, "batch_size", None)
    drawn = f" and {batch:,} transitions of a batch" if batch else ""
    return [f"{size} ranks, each with {share.env.num_envs:,} of {size * share.env.num_envs:,} environments{drawn}"]
