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


def activated(name: str) -> nn.Module:
    """An activation behind a layer whose output nobody else needs: a ReLU may work on it where it lies."""
    kind = ACTIVATIONS[name]
    return kind(inplace=True) if kind is nn.ReLU else kind()


def mlp(
    inputs: int,
    hidden: Sequence[int],
    activation: str,
    layer_norm: bool,
    linear: Callable[..., nn.Module] = nn.Linear,
    *,
    batch_norm: str = "none",
    renorm_after: int | None = None,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Fully connected layers [B, inputs] -> [B, hidden[-1]], each with an optional LayerNorm and the activation.

    Args:
        batch_norm: none, or "before" or "after" the activations; then there is one of the inputs, too. Layers before a
            batch norm, which would take it off again, have no bias.
        renorm_after: see `BatchNorm`.
        dropout: share of the outputs of every layer that is dropped, by noise that these layers are given.
    """

    def norm(width: int, place: str) -> list[nn.Module]:
        return [BatchNorm(width, renorm_after=renorm_after)] if batch_norm == place else []

    layers: list[nn.Module] = []
    if batch_norm != "none":
        layers.append(BatchNorm(inputs, renorm_after=renorm_after, biased=batch_norm == "after" or not hidden))
    for width in hidden:
        bias = {"bias": False} if batch_norm == "before" else {}
        layers += [linear(inputs, width, **bias), *([Drop(dropout, width)] if dropout else [])]
        layers += [nn.LayerNorm(width)] if layer_norm else norm(width, "before")
        layers += [activated(activation), *norm(width, "after")]
        inputs = width
    return nn.Sequential(*layers)
