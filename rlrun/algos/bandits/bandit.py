"""What multi-armed bandits share: tables with a row per context, and how often each arm was pulled and what it gave.

A bandit is an environment whose every episode is one step. Its observation is the context, a row of the tables;
contexts learn nothing from each other. The rewards of one sweep arrive together: E environments may show the same
context and pull the same arm. All E arms were chosen before any of their rewards was known, and so they are learned
from: sums and counts do not depend on an order, and whatever depends on the policy takes the one that chose.

Letters: S contexts, A arms, E environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from rlrun.agents.table import Rows
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.errors import ConfigError, RlrunError
from rlrun.types import Array, EnvSpec, Metrics, Progress, Rollout


class Memory(Protocol):
    """What a bandit knows of its arms."""

    tables: Mapping[str, Array]  # all of it, written to in place

    def add(self, context: Array, arm: Array, reward: Array) -> None:
        """Take in pulls: contexts int [E], arms int [E], rewards float64 [E]."""
        ...


class BanditLearner(Algorithm):
    """Learner that puts every reward into a memory. A subclass sets `agent`, which plays from a table of `values`."""

    agent: Any
    rollout_steps = 1  # every pull sees the memory as the sweep before left it
    state = ("tables", "rng")

    def __init__(self, cfg: Any, kit: Kit, memory: Memory):
        super().__init__(cfg, kit)
        self.rng, self.memory, self.tables = kit.rng, memory, memory.tables
        self.rows = Rows(kit.env)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """Credit each reward to the context that was acted on."""
        context = self.rows(rollout.obs[:-1])
        self.memory.add(context.ravel(), rollout.action.ravel(), rollout.reward.ravel().astype(np.float64))
        return {}

    def table(self) -> tuple[Array, Array]:
        return self.agent.values, self.agent.values


def table_shape(env: EnvSpec) -> tuple[int, int]:
    """(S, A); ConfigError if the observations are no contexts that a table can have rows for."""
    return Rows(env).count, env.num_actions


class Averages:
    """Memory of counts and averages (Sutton & Barto 2018, section 2.4).

    Args:
        shape: (S, A).
        prior_mean: average before the first pull.
        prior_pulls: what is believed beforehand counts as so many pulls that gave `prior_mean` on average.
    """

    def __init__(self, shape: tuple[int, int], prior_mean: float = 0.0, prior_pulls: float = 0.0):
        self.count: Array = np.zeros(shape, np.int64)  # [S, A] pulls
        self.total: Array = np.full(shape, prior_mean * prior_pulls)  # [S, A] rewards, those of the prior included
        self.mean: Array = np.full(shape, prior_mean)  # [S, A] total / (prior_pulls + count)
        self.prior_pulls = prior_pulls
        self.tables: Mapping[str, Array] = {"count": self.count, "total": self.total, "mean": self.mean}

    def add(self, context: Array, arm: Array, reward: Array) -> None:
        """Count rewards [E]; an arm may occur more than once."""
        cell = context * self.count.shape[1] + arm
        count, total, mean = (table.reshape(-1) for table in (self.count, self.total, self.mean))
        np.add.at(count, cell, 1)
        np.add.at(total, cell, reward)
        mean[cell] = total[cell] / (self.prior_pulls + count[cell])


class RewardRange:
    """Rewards as shares of their range: `scaled([low, high]) -> [0, 1]`.

    Args:
        low, high: the bounds.
        advice: what a user whose rewards are others can do.
    """

    def __init__(self, low: float, high: float, advice: str):
        self.low, self.high, self.advice = low, high, advice

    def scaled(self, reward: Array) -> Array:
        """Rewards [E] in [0, 1]; RlrunError if one lies outside the bounds."""
        outside = ~((reward >= self.low) & (reward <= self.high))
        if outside.any():
            first = reward[outside][0]
            raise RlrunError(f"a reward of {first:g} came, outside [{self.low:g}, {self.high:g}]\n{self.advice}")
        return (reward - self.low) / (self.high - self.low)


def unit_rewards(env: EnvSpec, key: str, what: str, advice: str) -> RewardRange:
    """The range [0, 1], for methods that know no other.

    Args:
        key: the config's key that chose the method.
        what: the method.
        advice: what a user whose rewards are others can do.

    Raises:
        ConfigError: the environment tells that its rewards go beyond.
    """
    low, high = env.reward_range or (0.0, 1.0)
    if low < 0 or high > 1:
        raise ConfigError(key, f"{what} needs rewards in [0, 1], {env.id} gives them in [{low:g}, {high:g}]", advice)
    return RewardRange(0.0, 1.0, advice)
