"""An agent of your own: the arm whose average winning context is nearest.

    cd scripts/examples
    rlrun imports=[own_agent] algo=nearest_mean env=bandit/wine network=null buffer=null total_timesteps=2000

An algorithm has an `agent`, which acts, and `learn`, which takes in what happened. Fields of its config are options,
here algo.epsilon, with the comment as their help; what `state_dict` holds is what a resumed run goes on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.registry import register
from rlrun.seeding import generator_state, restore_generator
from rlrun.types import Array, EnvSpec, Metrics, Progress, Rollout, State, StateDict


@dataclass
class NearestMeanConfig:
    """Plays the arm whose average winning context is nearest."""

    name: str = "nearest_mean"
    epsilon: float = 0.05  # probability of a random arm


class NearestMeanAgent:
    """Acts on the means of its algorithm."""

    def __init__(self, means: Array, epsilon: float, rng: np.random.Generator):
        self.means, self.epsilon, self.rng = means, epsilon, rng

    def initial_state(self, num_envs: int) -> State:
        return None  # it remembers nothing between steps

    def act(
        self, obs: Array, state: State, *, explore: bool, env_steps: int
    ) -> tuple[Array, State, Mapping[str, Array]]:
        arms = np.linalg.norm(obs[:, None] - self.means, axis=2).argmin(axis=1)
        if explore:
            guess = self.rng.integers(len(self.means), size=len(obs))
            arms = np.where(self.rng.random(len(obs)) < self.epsilon, guess, arms)
        return arms, state, {}

    def fork(self, rng: np.random.Generator) -> NearestMeanAgent:
        return NearestMeanAgent(self.means, self.epsilon, rng)


@register("algo", "nearest_mean", config=NearestMeanConfig, action={"discrete"}, obs={"box"}, memory=None)
class NearestMean:
    """Contextual bandit: the arm whose average winning context is nearest."""

    rollout_steps = 1  # learn after every step

    def __init__(self, cfg: NearestMeanConfig, env: EnvSpec, *, rng: np.random.Generator, **_: Any):
        self.wins = np.zeros((env.num_actions, 1))
        self.means = np.zeros((env.num_actions, *env.obs_space.shape))
        self.agent = NearestMeanAgent(self.means, cfg.epsilon, rng)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        for context, arm, reward in zip(rollout.obs[0], rollout.action[0], rollout.reward[0], strict=True):
            if reward > 0:
                self.wins[arm] += 1
                self.means[arm] += (context - self.means[arm]) / self.wins[arm]
        return {}

    def state_dict(self) -> StateDict:
        return {"wins": self.wins.copy(), "means": self.means.copy(), "rng": generator_state(self.agent.rng)}

    def load_state_dict(self, state: StateDict) -> None:
        self.wins[:], self.means[:] = state["wins"], state["means"]
        restore_generator(self.agent.rng, state["rng"])
