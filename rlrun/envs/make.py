"""Gymnasium environments by id: how one is made, and the vectors a run needs of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from rlrun import custom
from rlrun.envs import catalogue, gridworlds, partial, toy
from rlrun.envs.environments import Environments
from rlrun.envs.gridworlds import Grid
from rlrun.envs.normalize import NormalizeObs, NormalizeReward, RunningFields, RunningMeanStd, running
from rlrun.envs.recipe import Recipe
from rlrun.envs.spaces import mask_source
from rlrun.envs.vector.ways import build
from rlrun.envs.wrappers import FrameStack, TransformReward
from rlrun.errors import ConfigError
from rlrun.seeding import SeedTree
from rlrun.types import Array, EnvSpec, StateDict, VectorEnv

if TYPE_CHECKING:
    from rlrun.envs.options import EnvConfig

OURS = (gridworlds, partial, toy)  # register their ids with Gymnasium when they are imported


class GymEnvs(Environments):
    """Any Gymnasium environment, by id."""

    tells_info = True

    def __init__(self, cfg: EnvConfig, seeds: SeedTree, gamma: float = 0.99, info_keys: Sequence[str] = ()):
        self._cfg, self._gamma = cfg, gamma
        self._spec: EnvSpec | None = None
        self._obs_stats: RunningMeanStd | RunningFields | None = (
            None  # made with the first vector, which tells the shape
        )
        self._training: VectorEnv | None = None
        wrappers = tuple(custom.entry("env.wrappers", item) for item in cfg.wrappers)
        for wrapper in wrappers:
            wrapper.check(wrapper.factory(), "env")
        self.recipe = Recipe(
            catalogue.find(cfg.id),
            cfg.kwargs,
            cfg.time_limit,
            cfg.clip_action,
            cfg.rescale_action,
            wrappers,
            tuple(info_keys),
        )

    def spec(self, num_envs: int) -> EnvSpec:
        """What an algorithm may know; the first time, opens one environment and closes it."""
        if self._spec is None:
            with closing(self._transformed(self._first(), training=False)) as vector:
                self._spec = vector.spec
        return dataclasses.replace(self._spec, num_envs=num_envs)

    def _first(self) -> VectorEnv:
        """A vector of one environment, and from now on it is known where such environments tell masks."""
        if self._cfg.vector == "native":
            vector: Any = build("native", self.recipe.unseen, 1)
            if self._cfg.action_masks and mask_source(vector.envs):
                vector.close()
                raise ConfigError(
                    "env.vector",
                    f"the masks that {self.recipe.spec.id} tells of its actions are read from single environments",
                    "use env.vector=in_process, or env.action_masks=false to take no notice of them",
                )
            return vector
        env = self.recipe.unseen()
        if self._cfg.action_masks:
            self.recipe = dataclasses.replace(self.recipe, masks=mask_source(env))
        return build("in_process", self.recipe, 1, envs=[env])

    def train(self, num_envs: int) -> VectorEnv:
        """The environments a learner collects from, with everything the config asks for."""
        self.spec(num_envs)
        vector = build(self._cfg.vector, self.recipe, num_envs)
        cfg = self._cfg
        if cfg.reward_scale != 1.0 or cfg.reward_clip is not None:
            vector = TransformReward(vector, cfg.reward_scale, cfg.reward_clip)
        if cfg.normalize.reward:
            vector = NormalizeReward(vector, self._gamma, cfg.normalize.clip)
        self._training = self._transformed(vector, training=True)
        return self._training

    def evaluation(self, num_envs: int) -> VectorEnv:
        """Environments of their own with raw rewards, seen through training's observation statistics, frozen."""
        self.spec(num_envs)
        vector = build(self._cfg.vector, self.recipe.unseen, num_envs, evaluation=True)
        return self._transformed(vector, training=False)

    def watch(self, env: gym.Env) -> VectorEnv:
        """`evaluation` on the one environment given, for instance one from `render`."""
        self.spec(1)
        return self._transformed(build("in_process", self.recipe, 1, envs=[env]), training=False)

    def render(self, mode: str) -> gym.Env:
        """One environment that can be looked at; mode "human" or "rgb_array"."""
        return self.recipe(render_mode=mode)

    def single(self) -> gym.Env:
        """One environment by itself, without anything to look at."""
        return self.recipe.unseen()

    def grid(self) -> Grid | None:
        """How the states lie in a grid, if they do; opens one environment."""
        with closing(self.single()) as env:
            return gridworlds.grid(env)

    def arm_counts(self) -> Array | None:
        """The pulls [1, A] of environments that tell their regret."""
        return self._training.pulls if self._training else None

    def state_dict(self) -> StateDict:
        return {"obs_stats": self._obs_stats.state_dict()} if self._obs_stats else {}

    def load_state_dict(self, state: StateDict) -> None:
        if self._obs_stats:
            self._obs_stats.load_state_dict(state["obs_stats"])

    def _transformed(self, vector: VectorEnv, training: bool) -> VectorEnv:
        """What agents see: frames stacked, then normalised."""
        if self._cfg.frame_stack > 1:
            vector = FrameStack(vector, self._cfg.frame_stack)
        if self._cfg.normalize.obs:
            self._obs_stats = self._obs_stats or running(vector.spec.obs_space)
            vector = NormalizeObs(vector, self._obs_stats, training=training, limit=self._cfg.normalize.clip)
        return vector
