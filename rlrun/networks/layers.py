"""Small layers that turn observations into features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
        return obs.flatten(1).float()
