"""Agents that sample a policy, all numpy; networks come as functions on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.q import Forward
from rlrun.ops.distributions import Distribution
from rlrun.types import MASK, Array


class SamplingAgent(Agent):
    """Samples the policy while exploring, takes its mode otherwise; records log-probability and value of each step.

    What was drawn is recorded beside, where it is not the action itself (see ops/distributions.py).

    Args:
        forward: obs [E, *obs] -> (output of the policy's head, value [E, 1]); with memory [E, M] as a second input,
            where there is one, it gives this pair and the memory behind it.
        policy: what the head's output means.
        rng: the random stream of the samples.
        masked: obeys the mask that stands in the observations.
        memory_size: M, numbers that are carried from step to step; 0 for none.
        has_value: there is a value; without, `forward` gives the output of the policy's head alone, or first of all.
        records_output: record the output of the policy's head, too.

    A network that is noisy explores by its noise as well, which is drawn for every step and environment and recorded.
    """

    state = ("rng",)

    def __init__(
        self,
        forward: Forward,
        policy: Distribution,
        rng: np.random.Generator,
        masked: bool = False,
        memory_size: int = 0,
        has_value: bool = True,
        records_output: bool = False,
    ):
        self.forward, self.policy, self.rng, self.masked, self.has_value = forward, policy, rng, masked, has_value
        self.records_output = records_output
        self.memory_size, self.network = memory_size, getattr(forward, "network", None)
        self.units = getattr(self.network, "units", 0)

    def initial_memory(self, num_envs: int) -> Array | None:
        return np.zeros((num_envs, self.memory_size), np.float32) if self.memory_size else None

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        noise = [self.rng.standard_normal((len(obs), self.units), np.float32)] if explore and self.units else []
        if memory is None:
            output = self.forward(obs, *noise)
        else:
            output, memory = self.forward(obs, memory)
        output, *others = output if isinstance(output, tuple) else (output,)
        mask = obs[MASK] if self.masked else None
        if not explore:
            return self.policy.mode(output, mask), memory, NOTHING
        drawn, log_prob = self.policy.sample(output, self.rng, mask)
        extras = {"log_prob": log_prob}
        if self.has_value:
            extras["value"] = others[0][:, 0]
        if noise:
            extras["noise"] = noise[0]
        if self.records_output:
            extras["output"] = output
        if self.policy.squashes:
            extras["drawn"] = drawn
            drawn = self.policy.action(drawn)
        return drawn, memory, extras

    def value(self, obs: Array, memory: Array | None = None) -> Array:
        """State values [E] of observations [E, *obs]."""
        _, value = self.forward(obs) if memory is None else self.forward(obs, memory)[0]
        return value[:, 0]

    def remember(self, obs: Array, memory: Array) -> Array:
        """The memory [E, M] behind observations [E, *obs]."""
        return self.forward(obs, memory)[1]
