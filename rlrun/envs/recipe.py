"""How one environment is made, or its own vector; complete in itself, so that a child process can follow it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.custom import Custom
from rlrun.envs import catalogue, faults
from rlrun.envs.spaces import ActionMap, action_map
from rlrun.errors import ConfigError, EnvError, RlrunError

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
    seeds_each: bool = False  # its own vector takes a seed for every environment
    masks: str = ""  # where it tells which actions can be taken, as `mask_source` found it; "" to take no notice

    def __call__(self, render_mode: str | None = None) -> gym.Env:
        """A new environment. ConfigError or EnvError says why it cannot be made."""
        if self.spec.entry_point is None:
            raise ConfigError("env.vector", f"{self.spec.id} exists only as a vector", "use env.vector=native")
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
            raise ConfigError("env.wrappers", "go around single environments", "use env.vector=in_process")
        if self.info_keys:
            raise ConfigError("logger.info_keys", "are told by single environments", "use env.vector=in_process")
        entry_point = SAME_STEP.get(str(self.spec.vector_entry_point), self.spec.vector_entry_point)
        if entry_point is None:
            raise ConfigError("env.vector", f"{self.spec.id} has no vector of its own", "use env.vector=in_process")
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
