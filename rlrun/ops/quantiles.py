"""Quantile regression (Koenker 2005) with Huber's error, for distributions of returns.

Dabney et al. 2018 (arXiv:1710.10044), equations 9 and 10. Letters: B samples, N quantiles, M samples of a target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def midpoints(count: int, like: Tensor) -> Tensor:
    """The fractions [N] in the middle of as many equal parts of [0, 1], on the device of another tensor."""
    return (torch.arange(count, device=like.device) + 0.5) / count


def quantile_huber(quantiles: Tensor, target: Tensor, tau: Tensor, kappa: float = 1.0) -> Tensor:
    """The loss [B] of quantiles [B, N] at fractions tau [N] or [B, N] against samples [B, M] of what they describe.

    Sum over quantiles of the mean over samples of |tau - 1{u < 0}| h(u) / kappa, u = sample - quantile, with h Huber's
    error: u^2 / 2 up to kappa, then linear; kappa = 0 is the absolute error, plain quantile regression.
    """
    u = target.unsqueeze(-2) - quantiles.unsqueeze(-1)  # [B, N, M]
    error = u.abs()
    if kappa:
        error = torch.where(error <= kappa, 0.5 * u.square(), kappa * (error - 0.5 * kappa)) / kappa
    return ((tau.unsqueeze(-1) - (u < 0).to(u.dtype)).abs() * error).mean(-1).sum(-1)
