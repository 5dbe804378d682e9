"""Agents that sample a policy, all numpy; networks come as functions on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlrun.agents.q import NOTHING, Forward
from rlrun.ops.distributions import sample_categorical, sample_gaussian
from rlrun.seeding import generator_state, restore_generator
from rlrun.types import Array, State, StateDict


class ActorCriticAgent:
    """Samples the policy while exploring, takes its mode otherwise; records log-probability and value of each step.

    Args:
        forward: obs [E, *obs] -> (policy output, value [E, 1]). The policy output is logits [E, A] for discrete
            actions, means and log standard deviations side by side [E, 2A] for continuous ones.
        discrete: which of the two.
        rng: the random stream of the samples.
        shape: of one continuous action, where it is not [A]; its numbers come in C order.
    """

    def __init__(
        self, forward: Forward, discrete: bool, rng: np.random.Generator, shape: tuple[int, ...] | None = None
    ):
        self.forward, self.discrete, self.rng, self.shape = forward, discrete, rng, shape
        self._policy = Categorical if discrete else Gaussian

    def initial_state(self, num_envs: int) -> State:
        return None

    def act(
        self, obs: Array, state: State, *, explore: bool, env_steps: int
    ) -> tuple[Array, State, Mapping[str, Array]]:
        policy, value = self.forward(obs)
        if not explore:
            return self._shaped(self._policy.mode(policy)), state, NOTHING
        action, log_prob = self._policy.sample(policy, self.rng)
        return self._shaped(action), state, {"log_prob": log_prob, "value": value[:, 0]}

    def _shaped(self, action: Array) -> Array:
        return action if self.shape is None else action.reshape(len(action), *self.shape)

    def value(self, obs: Array) -> Array:
        """State values [E] of observations [E, *obs]."""
        return self.forward(obs)[1][:, 0]

    def fork(self, rng: np.random.Generator) -> ActorCriticAgent:
        return ActorCriticAgent(self.forward, self.discrete, rng, self.shape)

    def state_dict(self) -> StateDict:
        return {"rng": generator_state(self.rng)}

    def load_state_dict(self, state: StateDict) -> None:
        restore_generator(self.rng, state["rng"])


class Categorical:
    """How logits [E, A] become actions int64 [E]."""

    sample = staticmethod(sample_categorical)

    @staticmethod
    def mode(logits: Array) -> Array:
        return logits.argmax(1)


class Gaussian:
    """How means and log standard deviations [E, 2A] become actions [E, A]."""

    @staticmethod
    def sample(policy: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        mean, log_std = np.split(policy, 2, axis=1)
        return sample_gaussian(mean, log_std, rng)

    @staticmethod
    def mode(policy: Array) -> Array:
        return policy[:, : policy.shape[1] // 2]
