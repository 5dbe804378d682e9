"""What the registry knows of Gymnasium's environments: what makes them, make.py and arcade.py, is imported when one is
opened, and Gymnasium with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlrun.envs.options import AtariConfig, EnvConfig
from rlrun.footprint import Need
from rlrun.registry import register
from rlrun.seeding import SeedTree

if TYPE_CHECKING:
    from rlrun.envs.arcade import AtariEnvs
    from rlrun.envs.make import GymEnvs


def footprint(cfg: EnvConfig, each: int) -> list[Need]:
    """All training environments."""
    return [Need("env.num_envs", cfg.num_envs * each, f"{cfg.num_envs:,} environments", each)]


@register("env", EnvConfig, footprint=footprint)
def gym(cfg: EnvConfig, seeds: SeedTree, **terms: Any) -> GymEnvs:
    """Any Gymnasium environment, by id."""
    from rlrun.envs.make import GymEnvs

    return GymEnvs(cfg, seeds, **terms)


@register("env", AtariConfig, footprint=footprint)
def atari(cfg: AtariConfig, seeds: SeedTree, **terms: Any) -> AtariEnvs:
    """An Atari 2600 game, by id."""
    from rlrun.envs.arcade import AtariEnvs

    return AtariEnvs(cfg, seeds, **terms)
