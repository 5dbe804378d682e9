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


class Flat(nn.Module):
    """Box observations [B, *obs] of any type -> float [B, features]."""

    def forward(self, obs: Tensor) -> Tensor:
        return obs.flatten(1).float()
