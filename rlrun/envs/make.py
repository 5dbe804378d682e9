"""Gymnasium environments by id: how one is made, and the vectors a run needs of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun import custom, registry
from rlrun.custom import Custom
from rlrun.envs import catalogue, faults, gridworlds, toy
from rlrun.envs.normalize import NormalizeObs, NormalizeReward, RunningMeanStd
from rlrun.envs.options import EnvConfig
from rlrun.envs.spaces import ActionMap, action_map
from rlrun.envs.wrappers import FrameStack, TransformReward
from rlrun.errors import ConfigError, EnvError, RlrunError
from rlrun.seeding import SeedTree
from rlrun.types import EnvSpec, VectorEnv

OURS = (gridworlds, toy)  # register their ids with Gymnasium when they are imported

# vectors that do not reset in the same step -> ours that do
SAME_STEP = {"gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv": "rlrun.envs.classic:SameStepCartPole"}


@dataclass(frozen=True)
class Recipe:
    """How one environment is made; complete in itself, so that a child process can follow it."""

    spec: GymSpec
    kwargs: dict[str, Any]
    time_limit: int | None
    clip_action: bool
    rescale_action: Sequence[float] | None
    wrappers: tuple[Custom, ...] = ()  # the first is the innermost
    info_keys: tuple[str, ...] = ()  # of `info`: what shall become metrics

    def __call__(self, render_mode: str | None = None) -> gym.Env:
        """A new environment. ConfigError or EnvError says why it cannot be made."""
        if self.spec.entry_point is None:
            raise ConfigError("experience", f"{self.spec.id} exists only as a vector", "use experience=native")
        kwargs = self.kwargs | ({"render_mode": render_mode} if render_mode else {})
        env = catalogue.build(
            self.spec,
            lambda: gym.make(self.spec, max_episode_steps=self.time_limit, disable_env_checker=True, **kwargs),
        )
        for wrapper in self.wrappers:
            env = wrapped(env, wrapper)
        return env

    @property
    def unseen(self) -> Recipe:
        """The same without anything to look at: only training shows what it does, where it was told to."""
        return dataclasses.replace(
            self, kwargs={key: value for key, value in self.kwargs.items() if key != "render_mode"}
        )

    def vector(self, num_envs: int) -> gym.vector.VectorEnv:
        """The environment's own vector of `num_envs`, in whatever autoreset mode it has."""
        if self.wrappers:
            raise ConfigError("env.wrappers", "go around single environments", "use experience=in_process")
        if self.info_keys:
            raise ConfigError("logger.info_keys", "are told by single environments", "use experience=in_process")
        entry_point = SAME_STEP.get(str(self.spec.vector_entry_point), self.spec.vector_entry_point)
        if entry_point is None:
            raise ConfigError("experience", f"{self.spec.id} has no vector of its own", "use experience=in_process")
        spec = dataclasses.replace(self.spec, vector_entry_point=entry_point)
        limit: dict[str, Any] = {} if self.time_limit is None else {"max_episode_steps": self.time_limit}
        kwargs = self.kwargs | limit
        return catalogue.build(spec, lambda: gym.make_vec(spec, num_envs, "vector_entry_point", **kwargs))

    def actions(self, space: gym.Space) -> ActionMap:
        """The action map for the environment's action space."""
        return action_map(space, self.clip_action, self.rescale_action)


def wrapped(env: gym.Env, wrapper: Custom) -> gym.Env:
    """An environment inside a wrapper of the user's, or a function's view of it.

    Raises:
        ConfigError: what was made is no environment.
        EnvError: nothing could be made.
    """
    factory = wrapper.factory()
    try:
        made = factory(env, **wrapper.arguments)
    except RlrunError:
        raise
    except BaseException as error:
        if faults.is_ours(error):
            raise
        raise EnvError(f"{wrapper.key}: {wrapper.path} cannot be made: {faults.described(error)}") from error
    if not isinstance(made, gym.Env):
        kind = type(made).__name__
        raise ConfigError(wrapper.key, f"{wrapper.path} made a {kind} of the environment", "it must return a gym.Env")
    return made


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
