"""What a run is made of, before it has a directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlrun.algos.algorithm import Algorithm
from rlrun.compute.device import Device
from rlrun.compute.spread import Alone
from rlrun.config.schema import RunConfig
from rlrun.envs.environments import Environments
from rlrun.errors import ConfigError
from rlrun.experience.contracts import Source
from rlrun.interrupt import Interrupt
from rlrun.rundir.layout import RunDir
from rlrun.seeding import SeedTree
from rlrun.types import EnvSpec, ReplayBuffer


@dataclass
class Setting:
    """Where an agent acts and what it is computed with: all that it takes to play one, but for the agent."""

    cfg: RunConfig  # read-only
    seeds: SeedTree
    environments: Environments
    spec: EnvSpec
    device: Device

    @property
    def group(self) -> Alone:
        """The ranks that make the run together."""
        return self.device.group

    @property
    def data(self) -> dict[str, str]:
        """The hash of the data that the environments show, for `meta.json`; {} where they show none."""
        fingerprint = self.environments.fingerprint()
        return {"data": fingerprint} if fingerprint else {}

    @property
    def known(self) -> dict[str, Any]:
        """What is known of the environments without opening them, for `meta.json`; {} where they must be opened."""
        record = self.environments.record()
        return {"environment": record} if record else {}

    def must_show_data_of(self, run_dir: RunDir) -> None:
        """Raise ConfigError if the data are not those that a run was started with."""
        meta = run_dir.read_meta()
        if "data" in meta and self.data.get("data") != meta["data"]:
            where = f" in {meta['cwd']}" if "cwd" in meta else ""
            problem = f"the data of {self.spec.id} are not those that the run was started with{where}"
            raise ConfigError("env", problem, "put the old ones back, or start a new run with these")


@dataclass
class Parts(Setting):
    """All of a run that computes, at its beginning."""

    buffer: ReplayBuffer | None
    algo: Algorithm
    source: Source
    interrupt: Interrupt  # what the source and the evaluations answer to

    def close(self) -> None:
        self.source.close()
