"""Distributions on fixed atoms: projections onto them, of distributions and of single numbers, and what learns them.

    project    a distribution at other values      Bellemare, Dabney & Munos 2017, arXiv:1707.06887, equation 7
    two_hot    a number, between its neighbours    the same for all of the probability at one value
    hl_gauss   a number, as a normal around it     Imani & White 2018, arXiv:1806.04613, "histogram loss";
                                                   Farebrother et al. 2024, "Stop regressing", arXiv:2403.03950

Letters: B samples, N atoms z_0 < ... < z_{N-1} at equal distances dz.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def support(low: float, high: float, atoms: int, like: Tensor) -> Tensor:
    """The atoms [N], on the device of another tensor."""
    return torch.linspace(low, high, atoms, device=like.device)


def project(p: Tensor, values: Tensor, low: float, high: float, atoms: int | None = None) -> Tensor:
    """Probabilities [B, N] at the atoms, of a distribution with probabilities p [B, M] at other values [B, M].

    A value between two atoms gives each a share, the more the nearer it is; one beyond the ends goes to the end.

    Args:
        atoms: N; M if None.
    """
    atoms = atoms or p.shape[-1]
    place = (values.clamp(low, high) - low) / ((high - low) / (atoms - 1))  # [B, N] in atoms
    below = place.floor().clamp(0, atoms - 2)  # the last atom is the whole share of the one above
    above = place - below
    index = below.long()
    projected = p.new_zeros((*p.shape[:-1], atoms)).scatter_add(-1, index, p * (1 - above))
    return projected.scatter_add(-1, index + 1, p * above)


def two_hot(value: Tensor, low: float, high: float, atoms: int) -> Tensor:
    """Probabilities [B, N] whose mean is a number [B]: all of it at the two atoms around; at an end beyond the ends."""
    place = (value.clamp(low, high) - low) / ((high - low) / (atoms - 1))  # [B] in atoms
    return (1 - (place.unsqueeze(-1) - torch.arange(atoms, device=value.device)).abs()).clamp(min=0)


def hl_gauss(value: Tensor, low: float, high: float, atoms: int, sigma: float) -> Tensor:
    """Probabilities [B, N] of a normal around a number [B], of all that lies within dz / 2 of an atom.

    What lies beyond the outermost of these bounds is left out, and the others share it; beyond the ends the normal is
    around the end.

    Args:
        sigma: its standard deviation in widths dz; the paper recommends 0.75.
    """
    width = (high - low) / (atoms - 1)
    bounds = support(low - width / 2, high + width / 2, atoms + 1, like=value)
    below = torch.erf((bounds - value.clamp(low, high).unsqueeze(-1)) / (math.sqrt(2) * sigma * width))  # [B, N + 1]
    return below.diff(dim=-1) / (below[..., -1:] - below[..., :1])


def cross_entropy(logits: Tensor, p: Tensor) -> Tensor:
    """-sum of p log softmax(logits) over atoms: [...] of logits [..., N] and probabilities that broadcast with them."""
    return -(p * logits.log_softmax(-1)).sum(-1)
