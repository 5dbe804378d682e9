"""The ways of stepping environments together; what they take is imported when one is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from rlrun.types import VectorEnv

if TYPE_CHECKING:
    from rlrun.envs.recipe import Recipe


class Way(NamedTuple):
    """One of them: a function `module.name(recipe, num_envs, evaluation=False)`."""

    module: str
    footprint: int  # bytes that one environment takes, its part of the vector's arrays included


WAYS = {
    "in_process": Way("in_process", 20_000),  # all in this process, one after the other; fastest for cheap ones
    "subprocess": Way("processes", 25_000_000),  # one process per environment, for those whose steps are slow
    "native": Way("native", 1_000),  # the environment's own vector, where it has one; one random stream for all
}


def build(way: str, recipe: Recipe, num_envs: int, **options: Any) -> VectorEnv:
    """A vector of `num_envs` environments.

    Args:
        options: `evaluation=True` for environments that can be started one by one, each from a seed of its own;
            `envs=[...]` for environments that are there already (in_process).
    """
    module = import_module(f"{__package__}.{WAYS[way].module}")
    made: VectorEnv = getattr(module, way)(recipe, num_envs, **options)
    return made
