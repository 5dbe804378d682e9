"""Agents that sample a policy, all numpy; networks come as functions on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlrun.agents.q import NOTHING, Forward
from rlrun.ops.distributions import Distribution
from rlrun.state import Stateful
from rlrun.types import MASK, Array, State


class ActorCriticAgent(Stateful):
    """Samples the policy while exploring, takes its mode otherwise; records log-probability and value of each step.

    Args:
        forward: obs [E, *obs] -> (output of the policy's head, value [E, 1]).
        policy: what the head's output means.
        rng: the random stream of the samples.
        masked: obeys the mask that stands in the observations.
    """

    state = ("rng",)

    def __init__(self, forward: Forward, policy: Distribution, rng: np.random.Generator, masked: bool = False):
        self.forward, self.policy, self.rng, self.masked = forward, policy, rng, masked

    def initial_state(self, num_envs: int) -> State:
        return None

    def act(
        self, obs: Array, state: State, *, explore: bool, env_steps: int
    ) -> tuple[Array, State, Mapping[str, Array]]:
        output, value = self.forward(obs)
        mask = obs[MASK] if self.masked else None
        if not explore:
            return self.policy.mode(output, mask), state, NOTHING
        action, log_prob = self.policy.sample(output, self.rng, mask)
        return action, state, {"log_prob": log_prob, "value": value[:, 0]}

    def value(self, obs: Array) -> Array:
        """State values [E] of observations [E, *obs]."""
        return self.forward(obs)[1][:, 0]

    def fork(self, rng: np.random.Generator) -> ActorCriticAgent:
        return ActorCriticAgent(self.forward, self.policy, rng, self.masked)
