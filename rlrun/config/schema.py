"""What a run's config holds: its own keys, and the groups whose components bring theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from rlrun.checks import Bounded, Count, OneOf, Within
from rlrun.seeding import SeedTree

MISSING = "???"


@dataclass
class StopConfig(Bounded):
    """When to stop before total_timesteps."""

    mean_return: float | None = None  # stop once the mean return of the last `window` training episodes reaches this
    window: Annotated[int, Within(1, 10**7)] = 100  # episodes averaged


@dataclass
class SweepConfig(Bounded):
    """How the jobs of a sweep (`rlrun -m`) are run; it makes no difference to what one of them computes."""

    # jobs at a time, each in a process of its own, GPUs dealt out; null = one, on a cluster as many as it takes
    jobs: Annotated[int, Within(1, 1024)] | None = None
    # seconds after which a job is ended and counts as failed; null = as long as it takes
    time_limit: Annotated[float, Within(1, 1e9)] | None = None
    # whose nodes, which share this directory, do them; submitit = this machine as slurm would; null = this machine
    cluster: Annotated[str, OneOf("ray", "slurm", "submitit")] | None = None
    # of Ray: HOST:PORT, ray://HOST:PORT, local = a cluster of its own, auto = found or local
    address: str = "auto"
    cpus: Annotated[float, Within(0, 1024)] = 1.0  # of a node that a job gets on a cluster
    gpus: Annotated[float, Within(0, 64)] = 0.0  # the same for GPUs; on Ray a part of one, too
    slurm: dict[str, Any] = field(default_factory=dict)  # options of sbatch: {partition: gpu, mem: 8G, time: 240}


@dataclass
class RunConfig(Bounded):
    """One run. The nodes are config groups; `validate` replaces them by their components' dataclasses."""

    seed: Annotated[int, Within(0, 2**63 - 1)] = 0  # all random streams of the run grow from it
    # how they grow; a run keeps its own: 1 had seeds of 32 bits, 2 has 31, which all libraries take
    seed_tree: Annotated[int, Within(1, 2)] = 2
    total_timesteps: Count = 50_000  # env steps to train for, summed over all environments
    algo: Any = None  # what learns
    network: Any = None  # what it learns with; null if it needs none
    buffer: Any = None  # what it learns from; null if it needs none
    env: Any = None  # where it learns
    device: Any = None  # hardware and numerics
    experience: Any = None  # what makes experience of agent and environments
    logger: Any = None  # where metrics go
    eval: Any = None  # evaluation while training and at the end
    checkpoint: Any = None  # what is saved, and when
    stop: StopConfig = field(default_factory=StopConfig)  # early stopping
    init_from: str | None = None  # start with the weights of this run: RUN, RUN@best or RUN@STEPS
    callbacks: list[Any] = field(default_factory=list)  # callbacks of yours, in order: [my.module.Class, {_target_: …}]
    sweep: SweepConfig = field(default_factory=SweepConfig)  # of `rlrun -m`, not part of a run
    imports: list[str] = field(default_factory=list)  # modules to import first; they register components of yours


KINDS = ("algo", "network", "buffer", "env", "device", "experience", "logger", "eval", "checkpoint")
OPTIONAL = {"network", "buffer"}


def seeds(config: RunConfig) -> SeedTree:
    """All seeds of a run."""
    return SeedTree(config.seed, config.seed_tree)
