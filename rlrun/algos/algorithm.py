"""What an algorithm is, and the one thing that it is built from.

A run's kit is made by run/build.py; in a notebook a description of the environment is enough:

    algo = DQN(DQNConfig(learning_rate=1e-3), Kit(env))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from rlrun import networks
from rlrun.agents.agent import Agent
from rlrun.agents.selectors import ActionSelector, EpsilonGreedyActionSelector
from rlrun.buffers.replay import UniformConfig, uniform
from rlrun.compute.device import Device
from rlrun.compute.rules import OptimizerConfig, rule
from rlrun.compute.update import Follower, LossFn, Update
from rlrun.errors import ConfigError
from rlrun.networks import NetworkBuilder, NetworkConfig
from rlrun.ops.distributions import Distribution, distribution
from rlrun.schedules import ScheduleConfig, WarmUp, make
from rlrun.state import Stateful
from rlrun.types import Array, EnvSpec, Gradients, HeadSpec, Metrics, Progress, ReplayBuffer, Rollout


def mlp(*args: Any) -> Any:
    """A multi-layer perceptron with the default options: `mlp(obs_space, *heads)`."""
    from rlrun.networks.builder import build_mlp

    return build_mlp(NetworkConfig(), *args)


@dataclass
class Kit:
    """What an algorithm is built from.

    Initial weights are drawn from torch's global stream, which a run seeds; nothing else draws from a global stream.
    """

    env: EnvSpec  # what is known of the environment
    network: NetworkBuilder = mlp  # `network(obs_space, *heads)`, as the run's config describes it
    buffer: ReplayBuffer | None = None  # what is learned from, for algorithms that need a memory
    device: Device = field(default_factory=lambda: Device())
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng())  # exploration
    sampling: np.random.Generator = field(default_factory=lambda: np.random.default_rng())  # batches, their order
    total_timesteps: int = 50_000  # env steps that the run will take; schedules end there

    @property
    def num_envs(self) -> int:
        """Environments of the whole run; `env` is of those that this rank steps, which are all where it is alone."""
        return self.env.num_envs * self.device.group.size

    @cached_property
    def generator(self) -> torch.Generator:
        """The learner's own torch stream, on its device. Its seed is drawn from `rng` when it is first asked for."""
        return torch.Generator(self.device.torch).manual_seed(int(self.rng.integers(2**63)))

    def replay(self, gamma: float) -> ReplayBuffer:
        """What is learned from: the run's buffer, or a new one with the default options."""
        if self.buffer is not None:
            return self.buffer
        return uniform(UniformConfig(), self.env, gamma=gamma, rng=self.sampling, device=self.device)

    def explorer(
        self, epsilon: ScheduleConfig, random_steps: int = 0, greedy: ActionSelector | None = None, spread: float = 0.0
    ) -> EpsilonGreedyActionSelector:
        """What chooses actions by their scores while exploring.

        Args:
            epsilon: probability of a random action instead.
            random_steps: env steps at the start during which every action is random.
            greedy: chooses the other actions; the highest score by default.
            spread: how much less the last environment explores than the first (see `EpsilonGreedyActionSelector`).
        """
        schedule = make(epsilon, self.total_timesteps)
        chance = WarmUp(random_steps, schedule) if random_steps else schedule
        explorer = EpsilonGreedyActionSelector(chance, self.rng, greedy, self.env.obs_space.masked, spread)
        explorer.station(range(self.env.num_envs), self.env.num_envs)
        return explorer

    def policy(self, squash: bool = False, **gaussian: Any) -> Distribution:
        """What a policy's head says of actions (see ops/distributions.py).

        Raises:
            ConfigError: it is to be squashed into bounds that are none.
        """
        try:
            return distribution(self.env.action_space, squash, **gaussian)
        except ValueError as error:
            raise ConfigError("env.id", f"{error}, as {self.env.id} declares them", "wrap the environment") from None

    def nets(self, **heads: HeadSpec | Sequence[HeadSpec]) -> Any:
        """New networks by name (see networks/nets.py), each with one head or several."""
        built = {name: self.module(*([head] if isinstance(head, HeadSpec) else head)) for name, head in heads.items()}
        return networks.Nets(**built)

    def update(
        self,
        loss: LossFn,
        nets: Any,
        *,
        trains: str | Sequence[str],
        cfg: OptimizerConfig,
        ahead: int,
        bursts: Sequence[int] = (1,),
        followers: Sequence[Follower] = (),
    ) -> Update:
        """The update of the networks named in `trains` by the config's rule (see `Device.update`)."""
        return self.device.update(
            loss,
            nets,
            trains,
            rule(cfg),
            max_grad_norm=cfg.max_grad_norm,
            followers=followers,
            ahead=ahead,
            bursts=bursts,
        )

    def module(self, *heads: HeadSpec) -> Any:
        """A new network on the device that reads the environment's observations and has these heads."""
        network = self.network(self.env.obs_space, *heads).to(self.device.torch)
        if self.device.is_cpu:
            networks.channels_innermost(network)
        return network


class Algorithm(Stateful):
    """A learner and the agent it teaches. A subclass sets `agent`, implements `learn` and names its `state`."""

    agent: Agent
    rollout_steps: int = 1  # sweeps over all environments per chunk
    any_envs: bool = False  # `learn` takes rollouts of some of the environments only, such as those of one actor
    sends: str = "rollouts"  # what actors send: rollouts, or "gradients" that `gradients` makes of them
    gradient_size: int = 0  # sends="gradients": how many numbers a gradient has
    gradient_aux: tuple[str, ...] = ()  # sends="gradients": names of what is said with it

    def __init__(self, cfg: Any, kit: Kit):
        self.cfg = cfg

    @property
    def published(self) -> Any:
        """The module whose parameters and buffers actors elsewhere go by; None if these do not suffice."""
        return self.agent.network

    def gradients(self, rollout: Rollout, env_steps: int) -> Gradients:
        """What an actor makes of a rollout, at the weights of its own copy of the algorithm.

        Args:
            env_steps: at which the rollout began.
        """
        raise NotImplementedError

    def learn(self, data: Any, progress: Progress) -> Metrics:
        """Take in a chunk's data and make 0..n gradient steps (counted in `progress.gradient_steps`).

        Returns:
            What is to be logged of it as `train/…`, by plain names such as "loss"; floats, or 0-d tensors. What the
            agent knows, such as an exploration rate, comes from `agent.metrics`.
        """
        raise NotImplementedError

    def table(self) -> tuple[Array, Array] | None:
        """What `inspect` shows: values and preferences of all actions in all states, both [S, A]; None without a table.

        The action whose preference is the highest of its row is the one that is played.
        """
        return None
