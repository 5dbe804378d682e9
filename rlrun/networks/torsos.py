"""Torsos: observation features -> hidden features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from rlrun.networks.layers import Tanh

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def mlp(
    inputs: int,
    hidden: Sequence[int],
    activation: str,
    layer_norm: bool,
    linear: Callable[[int, int], nn.Module] = nn.Linear,
) -> nn.Sequential:
    """Fully connected layers [B, inputs] -> [B, hidden[-1]], each with an optional LayerNorm and the activation."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [linear(inputs, width), *([nn.LayerNorm(width)] if layer_norm else []), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*layers)
