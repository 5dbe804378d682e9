"""Expected SARSA (van Seijen et al. 2009, ADPRL; Sutton & Barto 2018, section 6.6).

SARSA without the noise of its next action: the target has the mean over what the policy could do,

    Q(s, a) <- Q(s, a) + lr * (r + gamma * sum_a' pi(a'|s') Q(s', a') - Q(s, a))

where pi is the epsilon-greedy policy that is played. With epsilon 0 it is Q-learning. Nothing follows a terminated
step. After a truncated one s' is the true last observation, not the reset one.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlrun.algos.tabular.control import ControlConfig, ControlLearner, transitions
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Metrics, Progress, Rollout


@dataclass
class ExpectedSarsaConfig(ControlConfig):
    """Expected SARSA."""

    name: str = "expected_sarsa"  # registered name of the algorithm


@register(
    "algo",
    ExpectedSarsaConfig,
    needs=Needs(action={"discrete"}, obs={"discrete"}),
    footprint=tables(1),
    weights=("q",),
)
class ExpectedSarsa(ControlLearner):
    """Tabular SARSA with the mean over the next action in place of a sample (van Seijen et al. 2009)."""

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """One update per transition; each sees those before it."""
        errors = []
        for _, s, a, r, after, terminated, _ in transitions(rollout):
            target = r if terminated else r + self.gamma * self.expected(after)
            errors.append(self.correct(s, a, target))
        return self.metrics(errors)
