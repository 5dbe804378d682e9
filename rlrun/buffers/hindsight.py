"""Hindsight experience replay: what was achieved takes the place of the goal (Andrychowicz et al. 2017,
arXiv:1707.01495, sections 3.3 and 4.5).

The paper stores every transition once with its own goal and k times with others. Here one is stored, and when it is
drawn it is given another goal with the probability k / (1 + k): what was achieved in a step of the same episode,

    future      from this one to the last, all equally likely
    final       the last
    episode     any.

Of an episode under way or partly overwritten these are the steps that are stored. What the transition is worth under
the new goal is asked of the environment's own functions (see `Goals`): each reward, and whether the episode would have
terminated. A termination that the goal given by the environment does not explain stays one, and so stays a truncation
none. Of n steps all are judged by the goal of the first, and stop where it would have been the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlrun.buffers.episodes import Episodes
from rlrun.buffers.ring import Ring
from rlrun.errors import ConfigError
from rlrun.types import ACHIEVED, DESIRED, Array, EnvSpec, Goals

STRATEGIES = ("future", "final", "episode")
TRIED, UNLIKE = 1000, 10  # of so many steps so few may have rewards which, by rounding, are not those of the function


class Given(NamedTuple):
    """Goals for G of the N transitions that were drawn."""

    to: Array  # [G] int64, which of them, in C order
    goal: Array  # [G, *goal]

    def write(self, obs: Array) -> None:
        """Put the goals into observations of all that were drawn."""
        obs.reshape(-1)[DESIRED][self.to] = self.goal


class Hindsight:
    """Gives goals to what was drawn from a ring. It has no state of its own.

    Args:
        goals: what the environment tells of others than were given.
        rng: the stream that the sampler draws from, too.
        strategy: of `STRATEGIES`.
        k: goals of hindsight to one of the environment's.
    """

    def __init__(self, ring: Ring, goals: Goals, rng: np.random.Generator, *, strategy: str = "future", k: float = 4):
        self.ring, self.goals, self.rng, self.strategy = ring, goals, rng, strategy
        self.share = k / (1 + k)
        self.episodes = Episodes(ring)
        self._unlike = 0  # rewards that were not those of the function

    def add(self, numbers: range) -> None:
        """These transitions were stored.

        Raises:
            ConfigError: their rewards are not those that the environment's function gives for their goals.
        """
        self.episodes.add(numbers)
        if numbers.start < TRIED:
            self._try(np.arange(max(numbers.start, numbers.stop - self.ring.capacity), numbers.stop))

    def _try(self, numbers: Array) -> None:
        steps = self.ring.take(numbers % self.ring.capacity)
        seen = self.ring.next_observations(steps)
        told = self.goals.reward(seen[ACHIEVED], seen[DESIRED])
        unlike = ~np.isclose(told, steps["reward"], rtol=1e-3, atol=1e-3)
        self._unlike += int(np.count_nonzero(unlike))
        if self._unlike > UNLIKE:
            at = int(np.flatnonzero(unlike)[0])
            problem = f"a step brought {steps['reward'][at]:g}, for which the environment's compute_reward says"
            raise ConfigError("buffer.hindsight", f"{problem} {told[at]:g}", "let them agree, or write buffer=uniform")

    def draw(self, slots: Array) -> Given:
        """Goals for the transitions in slots [..., B]."""
        ring, chance = self.ring, self.rng.random(slots.size)
        to = np.flatnonzero(chance < self.share)
        own = ring.take(slots.reshape(-1).take(to))["number"]
        first, last = self.episodes.around(own)
        if self.strategy == "future":
            first = own
        elif self.strategy == "final":
            first = last
        steps = (last - first) // ring.envs  # that lie between them
        place = np.minimum(chance.take(to) / self.share * (steps + 1), steps).astype(np.int64)
        chosen = ring.take((first + ring.envs * place) % ring.capacity)
        return Given(to, ring.next_observations(chosen)[ACHIEVED])

    def judge(self, steps: Array, given: Given) -> tuple[Array, Array, Array]:
        """What n steps are worth under the goals given to the first.

        Args:
            steps: [n, ..., B] records.

        Returns:
            reward and discount [n, ..., B], and [n - 1, ..., B] bool, behind which of them the steps stop.
        """
        n, to = len(steps), given.to
        reward, discount, stops = steps["reward"].copy(), steps["discount"].copy(), self.ring.stops(steps[:-1])
        judged = steps.reshape(n, -1).take(to, axis=1)  # [n, G]
        seen = self.ring.next_observations(judged.ravel())
        achieved, desired = seen[ACHIEVED], np.concatenate([given.goal] * n)
        reward.reshape(n, -1)[:, to] = self.goals.reward(achieved, desired).reshape(n, -1)
        if self.goals.terminated is not None:
            over = self.goals.terminated(achieved, desired)
            ended = np.flatnonzero(judged["discount"].ravel() == 0)
            if len(ended):
                over[ended] |= ~self.goals.terminated(achieved.take(ended, 0), seen[DESIRED][ended])
            over = over.reshape(n, -1)
            discount.reshape(n, -1)[:, to] = np.where(over, 0, np.float32(self.ring.gamma))
            stops.reshape(n - 1, steps[0].size)[:, to] |= over[:-1]
        return reward, discount, stops


def hindsight(ring: Ring, env: EnvSpec, rng: np.random.Generator, *, strategy: str, k: float) -> Hindsight:
    """Hindsight for the transitions of an environment; ConfigError if they have no goals, or only changed ones."""
    if env.goals is None:
        problem = f"{env.id} is no goal environment"
        hint = f"it takes a Dict with {ACHIEVED} and {DESIRED}, and compute_reward; otherwise buffer=uniform"
        raise ConfigError("buffer.hindsight", problem, hint)
    if env.goals.obstacle:
        problem = "makes of goals or rewards what the environment's compute_reward does not know"
        raise ConfigError(env.goals.obstacle, problem, "buffer.hindsight takes them as they are: leave it out")
    return Hindsight(ring, env.goals, rng, strategy=strategy, k=k)
