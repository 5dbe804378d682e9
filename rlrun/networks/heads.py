"""Heads: hidden features -> what a HeadSpec asks for. All outputs are linear: a policy gives logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrun.types import HeadSpec


class GaussianHead(nn.Module):
    """Mean of a diagonal Gaussian and a log standard deviation that does not depend on the state: [B, 2A]."""

    def __init__(self, inputs: int, size: int):
        super().__init__()
        self.mean = nn.Linear(inputs, size)
        self.log_std = nn.Parameter(torch.zeros(size))

    def forward(self, features: Tensor) -> Tensor:
        mean = self.mean(features)
        return torch.cat([mean, self.log_std.expand_as(mean)], -1)


def build_head(spec: HeadSpec, inputs: int) -> nn.Module:
    """Linear [B, size] for q, policy and value; gaussian is [B, 2 * size]: means, then log standard deviations."""
    return GaussianHead(inputs, spec.size) if spec.kind == "gaussian" else nn.Linear(inputs, spec.size)
