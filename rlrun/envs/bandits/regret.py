"""The books of a bandit: rewards, regret, and how often each arm was pulled.

Regret is what the best arm would have brought more. The expected (pseudo-) regret compares true means, q* - q(a), and
has no noise; the realised one, q* - r, compares with the reward that came. A pull without expected regret is optimal.

Source: Auer, Cesa-Bianchi & Fischer 2002, Machine Learning 47:235, section 1.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from rlrun.types import Array, Metrics, StateDict

MOVING = 20  # moving averages look back on one part in so many


class RegretMeter:
    """Adds up what a bandit's copies win and lose; one per vector of environments.

    Moving averages reach back over the last twentieth of all steps, to the row of metrics before it; so at the end of a
    run they cover a twentieth of it, and never nothing.

    Args:
        arms: A.
        problems: P, rows of the table of pulls.
    """

    def __init__(self, arms: int, problems: int = 1):
        self.steps = 0
        self.pulls = np.zeros((problems, arms), np.int64)  # [P, A]
        self._sums = np.zeros(4)  # of reward, regret, realised regret (NaN if never told), optimal pulls
        self._rows: deque[tuple[int, Array]] = deque([(0, self._sums.copy())])  # steps and sums when metrics were taken

    def add(
        self,
        action: Array,
        reward: Array,
        regret: Array,
        realised: Array | float = math.nan,
        problem: Array | int = 0,
    ) -> None:
        """Enter E pulls.

        Args:
            action: int [E].
            reward: [E] raw, before any scaling or clipping.
            regret: [E] expected regret, at least 0.
            realised: [E] realised regret; left out where the best arm's mean is not known.
            problem: int [E] row of the table of pulls.
        """
        self.steps += len(action)
        optimal = np.count_nonzero(regret <= 0)
        self._sums += (np.sum(reward), np.sum(regret), np.sum(realised), optimal)
        np.add.at(self.pulls.reshape(-1), problem * self.pulls.shape[1] + action, 1)

    def metrics(self) -> Metrics:
        """Means per step since the last call, sums since the first step, and moving averages; {} without a new step."""
        before, sums = self._rows[-1]
        if self.steps == before:
            return {}
        reward, regret, realised, optimal = ((self._sums - sums) / (self.steps - before)).tolist()
        while len(self._rows) > 1 and self._rows[1][0] <= self.steps - self.steps / MOVING:
            self._rows.popleft()
        since, sums = self._rows[0]
        moving = ((self._sums - sums) / (self.steps - since)).tolist()
        self._rows.append((self.steps, self._sums.copy()))
        metrics = {
            "bandit/reward": reward,
            "bandit/regret": regret,
            "bandit/realised_regret": realised,
            "bandit/optimal_share": optimal,
            "bandit/reward_moving_avg": moving[0],
            "bandit/regret_moving_avg": moving[1],
            "bandit/cumulative_reward": float(self._sums[0]),
            "bandit/cumulative_regret": float(self._sums[1]),
            "bandit/regret_per_step": float(self._sums[1]) / self.steps,
        }
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    def state_dict(self) -> StateDict:
        return {
            "steps": self.steps,
            "pulls": self.pulls.copy(),
            "sums": self._sums.copy(),
            "row_steps": [steps for steps, _ in self._rows],
            "row_sums": np.array([sums for _, sums in self._rows]),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self.steps = state["steps"]
        self.pulls[:] = state["pulls"]
        self._sums[:] = state["sums"]
        self._rows = deque(zip(state["row_steps"], np.array(state["row_sums"]), strict=True))
