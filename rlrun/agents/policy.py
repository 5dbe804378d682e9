"""Agents that sample a policy, all numpy; networks come as functions on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.q import Forward
from rlrun.ops.distributions import Distribution
from rlrun.types import MASK, Array


class ActorCriticAgent(Agent):
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

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        output, value = self.forward(obs)
        mask = obs[MASK] if self.masked else None
        if not explore:
            return self.policy.mode(output, mask), memory, NOTHING
        action, log_prob = self.policy.sample(output, self.rng, mask)
        return action, memory, {"log_prob": log_prob, "value": value[:, 0]}

    def value(self, obs: Array) -> Array:
        """State values [E] of observations [E, *obs]."""
        return self.forward(obs)[1][:, 0]
