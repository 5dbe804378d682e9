"""What bandit algorithms with sample averages share: how often each arm was pulled, and what it gave on average.

A bandit is an environment whose every episode is one step. Its observation is the context, a row of the table; contexts
learn nothing from each other.
"""

from __future__ import annotations

import numpy as np

from rlrun.algos.tabular import Rows, TableAgent, restore_table
from rlrun.seeding import generator_state, restore_generator
from rlrun.types import EnvSpec, Metrics, Progress, Rollout, StateDict


class SampleAverages:
    """Learner that averages the rewards of every arm: Q <- Q + (r - Q) / n (Sutton & Barto 2018, eq. 2.3).

    A subclass sets `agent`.
    """

    agent: TableAgent
    rollout_steps = 1  # every pull sees the averages as the one before left them

    def __init__(self, env: EnvSpec, rng: np.random.Generator):
        self.rng = rng
        self.rows = Rows(env)
        self.mean = np.zeros((self.rows.count, env.num_actions))  # [S, A] of contexts and arms; 0 before the first pull
        self.count = np.zeros(self.mean.shape, np.int64)  # [S, A] pulls

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """Count each reward for the context that was acted on, one after the other: an arm may occur more than once."""
        mean, count = self.mean, self.count
        context = self.rows(rollout.obs[:-1])
        for s, a, r in zip(*(x.ravel().tolist() for x in (context, rollout.action, rollout.reward)), strict=True):
            count[s, a] = n = int(count[s, a]) + 1
            mean[s, a] += (r - mean[s, a]) / n
        return {}

    def state_dict(self) -> StateDict:
        return {"mean": self.mean.copy(), "count": self.count.copy(), "rng": generator_state(self.rng)}

    def load_state_dict(self, state: StateDict) -> None:
        restore_table(self.mean, state["mean"])
        restore_table(self.count, state["count"])
        restore_generator(self.rng, state["rng"])
