"""SARSA(lambda) (Rummery & Niranjan 1994; Sutton & Barto 2018, sections 6.4 and 12.7, here with a table).

On-policy: the target has the action that is really taken next. So an update waits for it,

    error   = r + gamma * Q(s', a') - Q(s, a)
    z(s, a) = z(s, a) + 1   (accumulating)   or   1   (replacing)
    Q      <- Q + lr * error * z             for all pairs of state and action
    z      <- gamma * lambda * z

but for a terminated step, which nothing follows, and a truncated one, after which no action is taken: there Q(s', a')
becomes the mean over the epsilon-greedy policy at the true last observation. Traces z end with the episode, and every
environment has its own. Replacing leaves the traces of the state's other actions as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun.algos.algorithm import Kit
from rlrun.algos.tabular.control import ControlConfig, ControlLearner, transitions
from rlrun.checks import OneOf, Share
from rlrun.footprint import Need, Parameters, table
from rlrun.registry import Needs, register
from rlrun.types import EnvSpec, Metrics, Progress, Rollout


@dataclass
class SarsaConfig(ControlConfig):
    """SARSA(lambda)."""

    name: str = "sarsa"  # registered name of the algorithm
    trace_decay: Share = 0.9  # lambda: share of a trace that a step leaves, beside gamma; 0 = one-step SARSA
    # accumulating | replacing: what a repeated visit does to a trace
    trace: Annotated[str, OneOf("accumulating", "replacing")] = "accumulating"


def footprint(cfg: SarsaConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The values, and the traces of every environment."""
    return [table(env, 1 + env.num_envs)]


@register(
    "algo",
    SarsaConfig,
    needs=Needs(action={"discrete"}, obs={"discrete"}),
    footprint=footprint,
    weights=("q",),
)
class Sarsa(ControlLearner):
    """Tabular SARSA(lambda), on-policy, with eligibility traces (Rummery & Niranjan 1994)."""

    state = (*ControlLearner.state, "traces", "waiting")

    def __init__(self, cfg: SarsaConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.decay, self.replacing = cfg.gamma * cfg.trace_decay, cfg.trace == "replacing"
        self.traces = np.zeros((kit.env.num_envs, *self.q.shape))  # [E, S, A]
        # per environment the (s, a, r, s') whose next action is not known yet
        self.waiting: list[tuple[int, int, float, int] | None] = [None] * kit.env.num_envs

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """Update the steps before these, and those of them that end an episode; the others wait."""
        errors = []
        for e, s, a, r, after, terminated, truncated in transitions(rollout):
            waiting = self.waiting[e]
            if waiting is not None:
                errors.append(self._go_on(e, *waiting, then=(s, a)))
            self.waiting[e] = (s, a, r, after)
            if terminated:
                errors.append(self._end(e, s, a, r))
            elif truncated:
                errors.append(self._end(e, s, a, r + self.gamma * self.expected(after)))
        return self.metrics(errors)

    def _go_on(self, e: int, s: int, a: int, r: float, after: int, then: tuple[int, int]) -> float:
        """Update a step that waited, now that the pair after it is known. Returns |TD error|."""
        if then[0] != after:  # a resumed run began a new episode, as its environment's state could not be saved
            return self._end(e, s, a, r + self.gamma * self.expected(after))
        return self._update(e, s, a, r + self.gamma * self.q.item(then))

    def _end(self, e: int, s: int, a: int, target: float) -> float:
        """Update the last step of an episode. Returns |TD error|."""
        error = self._update(e, s, a, target)
        self.traces[e] = 0
        self.waiting[e] = None
        return error

    def _update(self, e: int, s: int, a: int, target: float) -> float:
        """Move all pairs by their share in the error of this one, which is returned as |TD error|."""
        if self.decay == 0:
            return self.correct(s, a, target)
        trace, error = self.traces[e], target - self.q.item(s, a)
        trace[s, a] = 1 if self.replacing else trace[s, a] + 1
        self.q += self.learning_rate * error * trace
        trace *= self.decay
        return abs(error)
