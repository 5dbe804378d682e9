"""Distributions on fixed atoms: the projection of Bellemare, Dabney & Munos 2017 (arXiv:1707.06887), equation 7.

Letters: B samples, N atoms z_0 < ... < z_{N-1} at equal distances dz.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def support(low: float, high: float, atoms: int, like: Tensor) -> Tensor:
    """The atoms [N], on the device of another tensor."""
    return torch.linspace(low, high, atoms, device=like.device)


def project(p: Tensor, values: Tensor, low: float, high: float) -> Tensor:
    """Probabilities [B, N] at the atoms, of a distribution with probabilities p [B, N] at other values [B, N].

    A value between two atoms gives each a share, the more the nearer it is; one beyond the ends goes to the end.
    """
    atoms = p.shape[-1]
    place = (values.clamp(low, high) - low) / ((high - low) / (atoms - 1))  # [B, N] in atoms
    below = place.floor().clamp(0, atoms - 2)  # the last atom is the whole share of the one above
    above = place - below
    index = below.long()
    projected = torch.zeros_like(p).scatter_add(-1, index, p * (1 - above))
    return projected.scatter_add(-1, index + 1, p * above)
