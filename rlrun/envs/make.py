"""Gymnasium environments by id: how one is made, and the vectors a run needs of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from rlrun import custom, registry
from rlrun.envs import catalogue, gridworlds, toy
from rlrun.envs.normalize import NormalizeObs, NormalizeReward, RunningMeanStd
from rlrun.envs.recipe import Recipe
from rlrun.envs.wrappers import FrameStack, TransformReward
from rlrun.seeding import SeedTree
from rlrun.types import EnvSpec, VectorEnv

if TYPE_CHECKING:
    from rlrun.envs.options import EnvConfig

OURS = (gridworlds, toy)  # register their ids with Gymnasium when they are imported


class GymEnvs:
    """Any Gymnasium environment, by id."""

    def __init__(self, cfg: EnvConfig, seeds: SeedTree, vector: str = "in_process", gamma: float = 0.99):
        self._cfg, self._vector, self._gamma = cfg, vector, gamma
        self._spec: EnvSpec | None = None
        wrappers = tuple(custom.entry("env.wrappers", item) for item in cfg.wrappers)
        for wrapper in wrappers:
            wrapper.check(wrapper.factory(), "env")
        self.recipe = Recipe(
            catalogue.find(cfg.id), cfg.kwargs, cfg.time_limit, cfg.clip_action, cfg.rescale_action, wrappers
        )

    def spec(self, num_envs: int) -> EnvSpec:
        """What an algorithm may know; the first time, opens one environment and closes it."""
        if self._spec is None:
            kind = "in_process" if self._vector == "subprocess" else self._vector
            vector = self._transformed(self._build(kind, 1, self.recipe.unseen))
            vector.close()
            self._spec = vector.spec
        return dataclasses.replace(self._spec, num_envs=num_envs)

    def train(self, num_envs: int) -> VectorEnv:
        """The environments a learner collects from, with everything the config asks for."""
        vector = self._build(self._vector, num_envs, self.recipe)
        cfg = self._cfg
        if cfg.reward_scale != 1.0 or cfg.reward_clip is not None:
            vector = TransformReward(vector, cfg.reward_scale, cfg.reward_clip)
        if cfg.normalize.reward:
            vector = NormalizeReward(vector, self._gamma, cfg.normalize.clip)
        return self._transformed(vector)

    def evaluation(self, num_envs: int, train: VectorEnv | None = None) -> VectorEnv:
        """Environments of their own with raw rewards, seen through `train`'s observation statistics, frozen.

        Without `train` the statistics are empty, and nothing is normalised.
        """
        vector = self._build(self._vector, num_envs, self.recipe.unseen, evaluation=True)
        return self._transformed(vector, getattr(train, "obs_stats", None), training=False)

    def watch(self, env: gym.Env, train: VectorEnv | None = None) -> VectorEnv:
        """`evaluation` on the one environment given, for instance one from `render`."""
        vector = self._build("in_process", 1, self.recipe, envs=[env])
        return self._transformed(vector, getattr(train, "obs_stats", None), training=False)

    def render(self, mode: str) -> gym.Env:
        """One environment that can be looked at; mode "human" or "rgb_array"."""
        return self.recipe(render_mode=mode)

    def _build(self, kind: str, num_envs: int, recipe: Recipe, **options: Any) -> VectorEnv:
        return registry.get("experience", kind).factory(recipe, num_envs, **options)

    def _transformed(self, vector: VectorEnv, stats: RunningMeanStd | None = None, training: bool = True) -> VectorEnv:
        """What agents see: frames stacked, then normalised."""
        if self._cfg.frame_stack > 1:
            vector = FrameStack(vector, self._cfg.frame_stack)
        if self._cfg.normalize.obs:
            vector = NormalizeObs(vector, stats, training=training, limit=self._cfg.normalize.clip)
        return vector
