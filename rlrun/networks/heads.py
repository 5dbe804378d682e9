"""Heads: hidden features -> what a HeadSpec asks for. All outputs are linear: a policy gives logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rlrun.types import HeadSpec

Linear = Callable[[int, int], nn.Module]


class GaussianHead(nn.Module):
    """Means of Gaussians, linear in the features, and log standard deviations that do not depend on the state.

    [B, size + log_stds]: the log standard deviations come last. Where not every output is a mean (the parts of a Dict),
    there are fewer of them. Where the layer of the means takes noise, so does the head.
    """

    def __init__(self, inputs: int, size: int, log_stds: int | None = None, linear: Linear = nn.Linear):
        super().__init__()
        self.mean = linear(inputs, size)
        self.log_std = nn.Parameter(torch.zeros(size if log_stds is None else log_stds))
        self.units = getattr(self.mean, "units", 0)

    def forward(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        mean = self.mean(features) if noise is None else self.mean(features, noise)
        return torch.cat([mean, self.log_std.expand(len(mean), -1)], -1)


def build_head(spec: HeadSpec, inputs: int, linear: Linear = nn.Linear) -> nn.Module:
    """Linear [B, size]; with log standard deviations [B, size + log_stds].

    Args:
        linear: makes the layer, of its inputs and outputs.
    """
    return GaussianHead(inputs, spec.size, spec.log_stds, linear) if spec.log_stds else linear(inputs, spec.size)
