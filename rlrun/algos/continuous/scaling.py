"""Rewards brought to a scale on which discounted returns have unit deviation and stay within a bound.

Lee et al. 2025, "SimbaV2", arXiv:2502.15280, section 4.3. With G the discounted return so far of an episode,

    r <- r / max( std(G), max |G| / bound )

so that a support of atoms within +-bound fits whatever an environment pays. Rewards are kept as they are and divided
when a batch is drawn, all by the scale of now. `env.normalize.reward` divides them as they come, without the bound.
"""

from __future__ import annotations

import numpy as np

from rlrun.ops.running import RunningMeanStd
from rlrun.state import Stateful
from rlrun.types import Rollout


class ReturnScale(Stateful):
    """What rewards are divided by, from all that was paid so far.

    Args:
        num_envs: E, whose rewards come side by side.
        gamma: the agent's discount.
        bound: how large a scaled return may be.
    """

    state = ("stats", "largest", "running")

    def __init__(self, num_envs: int, gamma: float, bound: float):
        self.gamma, self.bound = gamma, bound
        self.stats, self.largest = RunningMeanStd(), 0.0
        self.running = np.zeros(num_envs)  # [E] G of the episodes that go on

    def observe(self, rollout: Rollout) -> None:
        """Take in the rewards [T, E] of a rollout."""
        for reward, over in zip(rollout.reward, rollout.terminated | rollout.truncated, strict=True):
            self.running = self.running * self.gamma + reward
            self.stats.update(self.running)
            self.largest = max(self.largest, float(np.abs(self.running).max()))
            self.running[over] = 0.0

    @property
    def divisor(self) -> float:
        """1 until a reward has been paid."""
        return max(float(self.stats.std), self.largest / self.bound) if self.largest else 1.0
