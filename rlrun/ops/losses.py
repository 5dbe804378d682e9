"""Losses as pure functions of tensors, one number per sample: the caller weighs and averages.

No `.item()` and no branch on data, so they can be compiled, captured and vmapped. Letters: B samples, A actions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = {"huber": "huber_loss", "mse": "mse_loss"}  # of values: our names of torch's functions


def gather(q: Tensor, action: Tensor) -> Tensor:
    """The values [B] of the actions taken, int64 [B], out of q [B, A]."""
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip_range: float | Tensor) -> Tensor:
    """PPO's policy loss [B]: -min(r A, clip(r, 1 - c, 1 + c) A) with r = pi / pi_old (Schulman et al. 2017, eq. 7)."""
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)  # type: ignore[arg-type]  # the stubs want two of a kind
    return -torch.min(ratio * advantage, clipped * advantage)


def clipped_value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip_range: float) -> Tensor:
    """Squared error [B] of a value that gains nothing from moving more than `clip_range` from the old one.

    The larger of the errors of V and of V clipped around V_old, as in OpenAI Baselines' PPO2; not in the paper.
    """
    clipped = old_value + (value - old_value).clamp(-clip_range, clip_range)
    return torch.max((value - target).square(), (clipped - target).square())


def approx_kl(ratio: Tensor) -> Tensor:
    """Estimate [B] of KL(pi_old || pi) from actions of pi_old: (r - 1) - log r, at least 0 (Schulman 2020, "k3")."""
    return ratio - 1 - ratio.log()
