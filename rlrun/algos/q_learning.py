"""Tabular Q-learning (Watkins & Dayan 1992, Machine Learning 8:279; Sutton & Barto 2018, section 6.5).

After every step, with the best that could follow and not what will be done:

    Q(s, a) <- Q(s, a) + lr * (r + gamma * max_a' Q(s', a') - Q(s, a))

Nothing follows a terminated step. After a truncated one s' is the true last observation, not the reset one.
Exploration is epsilon-greedy with ties broken at random, since in a new table all actions are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlrun.algos.tabular import Rows, TableAgent, restore_table
from rlrun.checks import positive, within
from rlrun.registry import register
from rlrun.schedules import ScheduleConfig, make
from rlrun.seeding import generator_state, restore_generator
from rlrun.selectors import EpsilonGreedySelector, RandomArgmaxSelector
from rlrun.types import EnvSpec, Metrics, Progress, Rollout, StateDict


@dataclass
class QLearningConfig:
    """Tabular Q-learning."""

    name: str = "q_learning"  # registered name of the algorithm
    gamma: float = 0.99  # discount factor per step
    learning_rate: float = 0.1  # share of the TD error that an update takes over
    epsilon: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(start=0.1))  # probability of a random action
    initial_value: float = 0.0  # of every entry of the table; above what can be earned it drives exploration

    def __post_init__(self) -> None:
        within("gamma", self.gamma, 0, 1)
        positive("learning_rate", self.learning_rate)
        within("learning_rate", self.learning_rate, 0, 1)
        self.epsilon.within("epsilon", 0, 1)


@register("algo", "q_learning", config=QLearningConfig, action={"discrete"}, obs={"discrete"}, memory=None)
class QLearning:
    """Tabular Q-learning, off-policy, one update per step (Watkins & Dayan 1992)."""

    rollout_steps = 1  # every action sees the table as the step before left it

    def __init__(self, cfg: QLearningConfig, env: EnvSpec, *, rng: np.random.Generator, total_timesteps: int, **_: Any):
        self.cfg, self.rng = cfg, rng
        rows = Rows(env)
        self.q = np.full((rows.count, env.num_actions), cfg.initial_value)  # [S, A]
        self.selector = EpsilonGreedySelector(make(cfg.epsilon, total_timesteps), rng, RandomArgmaxSelector(rng))
        self.agent = TableAgent(rows, self.q, self.selector)

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """One update per transition, in order of time, then environment; each sees those before it.

        Plain numbers, as one transition at a time is cheaper in Python than in numpy.
        """
        q, gamma, lr = self.q, self.cfg.gamma, self.cfg.learning_rate
        obs, action = rollout.obs.tolist(), rollout.action.tolist()
        reward, terminated = rollout.reward.tolist(), rollout.terminated.tolist()
        total = 0.0
        for t in range(len(action)):
            for e in range(len(action[t])):
                s, a = obs[t][e], action[t][e]
                target = reward[t][e]
                if not terminated[t][e]:
                    target += gamma * max(q[rollout.final_obs.get((t, e), obs[t + 1][e])].tolist())
                td_error = target - q[s, a]
                q[s, a] += lr * td_error
                total += abs(td_error)
        return {"train/td_error": total / rollout.reward.size, "rollout/exploration_rate": self.selector.epsilon}

    def state_dict(self) -> StateDict:
        return {"q": self.q.copy(), "rng": generator_state(self.rng)}

    def load_state_dict(self, state: StateDict) -> None:
        restore_table(self.q, state["q"])
        restore_generator(self.rng, state["rng"])
