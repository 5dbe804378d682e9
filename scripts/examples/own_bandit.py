"""A bandit of your own, in ten lines: guess from its measurements which wine it is.

    cd scripts/examples
    rlrun imports=[own_bandit] algo=linear_posterior env.id=OwnBandit-v0 total_timesteps=2000

Any Gymnasium environment whose episodes are one step will do. `info["regret"]` says how much more the best arm would
have brought on average, which gives the run its `bandit/...` metrics. The label must not be in the observation.

If all you have is a table, write nothing: env=bandit/csv env.path=FILE.csv env.label=COLUMN.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from sklearn.datasets import load_wine


class OwnBandit(gym.Env):
    """A random wine is shown; its cultivar is the arm that wins 1."""

    def __init__(self) -> None:
        features, self.labels = load_wine(return_X_y=True)
        self.contexts = ((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, self.contexts[0].shape)
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.row = self.np_random.integers(len(self.labels))
        return self.contexts[self.row], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(action == self.labels[self.row])
        return self.contexts[self.row], reward, True, False, {"regret": 1.0 - reward}


gym.register("OwnBandit-v0", "own_bandit:OwnBandit", max_episode_steps=1)  # one step: what bandit algorithms ask for
