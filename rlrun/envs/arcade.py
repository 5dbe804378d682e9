"""The Atari games of a run: how its options make one, and how evaluation differs from training."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.custom import Custom
from rlrun.envs import catalogue
from rlrun.envs.make import GymEnvs
from rlrun.envs.recipe import Recipe
from rlrun.errors import ConfigError

if TYPE_CHECKING:
    from rlrun.envs.options import AtariConfig


class AtariEnvs(GymEnvs):
    """A game of ale-py's, by id; of the id only the game counts, the rest is the config's."""

    _cfg: AtariConfig

    @cached_property
    def recipe(self) -> Recipe:
        catalogue.register_atari()
        name = self._cfg.id
        game = f"ALE/{name.removeprefix('ALE/').partition('-')[0]}-v5"
        if name not in gym.registry and game in gym.registry:
            raise ConfigError("env.id", f"there is no environment {name!r}", f"did you mean {game!r}?")
        return super().recipe

    @property
    def whole(self) -> Recipe:
        """A game with all its lives, for its own rewards."""
        spec = self.recipe.spec
        return dataclasses.replace(self.recipe, spec=dataclasses.replace(spec, kwargs=spec.kwargs | WHOLE))

    def _recipe(self, spec: GymSpec, wrappers: tuple[Custom, ...]) -> Recipe:
        """Raises ConfigError: the id is of no game, or of one that shows its memory."""
        recipe, cfg = super()._recipe(spec, wrappers), self._cfg
        if spec.entry_point is None:  # it stands in for one that need not be there
            return recipe
        game = spec.kwargs.get("game")
        if not game or "ale_py" not in str(spec.entry_point):
            hint = "a game is for instance env.id=ALE/Breakout-v5; other environments are env=gym"
            raise ConfigError("env.id", f"{spec.id} is no Atari game", hint)
        if spec.kwargs.get("obs_type") == "ram":
            raise ConfigError("env.id", f"{spec.id} shows the console's memory", "env=gym shows it as it is")
        frames = cfg.max_frames if cfg.time_limit is None else cfg.time_limit * cfg.frame_skip
        kwargs = {
            "game": game,
            "frameskip": cfg.frame_skip,
            "sticky": cfg.sticky,
            "full_action_space": cfg.full_action_space,
            "noop_max": cfg.noop_max,
            "fire_reset": cfg.fire_reset,
            "life_loss": cfg.life_loss,
            "life_penalty": cfg.life_penalty,
            "grayscale": cfg.grayscale,
            "screen_size": cfg.screen_size,
            "max_num_frames_per_episode": frames,
            "threads": cfg.threads,
        }
        made = dataclasses.replace(
            spec,
            entry_point="rlrun.envs.atari:AtariGame",
            vector_entry_point="rlrun.envs.atari:AtariVector",
            max_episode_steps=None,  # kept by the game, over all its lives
            kwargs=kwargs,
        )
        return dataclasses.replace(recipe, spec=made, time_limit=None, seeds_each=True)


WHOLE = {"life_loss": "ignore"}
