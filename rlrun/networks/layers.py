"""Small layers that turn observations into features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.types import Array


class OneHot(nn.Module):
    """Discrete observations [B] -> float [B, n]."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n

    def forward(self, obs: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(obs, self.n).float()


class Tanh(nn.Module):
    """tanh(x) = 2 sigmoid(2x) - 1, elementwise.

    torch.tanh goes through a library of vector functions that on AMD processors takes ten times as long as its sigmoid.
    """

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(2 * x) - 1


class Flat(nn.Module):
    """Box observations [B, *obs] of any type -> float [B, features]."""

    def forward(self, obs: Tensor) -> Tensor:
        return obs.reshape(len(obs), -1).float()


class Scaled(nn.Module):
    """Box observations [B, *obs] with finite bounds [*obs] -> float [B, features], `low` as 0 and `high` as 1."""

    low: Tensor
    factor: Tensor

    def __init__(self, low: Array, high: Array):
        super().__init__()
        below, span = low.reshape(-1).astype(np.float32), (high - low).reshape(-1).astype(np.float32)
        self.register_buffer("low", torch.from_numpy(below), persistent=False)  # known from the space
        self.register_buffer("factor", torch.from_numpy(1 / np.maximum(span, 1)), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        return (obs.reshape(len(obs), -1).float() - self.low) * self.factor
