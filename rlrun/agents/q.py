"""Agents that take the best of the scores that a network gives, all numpy; networks come as functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.selectors import ArgmaxActionSelector, EpsilonGreedyActionSelector
from rlrun.ops.distributions import Categorical
from rlrun.types import MASK, Array, Metrics

Forward = Callable[..., Any]  # obs [E, *obs] -> outputs of the network's heads


class QAgent(Agent):
    """Explores with a selector on action values, plays their argmax otherwise.

    A network that is noisy explores by its noise, too, which is drawn for every step and environment; one that
    remembers is given its memory. Where every action is random, and there is nothing to remember or to record, the
    network is not asked.

    Args:
        scores: obs [E, *obs] -> action values [E, A].
        explorer: chooses while exploring; if it is masked, the mask that stands in the observations is obeyed.
        actions: A.
        expected: where the network gives distributions of values in their place, their means [E, A].
        records: record the highest action value [E] of every step as `value`, while exploring.
    """

    state = ("rng",)

    def __init__(
        self,
        scores: Forward,
        explorer: EpsilonGreedyActionSelector,
        actions: int,
        expected: Callable[[Array], Array] | None = None,
        records: bool = False,
    ):
        self.scores, self.explorer, self.rng, self.masked = scores, explorer, explorer.rng, explorer.masked
        self.actions, self.expected, self.records = actions, expected, records
        self.network = getattr(scores, "network", None)
        self.units, self.memory_size = (getattr(self.network, name, 0) for name in ("units", "memory_size"))
        self.greedy = ArgmaxActionSelector()

    def initial_memory(self, num_envs: int) -> Array | None:
        return np.zeros((num_envs, self.memory_size), np.float32) if self.memory_size else None

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        selector = self.explorer if explore else self.greedy
        if memory is not None:
            outputs, memory = self.scores(obs, memory)
            scores = self._allowed(obs, self._means(outputs))
        elif explore and not self.records and self.explorer.all_random(env_steps):
            self._noise(obs)  # the stream goes on as if it had been asked
            scores = self._allowed(obs, np.zeros((len(obs), self.actions), np.float32))
        else:
            scores = self.values(obs, noisy=explore)
        extras = {"value": scores.max(1)} if explore and self.records else NOTHING
        return selector(scores, env_steps), memory, extras

    def values(self, obs: Array, noisy: bool = False) -> Array:
        """Action values [E, A], minus infinity for actions that cannot be taken."""
        noise = self._noise(obs) if noisy else []
        return self._allowed(obs, self._means(self.scores(obs, *noise)))

    def _noise(self, obs: Array) -> list[Array]:
        """Noise for a step of every environment [E, U]; none for a network that is not noisy."""
        return [self.rng.standard_normal((len(obs), self.units), np.float32)] if self.units else []

    def _means(self, outputs: Array) -> Array:
        """Action values of what the network says."""
        return outputs if self.expected is None else self.expected(outputs)

    def _allowed(self, obs: Array, scores: Array) -> Array:
        return np.where(obs[MASK], scores, -np.inf) if self.masked else scores

    def station(self, envs: range, num_envs: int) -> None:
        self.explorer.station(envs, num_envs)

    def metrics(self, env_steps: int) -> Metrics:
        return {"exploration_rate": self.explorer.at(env_steps)}

    def fork(self, rng: np.random.Generator) -> QAgent:
        return QAgent(self.scores, self.explorer.fork(rng), self.actions, self.expected, self.records)


class EpsilonAgent(Agent):
    """Another agent's actions, each replaced by a uniformly random one with probability `epsilon`.

    Args:
        agent: its actions are discrete.
        epsilon: probability of a random action.
        actions: A, how many there are to draw from.
        rng: draws; the agent's own stream is left alone.
        masked: obeys the mask that stands in the observations.
    """

    def __init__(self, agent: Agent, epsilon: float, actions: int, rng: np.random.Generator, masked: bool = False):
        self.agent, self.epsilon, self.rng, self.masked = agent, epsilon, rng, masked
        self.actions = Categorical(actions)

    def initial_memory(self, num_envs: int) -> Array | None:
        return self.agent.initial_memory(num_envs)

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        action, memory, extras = self.agent.act(obs, memory, explore=explore, env_steps=env_steps)
        random = self.rng.random(len(action)) < self.epsilon
        drawn = self.actions.uniform(len(action), self.rng, obs[MASK] if self.masked else None)
        return np.where(random, drawn, action), memory, extras

    def fork(self, rng: np.random.Generator) -> EpsilonAgent:
        return EpsilonAgent(self.agent.fork(rng), self.epsilon, self.actions.size, rng, self.masked)
