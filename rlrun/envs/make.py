"""Gymnasium environments by id: how one is made, and the vectors a run needs of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from rlrun import custom, registry
from rlrun.envs import catalogue, gridworlds, toy
from rlrun.envs.normalize import NormalizeObs, NormalizeReward, RunningMeanStd
from rlrun.envs.recipe import Recipe
from rlrun.envs.spaces import mask_source
from rlrun.envs.wrappers import FrameStack, TransformReward
from rlrun.errors import ConfigError
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
            vector = self._transformed(self._first())
            vector.close()
            self._spec = vector.spec
        return dataclasses.replace(self._spec, num_envs=num_envs)

    def _first(self) -> VectorEnv:
        """A vector of one environment, and from now on it is known where such environments tell masks."""
        if self._vector == "native":
            vector = self._build("native", 1, self.recipe.unseen)
            if self._cfg.action_masks and mask_source(vector.envs):
                vector.close()
                raise ConfigError(
                    "experience",
                    f"the masks that {self.recipe.spec.id} tells of its actions are read from single environments",
                    "use experience=in_process, or env.action_masks=false to take no notice of them",
                )
            return vector
        env = self.recipe.unseen()
        if self._cfg.action_masks:
            self.recipe = dataclasses.replace(self.recipe, masks=mask_source(env))
        return self._build("in_process", 1, self.recipe, envs=[env])

    def train(self, num_envs: int) -> VectorEnv:
        """The environments a learner collects from, with everything the config asks for."""
        self.spec(num_envs)
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
        self.spec(num_envs)
        vector = self._build(self._vector, num_envs, self.recipe.unseen, evaluation=True)
        return self._transformed(vector, getattr(train, "obs_stats", None), training=False)

    def watch(self, env: gym.Env, train: VectorEnv | None = None) -> VectorEnv:
        """`evaluation` on the one environment given, for instance one from `render`."""
        self.spec(1)
        vector = self._build("in_process", 1, self.recipe, envs=[env])
        return self._transformed(vector, getattr(train, "obs_stats", None), training=False)

    def render(self, mode: str) -> gym.Env:
        """One environment that can be looked at; mode "human" or "rgb_array"."""
        return self.recipe(render_mode=mode)

    def _build(self, kind: str, num_envs: int, recipe: Recipe, **options: Any) -> Any:
        return registry.get("experience", kind).factory(recipe, num_envs, **options)

    def _transformed(self, vector: VectorEnv, stats: RunningMeanStd | None = None, training: bool = True) -> VectorEnv:
        """What agents see: frames stacked, then normalised."""
        if self._cfg.frame_stack > 1:
            vector = FrameStack(vector, self._cfg.frame_stack)
        if self._cfg.normalize.obs:
            vector = NormalizeObs(vector, stats, training=training, limit=self._cfg.normalize.clip)
        return vector
