"""Munchausen reinforcement learning (Vieillard, Pietquin & Geist 2020, arXiv:2007.14430): an option of Q-networks.

The policy is a softmax of the target network's values at temperature t, and its own log-probabilities are rewards:

    r + alpha [t log pi(a|s)]_clip^0  +  discount * sum over b of pi(b|s') (Q_target(s', b) - t log pi(b|s'))

(equation 5; [x]_c^0 is x, but at least c and at most 0). Where values are distributions, the sum over b is taken of
every quantile (appendix B.1, M-IQN). With n steps the bonus is that of the first action alone (Clark et al. 2024,
arXiv:2411.03820). The agent still plays the highest value: the softmax is of targets only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlrun.algos.value.parts import QConfig
from rlrun.checks import Share, Within
from rlrun.errors import ConfigError
from rlrun.ops.fields import allowed
from rlrun.ops.losses import gather
from rlrun.types import Tensor


@dataclass
class SoftConfig(QConfig):
    """Options of a Q-network whose targets may be those of Munchausen reinforcement learning."""

    munchausen: bool = False  # add the policy's own log-probability to rewards, and learn soft values
    munchausen_alpha: Share = 0.9  # munchausen: how much of the log-probability counts
    temperature: Annotated[float, Within(1e-6, 1e6)] = 0.03  # munchausen: of the softmax policy
    munchausen_clip: Annotated[float, Within(-1e6, 0)] = -1.0  # munchausen: least that temperature * log pi counts for

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.munchausen and self.double:
            raise ConfigError(
                "double", "has no meaning with munchausen, whose targets choose no action", "write double=false"
            )


def log_policy(values: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    """log pi [B, A] of the softmax policy of values [B, A]; that of a masked action is as low as can be."""
    return allowed(values / temperature, mask).log_softmax(-1)


def bonus(values: Tensor, action: Tensor, cfg: SoftConfig, mask: Tensor | None) -> Tensor:
    """What is added to the rewards [B] of actions [B] taken where the values are [B, A]."""
    log_pi = gather(log_policy(values, cfg.temperature, mask), action)
    return cfg.munchausen_alpha * (cfg.temperature * log_pi).clamp(cfg.munchausen_clip, 0)


def soft_value(values: Tensor, quantiles: Tensor, cfg: SoftConfig, mask: Tensor | None) -> Tensor:
    """The value of following the policy of values [B, A]: of quantiles [B, A, N], a number [B, N] for each."""
    log_pi = log_policy(values, cfg.temperature, mask).unsqueeze(-1)  # [B, A, 1]
    return (log_pi.exp() * (quantiles - cfg.temperature * log_pi)).sum(-2)
