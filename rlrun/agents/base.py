"""Agents as PTAN has them: a batch of observations in, a batch of actions out, and a state of any kind for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.types import Array


class BaseAgent(Agent):
    """Base of agents that say with `__call__` what they do; sources, and whoever else lets agents act, take them.

        class DullAgent(BaseAgent):
            def __init__(self, action):
                self.action = action

            def __call__(self, states, agent_states=None):
                return [self.action] * len(states), agent_states

    A state is whatever the agent wants to know in the next step of the same episode: any object, one for each
    environment. Whenever an episode begins, `initial_state` is asked for one. Such an agent knows no greedy play:
    whoever asks for it gets the same actions.

    An agent of arrays, which acts faster and can be saved in a run, writes `act` and `initial_memory` of `Agent`.
    """

    env_steps = 0  # that the environments have taken when it is called, summed over them: for schedules

    def initial_state(self) -> Any:
        """What an agent knows when an episode begins."""
        return None

    def __call__(self, states: Any, agent_states: Sequence[Any] | None = None) -> tuple[Any, Sequence[Any] | None]:
        """Actions [E, *action] (a list will do), and the agent's states behind them, one for each environment.

        Args:
            states: observations, one for each environment. From a source they are a list: a number if the space is
                Discrete, a record of the fields if it is a Dict, else an array.
            agent_states: of the same length, in the same order.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it acts: define __call__")

    def initial_memory(self, num_envs: int) -> Array | None:
        return _memory([self.initial_state() for _ in range(num_envs)])

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        self.env_steps = env_steps
        answer = self(rows(obs), [None] * len(obs) if memory is None else list(memory))
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise TypeError(f"{type(self).__name__} must return actions and agent states, not {answer!r}")
        actions, agent_states = answer
        if agent_states is not None and len(agent_states) != len(obs):
            raise ValueError(f"{len(agent_states)} agent states were returned for {len(obs)} environments")
        if not isinstance(actions[0], dict | tuple):  # which a source makes records of
            actions = np.asarray(actions)
        return actions, memory if agent_states is None else _memory(agent_states), NOTHING

    def value(self, obs: Array, memory: Array | None = None) -> Array:
        """State values [E], of an agent whose states they are: what it answers with to these observations.

        Raises:
            TypeError: they are no numbers.
        """
        return values(self.act(obs, memory, explore=True, env_steps=self.env_steps)[1])


def rows(array: Array) -> list[Any]:
    """An array [E, ...] as a list of E: of Python's own numbers, where a row is one."""
    return array.tolist() if array.ndim == 1 and array.dtype.names is None else list(array)


def values(memory: Array | None) -> Array:
    """State values float32 [E] that an agent keeps as its states; TypeError if it keeps none."""
    if memory is None or memory.dtype != object or not all(isinstance(state, Real) for state in memory):
        raise TypeError(
            "the agent tells no values of the states: use ActorCriticAgent, or one whose agent states are the values"
        )
    return memory.astype(np.float32)


def _memory(agent_states: Sequence[Any]) -> Array | None:
    """One object per environment [E]; None where there is nothing to remember."""
    if all(state is None for state in agent_states):
        return None
    memory = np.empty(len(agent_states), object)
    for e, state in enumerate(agent_states):
        memory[e] = state
    return memory
