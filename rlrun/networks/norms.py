"""Layers with running statistics: batch normalisation of hidden features, and observations brought to unit deviation.

Statistics are buffers, so they are part of a checkpoint. Which ones a batch norm goes by, the batch's own or the
running ones, is not a mode of the network but of a pass:

    values = critics(obs, action)               # the running ones, as when acting
    with batch_statistics(critics):             # the batch's own; the running ones follow them
        values = critics(obs, action)

A copy in evaluation mode, as target networks are, goes by the batch's own without taking them in.

Letters: B rows, F features, N critics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.networks.inference import TRANSLATORS, Forward
from rlrun.types import Array

MOMENTUM = 0.01  # share of a batch in the running statistics, as the papers below have it
EPSILON = 1e-3  # added to the variance
RENORM_SCALE, RENORM_SHIFT = 3.0, 5.0  # how far the running statistics may be from those of a batch
TINY = 1e-8  # added to the variance of an observation


class Ranks(Protocol):
    """Processes that learn together (see compute/spread.py)."""

    size: int

    def mean(self, tensor: Tensor) -> Tensor: ...


class BatchNorm(nn.Module):
    """(x - mean) / std * weight + bias of every feature: [B, F] -> [B, F]; of N critics [N or 1, B, F] -> [N, B, F].

    Ioffe & Szegedy 2015, arXiv:1502.03167; between the layers of critics Bhatt et al. 2024, "CrossQ", arXiv:1902.05605.

    Args:
        features: F.
        critics: N; None for one network without such an axis.
        renorm_after: batches after which the outputs are those of the running statistics, and only the gradient is that
            of the batch's own (Ioffe 2017, "batch renormalisation", arXiv:1702.03275); None for never. Where the two
            are further apart than by factors of 3 or 5 standard deviations, they are brought no nearer than that.
        biased: whether there is a bias; where another batch norm takes it off again it would wander.
    """

    bias: Tensor
    mean: Tensor
    var: Tensor
    batches: Tensor

    def __init__(self, features: int, critics: int | None = None, renorm_after: int | None = None, biased: bool = True):
        super().__init__()
        shape = (features,) if critics is None else (critics, 1, features)
        self.weight = nn.Parameter(torch.ones(shape))
        if biased:
            self.bias = nn.Parameter(torch.zeros(shape))
        else:
            self.register_buffer("bias", torch.zeros(shape), persistent=False)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("var", torch.ones(shape))
        self.renorm_after, self.of_batch = renorm_after, False
        if renorm_after is not None:
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, among: slice | Tensor | None = None) -> Tensor:
        """Of N critics some may be chosen: a slice of them, or their numbers."""
        tensors = (self.weight, self.bias, self.mean, self.var)
        weight, bias, mean, var = tensors if among is None else (tensor[among] for tensor in tensors)
        if not self.of_batch:
            scale = weight * (var + EPSILON).rsqrt()
            return torch.addcmul(bias - mean * scale, x, scale)
        own_var, own_mean = torch.var_mean(x, -2, correction=0, keepdim=x.ndim > 2)
        scale, shift = (own_var + EPSILON).rsqrt(), torch.zeros_like(own_mean)
        if self.renorm_after is not None:
            factor, shift = self._renormalised(own_mean.detach(), own_var.detach(), mean, var)
            scale = scale * factor
        if self.training and among is None:
            self._follow(own_mean.detach(), own_var.detach())
        scale = scale * weight
        return torch.addcmul(bias + shift * weight - own_mean * scale, x, scale)

    def _renormalised(self, own_mean: Tensor, own_var: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """r and d of algorithm 1 of the paper; 1 and 0 until it is time."""
        std = (var + EPSILON).sqrt()
        factor = ((own_var + EPSILON).sqrt() / std).clamp(1 / RENORM_SCALE, RENORM_SCALE)
        shift = ((own_mean - mean) / std).clamp(-RENORM_SHIFT, RENORM_SHIFT)
        due = self.batches >= (self.renorm_after or 0)
        return torch.where(due, factor, 1.0), torch.where(due, shift, 0.0)

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        with torch.no_grad():
            self.mean.lerp_(mean.expand_as(self.mean), MOMENTUM)
            self.var.lerp_(var.expand_as(self.var), MOMENTUM)
            if self.renorm_after is not None:
                self.batches.add_(1)


@contextmanager
def batch_statistics(*networks: nn.Module) -> Iterator[None]:
    """Inside, batch norms of these networks go by the statistics of the batches they are shown, and take them in."""
    norms = [layer for network in networks for layer in network.modules() if isinstance(layer, BatchNorm)]
    for layer in norms:
        layer.of_batch = True
    try:
        yield
    finally:
        for layer in norms:
            layer.of_batch = False


class RunningNorm(nn.Module):
    """(x - mean) / std of every element, by the mean and deviation of all that was ever gathered: [B, F] -> [B, F].

    What is gathered are the observations of every step (see `gather`). Before there are two of them nothing is changed.

    Args:
        features: F.
        field: the field of a Dict observation that is shown to this layer; None where there are none.
    """

    count: Tensor
    mean: Tensor
    var: Tensor

    def __init__(self, features: int, field: str | None = None):
        super().__init__()
        self.field = field
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("var", torch.ones(features, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean.float()) * (self.var + TINY).rsqrt().float()

    def gather(self, rows: Array, ranks: Ranks | None = None) -> None:
        """Take in rows [B, ...] of F elements (Chan, Golub & LeVeque 1979), and as many of every other rank."""
        batch = torch.as_tensor(np.ascontiguousarray(rows), dtype=torch.float64).reshape(len(rows), -1)
        var, mean = (x.to(self.mean.device) for x in torch.var_mean(batch, 0, correction=0))
        count = len(batch)
        if ranks is not None and ranks.size > 1:
            own, mean, count = mean.clone(), ranks.mean(mean), count * ranks.size
            var = ranks.mean(var + (own - mean).square())
        seen, delta = self.count.clone(), mean - self.mean
        share = count / (seen + count)
        known = torch.where(seen > 1, self.var, 0.0)  # of one row it is 0
        new = known + (var - known) * share + delta.square() * share * (1 - share)
        self.count += count
        self.mean += delta * share
        self.var.copy_(torch.where(self.count > 1, new, 1.0))


def gather(network: nn.Module, obs: Array, ranks: Ranks | None = None) -> None:
    """Let the running norms in a network take in observations [B, *obs], and those of all ranks."""
    for layer in network.modules():
        if isinstance(layer, RunningNorm):
            layer.gather(obs if layer.field is None else obs[layer.field], ranks)


def unit_rows(network: nn.Module) -> None:
    """Bring the weights of every unit of the linear layers to length 1, and have updates keep them there.

    A layer says by its `unit_dim` along which axis of its weight a unit's are (see `compute.update.Update`).
    Palenicek et al. 2025, "XQC", arXiv:2509.25174: with a batch norm behind it a layer gives the same whatever the
    length of its weights. It would grow, and the longer they are the less a step of the optimiser turns them.
    """
    for layer in network.modules():
        if type(layer) is nn.Linear:
            layer.unit_dim = 1  # type: ignore[assignment]
            with torch.no_grad():
                layer.weight.div_(torch.linalg.vector_norm(layer.weight, dim=1, keepdim=True))


def _batch_norm(layer: BatchNorm) -> Forward | None:
    weight, bias, mean, var = (x.detach().numpy() for x in (layer.weight, layer.bias, layer.mean, layer.var))
    if weight.ndim > 1:
        return None

    def forward(x: Array) -> Array:
        scale = weight / np.sqrt(var + EPSILON)
        y: Array = x * scale
        y += bias - mean * scale
        return y

    return forward


def _running_norm(layer: RunningNorm) -> Forward:
    mean, var = layer.mean.numpy(), layer.var.numpy()

    def forward(x: Array) -> Array:
        return ((x - mean) / np.sqrt(var + TINY)).astype(np.float32)

    return forward


TRANSLATORS.update({BatchNorm: _batch_norm, RunningNorm: _running_norm})
