"""What contextual bandits share: an agent that scores every arm in its context, having tried all of them first.

The problem is an environment whose every episode is one step: the observation is the context, the action the arm, the
reward tells of that arm alone. Letters: E environments (copies of the problem that one learner plays side by side),
K arms, N observations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.selectors import ActionSelector, ArgmaxActionSelector
from rlrun.types import Array, Metrics

Values = Callable[[Array], Array]  # contexts [E, *obs] -> scores [E, K]
Draws = Callable[[Array, "np.random.Generator"], Array]  # the same with what is uncertain drawn at random


class ContextualAgent(Agent):
    """Plays every arm `init_pulls` times in turn, then the arm with the highest score; has no memory.

    Args:
        values: expected reward of each arm; its maximum is the greedy policy, which draws nothing.
        scores: what the arms are compared by while exploring.
        arms: K.
        init_pulls: how often each arm is played first, in the order 0, 1, ..., K-1, 0, ...
        rng: the exploration's random stream.
        selector: chooses from the scores; by default the highest.
    """

    state = ("rng",)

    def __init__(
        self,
        values: Values,
        scores: Draws,
        arms: int,
        init_pulls: int,
        rng: np.random.Generator,
        selector: ActionSelector | None = None,
    ):
        self.values, self.scores, self.rng = values, scores, rng
        self.arms, self.init_pulls = arms, init_pulls
        self.selector: ActionSelector = selector or ArgmaxActionSelector()

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        if not explore:
            return self.values(obs).argmax(axis=1), memory, NOTHING
        turn = env_steps + np.arange(len(obs))
        forced = turn < self.arms * self.init_pulls
        if forced.all():
            return turn % self.arms, memory, NOTHING
        action = self.selector(self.scores(obs, self.rng), env_steps)
        action[forced] = turn[forced] % self.arms
        return action, memory, NOTHING

    def metrics(self, env_steps: int) -> Metrics:
        return self.selector.metrics()

    def fork(self, rng: np.random.Generator) -> ContextualAgent:
        return ContextualAgent(self.values, self.scores, self.arms, self.init_pulls, rng, self.selector.fork(rng))
