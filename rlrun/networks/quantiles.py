"""Implicit quantile networks (Dabney et al. 2018, arXiv:1806.06923): a network that is asked for any quantile.

Equation 4: features psi(s) [H] are multiplied by an embedding of the fraction tau that is asked for,

    phi(tau) = relu( W [cos(pi 0 tau), ..., cos(pi 63 tau)] + b )  [H],      Z_tau(s, a) = f(psi(s) * phi(tau))_a

and what lies behind (f: the last hidden layer and the output, dueling or noisy) computes action values of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.networks.inference import TRANSLATORS, translate
from rlrun.networks.noisy import units
from rlrun.ops.quantiles import midpoints
from rlrun.types import Array

COSINES = 64


class Quantiles(nn.Module):
    """`head(features [B, H], noise, tau [B, N]) -> [B, N, A]`; without `tau` it is asked for K fractions evenly spread.

    Args:
        inputs: H.
        values: H features -> A action values, with or without noise.
        fractions: K, the midpoints of as many equal parts of [0, 1]; their mean is the expected value.
    """

    def __init__(self, inputs: int, values: nn.Module, fractions: int):
        super().__init__()
        self.embedding = nn.Linear(COSINES, inputs)
        self.values, self.fractions = values, fractions
        self.units = units(values)

    def forward(self, features: Tensor, noise: Tensor | None = None, tau: Tensor | None = None) -> Tensor:
        if tau is None:
            tau = midpoints(self.fractions, like=features).unsqueeze(0)
        waves = torch.arange(COSINES, device=tau.device) * math.pi
        embedded = torch.relu(self.embedding((tau.unsqueeze(-1) * waves).cos()))  # [B or 1, N, H]
        x = features.unsqueeze(1) * embedded
        if noise is None:
            return self.values(x)
        return self.values(x, noise if noise.ndim == 1 else noise.unsqueeze(1))  # all fractions share a row's weights


def _quantiles(layer: Quantiles) -> Any:
    embedding, values = translate(layer.embedding), translate(layer.values)
    if embedding is None or values is None:
        return None
    tau = (np.arange(layer.fractions) + 0.5) / layer.fractions
    waves = np.cos(tau[:, None] * np.arange(COSINES) * math.pi).astype(np.float32)  # [K, cosines]

    def forward(features: Array, noise: Array | None = None) -> Array:
        embedded = np.maximum(embedding(waves), 0)
        x = features[:, None] * embedded
        return values(x) if noise is None else values(x, noise[:, None])

    return forward


TRANSLATORS.update({Quantiles: _quantiles})
