"""Gymnasium environments by id: how one is made, and the vectors a run needs of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun import custom
from rlrun.custom import Custom
from rlrun.envs import catalogue, goaltoys, gridworlds, partial, pixels, toy
from rlrun.envs.environments import Environments
from rlrun.envs.gridworlds import Grid
from rlrun.envs.normalize import NormalizeObs, NormalizeReward, RunningFields, RunningMeanStd, running
from rlrun.envs.recipe import Recipe
from rlrun.envs.recorded import NotRecorded, Record, StandIn
from rlrun.envs.spaces import mask_source
from rlrun.envs.vector.ways import build
from rlrun.envs.view import View
from rlrun.envs.wrappers import FrameStack, TransformReward, transformed
from rlrun.errors import ConfigError
from rlrun.seeding import SeedTree
from rlrun.types import Array, EnvSpec, Goals, StateDict, VectorEnv

if TYPE_CHECKING:
    from rlrun.envs.options import EnvConfig

OURS = (goaltoys, gridworlds, partial, pixels, toy)  # register their ids with Gymnasium when they are imported


class GymEnvs(Environments):
    """Any Gymnasium environment, by id."""

    tells_info = True

    def __init__(self, cfg: EnvConfig, seeds: SeedTree, gamma: float = 0.99, info_keys: Sequence[str] = ()):
        self._cfg, self._gamma = cfg, gamma
        self._spec: EnvSpec | None = None
        self._obs_stats: RunningMeanStd | RunningFields | None = (
            None  # made with the first vector, which tells the shape
        )
        self._reward_stats: RunningMeanStd | None = None  # of those of training
        self._training: VectorEnv | None = None
        self._record: Record | None = None  # of the first environment
        self._info_keys = tuple(info_keys)

    @cached_property
    def recipe(self) -> Recipe:
        """How an environment is made. ConfigError if there is none of that id, or a wrapper is none."""
        wrappers = tuple(custom.entry("env.wrappers", item) for item in self._cfg.wrappers)
        for wrapper in wrappers:
            wrapper.check(wrapper.factory(), "env")
        return self._recipe(catalogue.find(self._cfg.id), wrappers)

    def _recipe(self, spec: GymSpec, wrappers: tuple[Custom, ...]) -> Recipe:
        cfg = self._cfg
        return Recipe(spec, cfg.kwargs, cfg.time_limit, cfg.clip_action, cfg.rescale_action, wrappers, self._info_keys)

    @property
    def whole(self) -> Recipe:
        """How an environment is made whose returns are those that count, in an evaluation."""
        return self.recipe

    @property
    def gathers(self) -> str:
        cfg = self._cfg.normalize
        options = {"env.normalize.obs": cfg.obs, "env.normalize.reward": cfg.reward}
        options["logger.info_keys"] = bool(self._info_keys)
        return next((name for name, is_on in options.items() if is_on), "")

    @property
    def statistics(self) -> Sequence[RunningMeanStd]:
        seen = self._obs_stats.fields.values() if isinstance(self._obs_stats, RunningFields) else [self._obs_stats]
        return [stats for stats in (*seen, self._reward_stats) if stats is not None]

    def spec(self, num_envs: int) -> EnvSpec:
        """What an algorithm may know; the first time, opens one environment and closes it, unless one is on record."""
        if self._spec is None:
            first = self._first() if self._record is None else self._together([StandIn(self._record)])
            with closing(self._transformed(first, training=False)) as vector:
                self._spec = dataclasses.replace(vector.spec, goals=self._goals(vector.spec.goals))
        return dataclasses.replace(self._spec, num_envs=num_envs)

    def _goals(self, told: Goals | None) -> Goals | None:
        """What is told of goals, with rewards as training sees them."""
        if told is None:
            return None
        cfg = self._cfg
        changes = {"frame_stack": cfg.frame_stack > 1, "normalize.obs": cfg.normalize.obs}
        changes |= {"normalize.reward": cfg.normalize.reward}
        obstacle = next((f"env.{name}" for name, is_on in changes.items() if is_on), "")
        return told._replace(
            reward=lambda *goals: transformed(told.reward(*goals), cfg.reward_scale, cfg.reward_clip),
            obstacle=obstacle,
        )

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
            self._record = Record.of(vector.envs, "", vector.spec.max_episode_steps)
            return vector
        env = self.recipe.unseen()
        if self._cfg.action_masks:
            self.recipe = dataclasses.replace(self.recipe, masks=mask_source(env))
        vector = self._together([env])
        self._record = Record.of(env, self.recipe.masks, vector.spec.max_episode_steps)
        return vector

    def _together(self, envs: list[gym.Env]) -> VectorEnv:
        """A vector of environments that are there already."""
        return build("in_process", self.recipe, len(envs), envs=envs)

    def train(self, num_envs: int) -> VectorEnv:
        """The environments a learner collects from, with everything the config asks for."""
        self.spec(num_envs)
        vector = build(self._cfg.vector, self.recipe, num_envs)
        cfg = self._cfg
        if cfg.reward_scale != 1.0 or cfg.reward_clip is not None:
            vector = TransformReward(vector, cfg.reward_scale, cfg.reward_clip)
        if cfg.normalize.reward:
            vector = NormalizeReward(vector, self._gamma, cfg.normalize.clip)
            self._reward_stats = vector.reward_stats
        self._training = self._transformed(vector, training=True)
        return self._training

    def evaluation(self, num_envs: int) -> VectorEnv:
        """Environments of their own with raw rewards, seen through training's observation statistics, frozen."""
        self.spec(num_envs)
        vector = build(self._cfg.vector, self.whole.unseen, num_envs, evaluation=True)
        return self._transformed(vector, training=False)

    def watch(self, env: gym.Env) -> VectorEnv:
        """`evaluation` on the one environment given, for instance one from `render`."""
        self.spec(1)
        return self._transformed(self._together([env]), training=False)

    def record(self) -> dict[str, Any]:
        """The spaces of one environment, and what else is known; {} where a space cannot be written down."""
        self.spec(1)
        with suppress(NotRecorded):
            return self._record.to_json() if self._record else {}
        return {}

    def stand_in(self, record: Mapping[str, Any]) -> None:
        """Go by a record: neither the environment nor the user's wrappers need to be installed."""
        self._record = Record.from_json(record)
        self.recipe = dataclasses.replace(self._recipe(GymSpec(self._record.id), ()), masks=self._record.masks)

    def view(self) -> View:
        """What an agent sees of observations that come from elsewhere: frames stacked, then normalised."""
        self.spec(1)
        record, frames = cast(Record, self._record), self._cfg.frame_stack
        actions = self.recipe.actions(record.action_space)
        return View(record, lambda envs: self._transformed(self._together(envs), training=False), actions, frames)

    def render(self, mode: str) -> gym.Env:
        """One environment that can be looked at; mode "human" or "rgb_array"."""
        return self.whole(render_mode=mode)

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
