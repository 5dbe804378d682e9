"""A network without hidden layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rlrun import register
from rlrun.types import HeadSpec, Space


@dataclass
class LinearConfig:
    """One matrix from observations to outputs."""

    name: str = "linear"  # registered name of the network
    bias: bool = True  # add a constant to each output


@register("network", LinearConfig)
class Linear(nn.Module):
    """One linear layer per head, on flattened observations."""

    def __init__(self, cfg: LinearConfig, obs_space: Space, *heads: HeadSpec):
        super().__init__()
        inputs = obs_space.shape[0]
        self.heads = nn.ModuleList(nn.Linear(inputs, head.size, bias=cfg.bias) for head in heads)

    def forward(self, obs: Tensor) -> Any:
        outputs = tuple(head(obs) for head in self.heads)
        return outputs if len(outputs) > 1 else outputs[0]
