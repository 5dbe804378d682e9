"""What tabular control methods share: a table of action values, epsilon-greedy play on it, and mending one entry.

An algorithm's own file says what it takes a step to be worth.

Letters: S states, A actions, E environments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from rlrun.agents.selectors import RandomArgmaxActionSelector
from rlrun.agents.table import Rows, TableAgent
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.checks import Above0, Bounded, Share
from rlrun.schedules import Probability, ScheduleConfig
from rlrun.types import Array, Metrics, Rollout


@dataclass
class ControlConfig(Bounded):
    """Options of every tabular control method."""

    gamma: Share = 0.99  # discount factor per step
    learning_rate: Annotated[float, Above0(1)] = 0.1  # share of the TD error that an update takes over
    epsilon: Probability = field(default_factory=lambda: ScheduleConfig(start=0.1))  # probability of a random action
    initial_value: float = 0.0  # of every entry of the table; above what can be earned it drives exploration


class ControlLearner(Algorithm):
    """Base: Q [S, A] and an agent that is epsilon-greedy on it, ties broken at random as all entries start out equal.

    A subclass implements `learn`.
    """

    rollout_steps = 1  # every action sees the table as the step before left it
    state: tuple[str, ...] = ("q", "rng")

    def __init__(self, cfg: ControlConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.rng = kit.rng
        self.gamma, self.learning_rate = cfg.gamma, cfg.learning_rate
        rows = Rows(kit.env)
        self.q = np.full((rows.count, kit.env.num_actions), cfg.initial_value)  # [S, A]
        self.selector = kit.explorer(cfg.epsilon, greedy=RandomArgmaxActionSelector(kit.rng))
        self.agent = TableAgent(rows, self.q, self.selector)

    def table(self) -> tuple[Array, Array]:
        return self.q, self.q

    def highest(self, s: int) -> float:
        """max_a Q(s, a)."""
        return max(self.q[s].tolist())  # for so few numbers Python's own is faster than NumPy's

    def expected(self, s: int) -> float:
        """sum_a pi(a|s) Q(s, a) under the epsilon-greedy policy played last; tied actions may share as they will."""
        values, epsilon = self.q[s].tolist(), self.selector.epsilon
        return epsilon * sum(values) / len(values) + (1 - epsilon) * max(values)

    def correct(self, s: int, a: int, target: float) -> float:
        """Q(s, a) <- Q(s, a) + lr * (target - Q(s, a)). Returns |TD error|."""
        value = self.q.item(s, a)
        error = target - value
        self.q[s, a] = value + self.learning_rate * error
        return abs(error)

    def metrics(self, errors: Sequence[float]) -> Metrics:
        """The mean of this chunk's |TD errors|, if there are any."""
        return {"td_error": sum(errors) / len(errors)} if errors else {}


def transitions(rollout: Rollout) -> Iterator[tuple[int, int, int, float, int, bool, bool]]:
    """(env, s, a, r, s', terminated, truncated) of every step, in order of time, then environment.

    s' is the true next state, not the reset one. Plain numbers: one transition at a time is cheaper in Python.
    """
    obs, action, reward = rollout.obs.tolist(), rollout.action.tolist(), rollout.reward.tolist()
    terminated, truncated = rollout.terminated.tolist(), rollout.truncated.tolist()
    for t in range(len(action)):
        for e in range(len(action[t])):
            final = rollout.final_obs.get((t, e))
            after = obs[t + 1][e] if final is None else int(final)
            yield e, obs[t][e], action[t][e], reward[t][e], after, terminated[t][e], truncated[t][e]
