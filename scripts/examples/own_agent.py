"""An agent of your own: the arm whose average winning context is nearest.

    cd scripts/examples
    rlrun imports=[own_agent] algo=nearest_mean env=bandit/wine total_timesteps=2000

An algorithm has an `agent`, which acts, and `learn`, which takes in what happened. Fields of its config are options,
here algo.epsilon, with the comment as their help; the attributes named in `state` are what a resumed run goes on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlrun import Agent, Algorithm, Kit, Needs, register
from rlrun.types import Array, Metrics, Progress, Rollout


@dataclass
class NearestMeanConfig:
    """Plays the arm whose average winning context is nearest."""

    name: str = "nearest_mean"
    epsilon: float = 0.05  # probability of a random arm


class NearestMeanAgent(Agent):
    """Acts on the means of its algorithm."""

    def __init__(self, means: Array, epsilon: float, rng: np.random.Generator):
        self.means, self.epsilon, self.rng = means, epsilon, rng

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        arms = np.linalg.norm(obs[:, None] - self.means, axis=2).argmin(axis=1)
        if explore:
            guess = self.rng.integers(len(self.means), size=len(obs))
            arms = np.where(self.rng.random(len(obs)) < self.epsilon, guess, arms)
        return arms, memory, {}


@register("algo", NearestMeanConfig, needs=Needs(action={"discrete"}, obs={"box"}, one_step=True))
class NearestMean(Algorithm):
    """Contextual bandit: the arm whose average winning context is nearest."""

    state = ("wins", "means", "rng")

    def __init__(self, cfg: NearestMeanConfig, kit: Kit):
        super().__init__(cfg, kit)
        arms, space = kit.env.num_actions, kit.env.obs_space
        self.wins, self.means, self.rng = np.zeros((arms, 1)), np.zeros((arms, *space.shape)), kit.rng
        self.agent = NearestMeanAgent(self.means, cfg.epsilon, kit.rng)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        for context, arm, reward in zip(rollout.obs[0], rollout.action[0], rollout.reward[0], strict=True):
            if reward > 0:
                self.wins[arm] += 1
                self.means[arm] += (context - self.means[arm]) / self.wins[arm]
        return {}
