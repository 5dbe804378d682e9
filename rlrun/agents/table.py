"""What algorithms that keep a table share: finding an observation's row, and an agent that plays from the table.

Letters: S rows (states, or a bandit's contexts), A actions, E environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.selectors import ActionSelector, ArgmaxActionSelector
from rlrun.errors import ConfigError
from rlrun.types import Array, EnvSpec, Metrics


class Rows:
    """Turns observations into row numbers of a table: `rows(obs [..., *obs]) -> int [...]`.

    Discrete observations are row numbers already; vectors that are declared to be one-hot are the place of their 1.

    Raises:
        ConfigError: the observations are neither.
    """

    def __init__(self, env: EnvSpec):
        space = env.obs_space
        self.one_hot = space.one_hot
        if space.kind == "box" and not self.one_hot:
            raise ConfigError(
                "env.id",
                f"{env.id} has observations that number no row of a table",
                "discrete ones do, and one-hot vectors where the environment's metadata has one_hot=True",
            )
        self.count = space.shape[0] if self.one_hot else space.n

    def __call__(self, obs: Array) -> Array:
        return obs.argmax(axis=-1) if self.one_hot else obs


class TableAgent(Agent):
    """Explores with a selector on one set of scores, plays greedily on another; has no memory.

    Greedy play takes the lowest index among equals and draws nothing, so evaluations repeat exactly.

    Args:
        rows: finds the rows of the observations.
        values: the table [S, A] whose row maximum is greedy; the learner's own, which it writes to in place.
        selector: chooses while exploring.
        scores: rows [E] -> what the selector sees [E, A]; by default their rows of `values`.
    """

    def __init__(
        self, rows: Rows, values: Array, selector: ActionSelector, scores: Callable[[Array], Array] | None = None
    ):
        self.rows, self.values, self.selector = rows, values, selector
        self.scores = scores or values.__getitem__
        self._greedy = ArgmaxActionSelector()

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        row = self.rows(obs)
        if explore:
            return self.selector(self.scores(row), env_steps), memory, NOTHING
        return self._greedy(self.values[row]), memory, NOTHING

    def metrics(self, env_steps: int) -> Metrics:
        return self.selector.metrics()

    def fork(self, rng: np.random.Generator) -> TableAgent:
        return TableAgent(self.rows, self.values, self.selector.fork(rng), self.scores)
