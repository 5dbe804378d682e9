"""What all agents share: they remember nothing, report nothing and publish nothing, unless they say so."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from rlrun.state import Stateful
from rlrun.types import Array, Metrics

NOTHING: Mapping[str, Array] = {}


class Agent(Stateful):
    """Base of the agents: observations [E, *obs] -> actions [E, *action], one row per environment.

    What an agent carries from one step of an episode to the next is its memory, an array [E, M]. Whoever lets it act
    keeps it, and puts the initial row back where an episode ends: see `rlrun.experience.acting`.
    """

    rng: np.random.Generator  # what its exploration draws from
    replays_memory: bool = True  # learning takes what it remembered before each step
    network: Any = None  # the module that it acts by, if there is one: what is published to agents elsewhere

    def initial_memory(self, num_envs: int) -> Array | None:
        """The memory [E, M] at the beginning of episodes; None for an agent without."""
        return None

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        """Actions [E, *action], a new array for the memory behind them, and what to record (each [E, ...]).

        `explore=False` is the greedy policy and draws no random number.
        """
        raise NotImplementedError

    def fork(self, rng: np.random.Generator) -> Self:
        """The same policy on the same weights with a random stream of its own, for evaluation."""
        other = copy.copy(self)
        other.rng = rng
        return other

    def station(self, envs: range, num_envs: int) -> None:
        """Told once, before it acts: in which of the run's environments it does. Row i of an observation is `envs[i]`.

        Args:
            num_envs: how many the run has, over all actors.
        """

    def metrics(self, env_steps: int) -> Metrics:
        """What is to be logged of how it acts at `env_steps`, by plain names."""
        return {}
