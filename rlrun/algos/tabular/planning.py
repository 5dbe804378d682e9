"""What planners share: the environment's own model as arrays, and an agent that plays the policy found in it.

Planning happens in `learn`, a little after every env step, so a planner is logged, saved, resumed and evaluated like
every learner; of the experience it only takes the clock.

Letters: S states, A actions, N outcomes in the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlrun.agents.selectors import ArgmaxActionSelector
from rlrun.agents.table import Rows, TableAgent
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.errors import ConfigError
from rlrun.types import Array, EnvSpec

SAME = 1e-9  # actions whose values differ by less, in units of the largest value, are equally good


class MDP:
    """A transition model as arrays, ordered by state and action, so that a backup of all states is a few NumPy calls.

    Raises:
        ConfigError: the environment has no model, or one that is not a complete table of probabilities.
    """

    def __init__(self, env: EnvSpec):
        if env.model is None:
            raise ConfigError("env.id", f"{env.id} does not tell its model (an attribute P)", "planning needs one")
        self.states, self.actions = env.num_states, env.num_actions
        pairs = [(s, a) for s in range(self.states) for a in range(self.actions)]
        outcomes = [env.model[s][a] for s, a in pairs]
        sizes = [len(some) for some in outcomes]
        if not all(sizes):
            raise ConfigError("env.id", f"{env.id}: its model P knows no outcome for (s, a) = {pairs[sizes.index(0)]}")
        probability, after, reward, terminated = np.array([o for some in outcomes for o in some], np.float64).T
        self.first = np.cumsum([0, *sizes[:-1]])  # [S * A] where the outcomes of each pair begin
        self.state = np.repeat([s for s, _ in pairs], sizes)  # [N]
        self.action = np.repeat([a for _, a in pairs], sizes)  # [N]
        self.after = after.astype(np.int64)  # [N]
        self.weight = probability * (1 - terminated)  # [N] of the next state's value: none after the end
        self.ends = self._per_pair(np.logical_or, probability * terminated > 0)  # [S, A] bool: it may be the end
        self.reward = self._per_pair(np.add, probability * reward)  # [S, A] expected
        total = self._per_pair(np.add, probability)
        if not np.allclose(total, 1):
            s, a = np.argwhere(~np.isclose(total, 1))[0].tolist()
            raise ConfigError("env.id", f"{env.id}: the probabilities in P[{s}][{a}] sum to {total[s, a]:g}, not 1")

    def backup(self, v: Array, gamma: float) -> Array:
        """sum_s' p(s'|s, a) (r + gamma v(s')) for every pair [S, A], from values [S]."""
        return self.reward + gamma * self._per_pair(np.add, self.weight * v[self.after])

    def evaluate(self, policy: Array, gamma: float) -> Array:
        """The values [S] of a policy [S] int, from its S linear equations (Sutton & Barto 2018, eq. 4.4).

        With gamma 1 the policy must come to an end from everywhere.
        """
        chosen = policy[self.state] == self.action
        equations = np.eye(self.states)
        np.subtract.at(equations, (self.state[chosen], self.after[chosen]), gamma * self.weight[chosen])
        return np.linalg.solve(equations, self.reward[np.arange(self.states), policy])

    def ways_out(self, allowed: Array) -> tuple[Array, Array]:
        """The shortest way, in luckiest steps, to an end of the episode.

        Args:
            allowed: [S, A] bool, the actions that may be used.

        Returns:
            The action [S] to take and whether there is a way [S]. Where there is none the action is 0.
        """
        policy, found = np.zeros(self.states, np.int64), np.zeros(self.states, bool)
        while True:
            toward = self.ends | self._per_pair(np.logical_or, found[self.after] & (self.weight > 0))
            toward &= allowed
            new = toward.any(axis=1) & ~found
            if not new.any():
                return policy, found
            policy[new] = toward[new].argmax(axis=1)
            found |= new

    def _per_pair(self, ufunc: np.ufunc, values: Array) -> Array:
        """Reduce values [N] over the outcomes of each pair: [S, A]."""
        return ufunc.reduceat(values, self.first).reshape(self.states, self.actions)


class Planner(Algorithm):
    """Base: a policy on a model, played without exploring, and the action values [S, A] behind it.

    An action is given up only for one that is better by more than rounding. Where several are equally good, as all of
    them may be with gamma 1 in a world without cost of time, the one found first therefore stays: the one that leads to
    the reward soonest, whereas a fresh choice among equals could go round in circles for ever.

    A subclass implements `learn`.
    """

    state: tuple[str, ...] = ("q", "policy")

    def __init__(self, cfg: Any, kit: Kit):
        super().__init__(cfg, kit)
        self.mdp = MDP(kit.env)
        self.q = np.zeros((self.mdp.states, self.mdp.actions))  # [S, A]
        self.policy = np.zeros(self.q.shape)  # [S, A] probabilities: 1 for the action that is played
        self.policy[:, 0] = 1
        self.agent = TableAgent(Rows(kit.env), self.policy, ArgmaxActionSelector())

    def table(self) -> tuple[Array, Array]:
        return self.q, self.policy

    def improve(self) -> int:
        """Move the policy to better actions where `q` has some. Returns the number of states where it changed."""
        states = np.arange(self.mdp.states)
        margin = SAME * max(1.0, float(np.abs(self.q).max()))
        better = states[self.q.max(axis=1) > self.q[states, self.policy.argmax(axis=1)] + margin]
        self.policy[better] = 0
        self.policy[better, self.q[better].argmax(axis=1)] = 1
        return len(better)
