"""Thompson sampling (Thompson 1933, Biometrika 25:285; Chapelle & Li 2011, NIPS 24).

Draws a mean for every arm from what is believed of it and pulls the arm with the highest draw, so an arm is pulled as
often as it is likely to be the best. Evaluation takes the highest posterior mean.

Beliefs are conjugate (beliefs.py): Beta for rewards in [0, 1], Gaussian for others. A reward strictly between 0 and 1
counts as a fraction of a success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.table import Rows
from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits import beliefs
from rlrun.algos.bandits.bandit import BanditLearner
from rlrun.algos.bandits.beliefs import Belief, BeliefConfig
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Array


@dataclass
class ThompsonConfig(BeliefConfig):
    """Thompson sampling."""

    name: str = "thompson"  # registered name of the algorithm


class ThompsonAgent(Agent):
    """Explores with the best of a draw, plays the best on average; has no memory of its own."""

    def __init__(self, rows: Rows, belief: Belief, rng: np.random.Generator):
        self.rows, self.belief, self.rng = rows, belief, rng
        self.values = belief.mean  # [S, A]

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        context = self.rows(obs)
        means = self.belief.sample(context, self.rng) if explore else self.values[context]
        return means.argmax(axis=1), memory, NOTHING


@register("algo", ThompsonConfig, needs=Needs(action={"discrete"}, one_step=True), footprint=tables(6))
class Thompson(BanditLearner):
    """Bandit: the arm that is best in a draw from the posterior (Thompson 1933)."""

    def __init__(self, cfg: ThompsonConfig, kit: Kit):
        self.belief = beliefs.make(cfg, kit.env)
        super().__init__(cfg, kit, self.belief)
        self.agent = ThompsonAgent(self.rows, self.belief, kit.rng)
