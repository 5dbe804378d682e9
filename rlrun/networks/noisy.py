"""Noisy networks: linear layers whose weights are learned means and learned amounts of noise.

Fortunato et al. 2018 (arXiv:1706.10295), with normal e, layers of p inputs and q outputs:

    y = (mu + sigma e) x + (mu' + sigma' e')
    factorised    e_ij = f(e_i) f(e_j), e'_j = f(e_j), f(x) = sgn(x) sqrt|x|: p + q numbers a draw
                  mu ~ U(-1/sqrt p, 1/sqrt p), sigma = sigma0 / sqrt p
    independent   a number for every weight; mu ~ U(-sqrt(3/p), sqrt(3/p)), sigma = 0.017

Noise comes in as an input, whoever calls draws it; without it the layers compute with their means, as an evaluation
does. Differs from the paper: independent noise is drawn for the q outputs of every row (Kingma, Salimans & Welling
2015, "local reparametrisation", arXiv:1506.02557), which gives each row the same distribution from fewer numbers, and a
gradient with less variance.

Letters: B rows, p inputs, q outputs, U numbers of noise for a pass through a network.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rlrun.networks.inference import TRANSLATORS, translate
from rlrun.types import Array

INDEPENDENT_SIGMA = 0.017
TINY = 1e-12  # of a variance, whose root has a gradient


class FactorisedLinear(nn.Linear):
    """`layer(x [..., p], noise)`: noise [p + q] is one draw of the weights for all rows, [..., p + q] one for each."""

    per_row = False  # one draw serves a batch

    def __init__(self, inputs: int, outputs: int, sigma0: float):
        super().__init__(inputs, outputs)  # torch's own initial weights are the paper's means
        sigma = sigma0 / math.sqrt(inputs)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, sigma))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, sigma))
        self.units = inputs + outputs

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            return super().forward(x)
        rows, columns = (noise.sign() * noise.abs().sqrt()).split([self.in_features, self.out_features], -1)
        if noise.ndim == 1:
            weight = self.weight + self.weight_sigma * torch.outer(columns, rows)
            return functional.linear(x, weight, self.bias + self.bias_sigma * columns)
        return super().forward(x) + functional.linear(x * rows, self.weight_sigma, self.bias_sigma) * columns


class IndependentLinear(nn.Linear):
    """`layer(x [..., p], noise [..., q])`: every row has a draw of the weights to itself."""

    per_row = True

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        bound = math.sqrt(3 / inputs)
        for mean in (self.weight, self.bias):
            nn.init.uniform_(mean, -bound, bound)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, INDEPENDENT_SIGMA))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, INDEPENDENT_SIGMA))
        self.units = outputs

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        mean = super().forward(x)
        if noise is None:
            return mean
        variance = functional.linear(x.square(), self.weight_sigma.square(), self.bias_sigma.square())
        return mean + (variance + TINY).sqrt() * noise


class Stream(nn.Sequential):
    """Layers in a row of which some are noisy: `stream(x [..., p], noise [U] or [..., U])`; each takes its share."""

    def __init__(self, *layers: nn.Module):
        super().__init__(*layers)
        self.shares = [units(layer) for layer in layers]
        self.units = sum(self.shares)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            return super().forward(x)
        for layer, own in zip(self, noise.split(self.shares, -1), strict=True):
            x = layer(x, own) if own.shape[-1] else layer(x)
        return x


def units(module: nn.Module) -> int:
    """How many numbers of noise a module takes; 0 if it takes none."""
    return getattr(module, "units", 0)


def _factorised(layer: FactorisedLinear) -> Any:
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    weight_sigma, bias_sigma = layer.weight_sigma.detach().numpy().T, layer.bias_sigma.detach().numpy()
    inputs = layer.in_features

    def forward(x: Array, noise: Array | None = None) -> Array:
        y = x @ weight
        y += bias
        if noise is not None:
            root = np.sqrt(np.abs(noise))
            np.copysign(root, noise, out=root)
            spread = (x * root[..., :inputs]) @ weight_sigma
            spread += bias_sigma
            spread *= root[..., inputs:]
            y += spread
        return y

    return forward


def _independent(layer: IndependentLinear) -> Any:
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    weight_sigma, bias_sigma = layer.weight_sigma.detach().numpy().T, layer.bias_sigma.detach().numpy()

    def forward(x: Array, noise: Array | None = None) -> Array:
        y = x @ weight
        y += bias
        if noise is not None:
            variance = np.square(x) @ np.square(weight_sigma)
            variance += np.square(bias_sigma)
            variance += TINY
            y += np.sqrt(variance) * noise
        return y

    return forward


def _stream(layer: Stream) -> Any:
    functions = [translate(each) for each in layer]
    if None in functions:
        return None
    ends = np.cumsum(layer.shares).tolist()
    slots = [slice(end - share, end) if share else None for end, share in zip(ends, layer.shares, strict=True)]

    def forward(x: Array, noise: Array | None = None) -> Array:
        for function, slot in zip(functions, slots, strict=True):
            x = function(x) if noise is None or slot is None else function(x, noise[..., slot])  # type: ignore[misc]
        return x

    return forward


TRANSLATORS.update({FactorisedLinear: _factorised, IndependentLinear: _independent, Stream: _stream})
