"""Heads: hidden features -> what a HeadSpec asks for. All outputs are linear: a policy gives logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrun.types import HeadSpec


class GaussianHead(nn.Module):
    """Means of Gaussians, linear in the features, and log standard deviations that do not depend on the state.

    [B, size + log_stds]: the log standard deviations come last. Where not every output is a mean (the parts of a Dict),
    there are fewer of them.
    """

    def __init__(self, inputs: int, size: int, log_stds: int | None = None):
        super().__init__()
        self.mean = nn.Linear(inputs, size)
        self.log_std = nn.Parameter(torch.zeros(size if log_stds is None else log_stds))

    def forward(self, features: Tensor) -> Tensor:
        mean = self.mean(features)
        return torch.cat([mean, self.log_std.expand(len(mean), -1)], -1)


def build_head(spec: HeadSpec, inputs: int) -> nn.Module:
    """Linear [B, size]; with log standard deviations [B, size + log_stds]."""
    return GaussianHead(inputs, spec.size, spec.log_stds) if spec.log_stds else nn.Linear(inputs, spec.size)
