"""The torso of SimBa: residual blocks with layer normalisation (Lee et al. 2025, arXiv:2410.09754, section 4).

    x <- W x + b                                        embedding, F -> H
    x <- x + W' relu(V' LayerNorm(x) + c') + b'         blocks; inside of one there are 4 H units
    x <- LayerNorm(x)

What leads from the input to the output is linear but for these additions, and the last norm bounds its size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rlrun.networks.inference import TRANSLATORS, Forward, translate
from rlrun.networks.torsos import activated
from rlrun.types import Array

EXPANSION = 4


class Residual(nn.Module):
    """x + layers(x), [..., H] -> [..., H]."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def residuals(inputs: int, width: int, blocks: int, activation: str) -> nn.Sequential:
    """The layers [B, inputs] -> [B, width], with the paper's initial weights: orthogonal, and He's inside of blocks."""
    embedding = nn.Linear(inputs, width)
    nn.init.orthogonal_(embedding.weight)
    nn.init.zeros_(embedding.bias)
    made = [_block(width, activated(activation)) for _ in range(blocks)]
    return nn.Sequential(embedding, *made, nn.LayerNorm(width))


def _block(width: int, activation: nn.Module) -> Residual:
    wide, narrow = nn.Linear(width, EXPANSION * width), nn.Linear(EXPANSION * width, width)
    for layer in (wide, narrow):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return Residual(nn.Sequential(nn.LayerNorm(width), wide, activation, narrow))


def _residual(layer: Residual) -> Forward | None:
    layers: Any = translate(layer.layers)
    if layers is None:
        return None

    def forward(x: Array) -> Array:
        y: Array = x + layers(x)
        return y

    return forward


TRANSLATORS.update({Residual: _residual})
