"""Torsos: observation features -> hidden features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from rlrun.networks.layers import Drop, Tanh
from rlrun.networks.norms import BatchNorm

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
    *,
    batch_norm: str = "none",
    renorm_after: int | None = None,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Fully connected layers [B, inputs] -> [B, hidden[-1]], each with an optional LayerNorm and the activation.

    Args:
        batch_norm: none, or "before" or "after" the activations; then there is one of the inputs, too.
        renorm_after: see `BatchNorm`.
        dropout: share of the outputs of every layer that is dropped, by noise that these layers are given.
    """

    def norm(width: int, *places: str) -> list[nn.Module]:
        return [BatchNorm(width, renorm_after=renorm_after)] if batch_norm in places else []

    layers = norm(inputs, "before", "after")
    for width in hidden:
        layers += [linear(inputs, width), *([Drop(dropout, width)] if dropout else [])]
        layers += [nn.LayerNorm(width)] if layer_norm else norm(width, "before")
        layers += [ACTIVATIONS[activation](), *norm(width, "after")]
        inputs = width
    return nn.Sequential(*layers)
