"""The ways of stepping environments, as choices; the vectors, which need Gymnasium, are imported when one is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlrun.registry import register
from rlrun.types import VectorEnv

if TYPE_CHECKING:
    import gymnasium as gym

    from rlrun.envs.recipe import Recipe


@dataclass
class InProcessConfig:
    """Options of the in-process vector."""

    name: str = "in_process"


@dataclass
class SubprocessConfig:
    """Options of the vector of child processes."""

    name: str = "subprocess"


@dataclass
class NativeConfig:
    """Options of the native vector."""

    name: str = "native"


@register("experience", InProcessConfig, footprint=20_000)
def in_process(
    recipe: Recipe, num_envs: int, *, evaluation: bool = False, envs: Sequence[gym.Env] | None = None
) -> VectorEnv:
    """All environments in this process, one after the other; fastest for cheap ones."""
    from rlrun.envs.vector.in_process import in_process as build

    return build(recipe, num_envs, evaluation=evaluation, envs=envs)


@register("experience", SubprocessConfig, footprint=25_000_000)
def subprocess(recipe: Recipe, num_envs: int, *, evaluation: bool = False) -> VectorEnv:
    """One process per environment, for environments whose steps are slow."""
    from rlrun.envs.vector.processes import subprocess as build

    return build(recipe, num_envs, evaluation=evaluation)


@register("experience", NativeConfig, footprint=1_000)
def native(recipe: Recipe, num_envs: int, *, evaluation: bool = False) -> VectorEnv:
    """The environment's own vectorised implementation, where it has one; one random stream for all."""
    from rlrun.envs.vector.native import native as build

    return build(recipe, num_envs, evaluation=evaluation)
