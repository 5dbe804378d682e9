"""Agents that take the best of the scores that a network gives, all numpy; networks come as functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.selectors import ArgmaxSelector, EpsilonGreedySelector
from rlrun.schedules import Schedule
from rlrun.types import Array

Forward = Callable[[Array], Any]  # obs [E, *obs] -> outputs of the network's heads


class DQNAgent(Agent):
    """Epsilon-greedy on action values while exploring, their argmax otherwise.

    Args:
        scores: obs [E, *obs] -> action values [E, A].
        epsilon: probability of a random action as a schedule of env steps.
        rng: the exploration's random stream.
        random_steps: env steps at the start during which every action is random.
    """

    state = ("rng",)

    def __init__(self, scores: Forward, epsilon: Schedule, rng: np.random.Generator, random_steps: int = 0):
        self.scores, self.random_steps, self.rng = scores, random_steps, rng
        self.schedule = epsilon
        self.explore = EpsilonGreedySelector(self.epsilon, rng)
        self.greedy = ArgmaxSelector()

    def epsilon(self, env_steps: float) -> float:
        """The probability of a random action in force at `env_steps`."""
        return 1.0 if env_steps < self.random_steps else self.schedule(env_steps)

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        selector = self.explore if explore else self.greedy
        return selector(self.scores(obs), env_steps), memory, NOTHING

    def fork(self, rng: np.random.Generator) -> DQNAgent:
        return DQNAgent(self.scores, self.schedule, rng, self.random_steps)


class EpsilonAgent(Agent):
    """Another agent's actions, each replaced by a uniformly random one with probability `epsilon`.

    Args:
        agent: its actions are discrete.
        epsilon: probability of a random action.
        actions: A, how many there are to draw from.
        rng: draws; the agent's own stream is left alone.
    """

    def __init__(self, agent: Agent, epsilon: float, actions: int, rng: np.random.Generator):
        self.agent, self.epsilon, self.actions, self.rng = agent, epsilon, actions, rng

    def initial_memory(self, num_envs: int) -> Array | None:
        return self.agent.initial_memory(num_envs)

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        action, memory, extras = self.agent.act(obs, memory, explore=explore, env_steps=env_steps)
        random = self.rng.random(len(action)) < self.epsilon
        return np.where(random, self.rng.integers(self.actions, size=len(action)), action), memory, extras

    def fork(self, rng: np.random.Generator) -> EpsilonAgent:
        return EpsilonAgent(self.agent.fork(rng), self.epsilon, self.actions, rng)
