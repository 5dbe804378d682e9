"""Policy iteration (Howard 1960; Sutton & Barto 2018, section 4.3) on the environment's own model.

    evaluate    v(s) = sum_{s', r} p(s', r | s, pi(s)) (r + gamma v(s')), solved exactly as S linear equations
    improve     pi(s) = an action with a higher value, where there is one

until no state changes. It begins with the policy that heads for the nearest end of the episode, whatever the end is
worth. So with gamma 1 the equations have a solution: this policy ends from everywhere, and giving up an action only
for a strictly better one never makes a policy that goes round for ever, unless it is paid for it. An iteration takes
time in S cubed and memory in S squared, fit for some thousands of states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlrun.algos.algorithm import Kit
from rlrun.algos.tabular.planning import Planner
from rlrun.checks import Bounded, Share
from rlrun.errors import ConfigError, Diverged
from rlrun.footprint import Need, Parameters, table
from rlrun.registry import Needs, register
from rlrun.types import EnvSpec, Metrics, Progress, Rollout


@dataclass
class PolicyIterationConfig(Bounded):
    """Policy iteration."""

    name: str = "policy_iteration"  # registered name of the algorithm
    gamma: Share = 0.99  # discount factor per step; 1 where every episode can come to an end


def footprint(cfg: PolicyIterationConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The model and the policy, and the equations [S, S] that evaluate it."""
    states = env.num_states
    return [table(env, 8), Need("env.id", 16 * states**2, f"a system of {states:,} equations")]


@register(
    "algo",
    PolicyIterationConfig,
    needs=Needs(action={"discrete"}, obs={"discrete"}, model=True),
    footprint=footprint,
)
class PolicyIteration(Planner):
    """Plans on the environment's model by evaluating a policy and improving it in turns (Howard 1960)."""

    state = (*Planner.state, "iterations", "changes")

    def __init__(self, cfg: PolicyIterationConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.gamma = cfg.gamma
        self.iterations, self.changes = 0, self.mdp.states  # made so far, and states that the last one changed
        policy, found = self.mdp.ways_out(np.ones(self.q.shape, bool))
        if cfg.gamma == 1 and not found.all():
            where = f"{kit.env.id} has none from state {int(found.argmin())}"
            problem = f"1 needs an end that every state can reach; {where}"
            raise ConfigError("algo.gamma", problem, "choose one below 1")
        self.policy[:] = np.eye(self.mdp.actions)[policy]

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """One iteration for every env step, until the policy is stable.

        Raises:
            Diverged: with gamma 1 there is reward to be had for ever.
        """
        for _ in range(rollout.reward.size):
            if self.changes:
                self._iterate()
        return {"changes": self.changes, "iterations": self.iterations}

    def _iterate(self) -> None:
        if self.gamma == 1 and not self.mdp.ways_out(self.policy > 0)[1].all():
            raise Diverged("with algo.gamma=1 the values are infinite: a circle without end pays\nchoose one below 1")
        self.q[:] = self.mdp.backup(self.mdp.evaluate(self.policy.argmax(axis=1), self.gamma), self.gamma)
        self.changes = self.improve()
        self.iterations += 1
