"""The module that a builder makes: what the heads share, and what each has of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlrun.errors import ConfigError


class Network(nn.Module):
    """A trunk that all heads share and one branch per head.

    `forward(obs [B, *obs])` gives the head's output, or a tuple with one output per head. A head that is noisy, or can
    be asked for quantiles, takes `noise` and `tau` beside (see noisy.py and quantiles.py).
    """

    memory_size = 0  # numbers that an agent carries from step to step: none

    def __init__(self, trunk: nn.Sequential, branches: list[nn.Sequential]):
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)
        self.shares = [getattr(branch[-1], "units", 0) for branch in branches]
        self.units = sum(self.shares)  # numbers of noise that a pass takes
        self.noise_per_row = any(getattr(layer, "per_row", False) for layer in self.modules())

    def forward(self, obs: Tensor, noise: Tensor | None = None, tau: Tensor | None = None) -> Any:
        features = self.trunk(obs)
        if noise is None and tau is None:
            outputs = tuple(branch(features) for branch in self.branches)
        else:
            noises = [None] * len(self.shares) if noise is None else noise.split(self.shares, -1)
            outputs = tuple(
                _asked(branch, features, own if share else None, tau)
                for branch, own, share in zip(self.branches, noises, self.shares, strict=True)
            )
        return outputs if len(outputs) > 1 else outputs[0]

    def noise(self, passes: int, rows: int, generator: torch.Generator) -> Tensor:
        """Normal noise [passes, U], or [passes, rows, U] where each row of a batch takes its own."""
        shape = (passes, rows, self.units) if self.noise_per_row else (passes, self.units)
        return torch.randn(shape, generator=generator, device=generator.device)


def _asked(branch: Any, x: Tensor, noise: Tensor | None, tau: Tensor | None) -> Tensor:
    """The output of a branch whose head takes more than features."""
    *below, head = branch
    for layer in below:
        x = layer(x)
    inputs = {"noise": noise, "tau": tau}
    output: Tensor = head(x, **{name: value for name, value in inputs.items() if value is not None})
    return output


def chain(network: Network) -> list[nn.Module]:
    """Encoder, hidden layers and head in order, the very modules of the network.

    Raises:
        ValueError: the network has several heads.
        ConfigError: its layers do not stand in a row.
    """
    (branch,) = network.branches
    layers = [*_flatten(network.trunk), *_flatten(branch)]
    if any(hasattr(layer, "units") for layer in layers):
        hint = "write network.dueling=false network.noisy=none"
        raise ConfigError("network", "this algorithm takes plain layers in a row", hint)
    return layers


def _flatten(module: nn.Module) -> list[nn.Module]:
    if type(module) is nn.Sequential:
        return [layer for child in module for layer in _flatten(child)]
    return [module]
