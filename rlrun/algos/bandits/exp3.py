"""EXP3 (Auer, Cesa-Bianchi, Freund & Schapire 2002, SIAM J. Computing 32:48): rewards may be an adversary's.

Arms are drawn with probabilities (figure 1 of the paper)

    p(a) = (1 - gamma) * w(a) / sum w + gamma / A

and a reward r, scaled to [0, 1], of arm a multiplies its weight by exp(gamma / A * r / p(a)). The weights are kept as
sums of r / p, estimated gains, and turned into probabilities relative to the largest, so they cannot overflow.

Rewards of one sweep are all weighted by the probabilities that chose. Evaluation takes the highest estimated gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlrun.agents.selectors import ProbabilityActionSelector
from rlrun.agents.table import TableAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits.bandit import BanditLearner, RewardRange, table_shape
from rlrun.checks import Bounded, Share, ascending
from rlrun.errors import ConfigError
from rlrun.footprint import tables
from rlrun.ops.distributions import softmax
from rlrun.registry import Needs, register
from rlrun.types import Array, EnvSpec

ADVICE = "write algo.reward_range=[LOW,HIGH]"


@dataclass
class Exp3Config(Bounded):
    """EXP3."""

    name: str = "exp3"  # registered name of the algorithm
    mixing: Share | None = None  # gamma, share of uniform draws; null: the best for total_timesteps (corollary 3.2)
    reward_range: list[float] | None = None  # [low, high] that all rewards lie in; null: as the environment tells

    def __post_init__(self) -> None:
        super().__post_init__()
        ascending("reward_range", self.reward_range)


class Gains:
    """Memory of estimated gains.

    Args:
        shape: (S, A).
        mixing: gamma.
        rewards: scales them to [0, 1].
    """

    def __init__(self, shape: tuple[int, int], mixing: float, rewards: RewardRange):
        self.values = np.zeros(shape)  # [S, A] sums of r / p
        self.mixing, self.rewards = mixing, rewards
        self.tables: Mapping[str, Array] = {"gains": self.values}

    def probabilities(self, context: Array) -> Array:
        """p [E, A] in contexts [E]."""
        uniform = self.mixing / self.values.shape[1]
        return (1 - self.mixing) * softmax(uniform * self.values[context]) + uniform

    def add(self, context: Array, arm: Array, reward: Array) -> None:
        """Credit every reward [E], weighted by how unlikely it was to be seen."""
        chance = self.probabilities(context)[np.arange(len(arm)), arm]
        np.add.at(self.values, (context, arm), self.rewards.scaled(reward) / chance)


@register("algo", Exp3Config, needs=Needs(action={"discrete"}, one_step=True), footprint=tables(3))
class Exp3(BanditLearner):
    """Bandit: exponential weights, for rewards of any origin (Auer et al. 2002)."""

    def __init__(self, cfg: Exp3Config, kit: Kit):
        contexts, arms = table_shape(kit.env)
        mixing = best_mixing(arms, kit.total_timesteps / contexts) if cfg.mixing is None else cfg.mixing
        self.gains = Gains((contexts, arms), mixing, reward_range(cfg, kit.env))
        super().__init__(cfg, kit, self.gains)
        self.agent = TableAgent(
            self.rows, self.gains.values, ProbabilityActionSelector(kit.rng), self.gains.probabilities
        )


def best_mixing(arms: int, pulls: float) -> float:
    """The gamma that minimises the bound on the regret of so many pulls (corollary 3.2, with g = pulls)."""
    return min(1.0, math.sqrt(arms * math.log(arms) / ((math.e - 1) * pulls)))


def reward_range(cfg: Exp3Config, env: EnvSpec) -> RewardRange:
    """The bounds of the rewards, the user's or else the environment's; ConfigError if nobody knows them."""
    low, high = cfg.reward_range or env.reward_range or (-math.inf, math.inf)
    if not math.isfinite(high - low):
        raise ConfigError("algo.reward_range", f"exp3 needs bounded rewards, {env.id} tells of no bounds", ADVICE)
    return RewardRange(low, high, ADVICE)
