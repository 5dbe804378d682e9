"""The module that a builder makes: what the heads share, and what each has of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Network(nn.Module):
    """A trunk that all heads share and one branch per head.

    `forward(obs [B, *obs])` gives the head's output, or a tuple with one output per head.
    """

    memory_size = 0  # numbers that an agent carries from step to step: none

    def __init__(self, trunk: nn.Sequential, branches: list[nn.Sequential]):
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)

    def forward(self, obs: Tensor) -> Any:
        features = self.trunk(obs)
        outputs = tuple(branch(features) for branch in self.branches)
        return outputs if len(outputs) > 1 else outputs[0]


def chain(network: Network) -> list[nn.Module]:
    """Encoder, hidden layers and head in order, the very modules of the network.

    Raises:
        ValueError: the network has several heads.
    """
    (branch,) = network.branches
    return [*_flatten(network.trunk), *_flatten(branch)]


def _flatten(module: nn.Module) -> list[nn.Module]:
    if type(module) is nn.Sequential:
        return [layer for child in module for layer in _flatten(child)]
    return [module]
