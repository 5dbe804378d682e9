"""Critics: N networks Q(s, a) of one shape, asked at once.

    critics(obs [B, *obs], action [B, *action]) -> [N, B, K]

K numbers make up a value: one, or quantiles or atoms; critics of discrete actions are shown none and answer for all of
them side by side. Each layer holds the N layers of its members and multiplies once for all; what turns observations
into features belongs to them in common. An action stands beside the features, in units of half its range where it has
bounds: what the environment counts in makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rlrun.networks.builder import encoder, initialise
from rlrun.networks.torsos import mlp
from rlrun.types import HeadSpec, Space

if TYPE_CHECKING:
    from rlrun.networks.builder import NetworkConfig


class Critics(nn.Module):
    """`critics(obs, action) -> [N, B, K]`.

    Args:
        encoder: observations -> features [B, F], in common.
        members: N networks, F features and the numbers of an action -> K, layers in a row. Their weights are copied.
        action: its space; None where the critics are shown none.
    """

    middle: Tensor
    factor: Tensor

    def __init__(self, encoder: nn.Module, members: Sequence[nn.Sequential], action: Space | None = None):
        super().__init__()
        self.encoder, self.count = encoder, len(members)
        self.layers = nn.ModuleList(_stacked(same) for same in zip(*members, strict=True))
        middle, factor = in_half_ranges(action) if action else (np.zeros(0), np.zeros(0))
        for name, value in {"middle": middle, "factor": factor}.items():  # known from the space
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    def forward(self, obs: Tensor, action: Tensor | None = None, among: slice | Tensor | None = None) -> Tensor:
        """Values [N, B, K], or [n, B, K] of n among the critics: a slice of them, or their numbers int64 [n]."""
        x = self.encoder(obs)
        if action is not None:
            x = torch.cat([x, (action.reshape(len(action), -1) - self.middle) * self.factor], -1)
        x = x.unsqueeze(0)
        for layer in self.layers:
            x = layer(x, among) if isinstance(layer, Stack) else layer(x)
        return x


class Stack(nn.Module):
    """N layers of one shape, [N or 1, B, *] -> [N, B, *], with parameters [N, ...] that may be chosen among."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack(list(weights)).detach())
        self.bias = nn.Parameter(torch.stack(list(biases)).detach().unsqueeze(1))  # [N, 1, *]

    def chosen(self, among: slice | Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights and biases of some of them, or of all."""
        return (self.weight, self.bias) if among is None else (self.weight[among], self.bias[among])


class Linears(Stack):
    """N linear layers, weights [N, inputs, outputs]."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__([layer.weight.T for layer in layers], [layer.bias for layer in layers])

    def forward(self, x: Tensor, among: slice | Tensor | None = None) -> Tensor:
        weight, bias = self.chosen(among)
        if weight.shape[-1] == 1:  # as a batched product a single column costs seven times as much
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight)


class LayerNorms(Stack):
    """N LayerNorms over the features, weights [N, 1, features]."""

    def __init__(self, layers: Sequence[nn.LayerNorm]):
        super().__init__([layer.weight.unsqueeze(0) for layer in layers], [layer.bias for layer in layers])
        self.eps = layers[0].eps

    def forward(self, x: Tensor, among: slice | Tensor | None = None) -> Tensor:
        weight, bias = self.chosen(among)
        return torch.addcmul(bias, functional.layer_norm(x, x.shape[-1:], eps=self.eps), weight)


STACKS: dict[type[nn.Module], type[Stack]] = {nn.Linear: Linears, nn.LayerNorm: LayerNorms}


def _stacked(layers: Sequence[nn.Module]) -> nn.Module:
    """N layers as one; what has no parameters is the same for all."""
    return STACKS[type(layers[0])](layers) if type(layers[0]) in STACKS else layers[0]  # type: ignore[arg-type,call-arg]


def in_half_ranges(action: Space) -> tuple[np.ndarray, np.ndarray]:
    """What to take off every dimension [A] and then to multiply it by [A]; nothing, where it has not both bounds."""
    low, high = (np.asarray(bound, np.float64).ravel() for bound in (action.low, action.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        return np.where(bounded, (low + high) / 2, 0), np.where(bounded, 2 / (high - low), 1)


def build_critics(cfg: NetworkConfig, obs_space: Space, head: HeadSpec) -> Critics:
    """Critics as a network config describes each of them: its encoder, its hidden layers, then one that is linear."""
    encoded, features = encoder(cfg, obs_space)
    inputs = features + (head.action.size if head.action else 0)
    width = cfg.hidden[-1] if cfg.hidden else inputs

    def member() -> nn.Sequential:
        return nn.Sequential(*mlp(inputs, cfg.hidden, cfg.activation, cfg.layer_norm), nn.Linear(width, head.size))

    members = [member() for _ in range(head.critics)]
    initialise(cfg.init, encoded, [], [])
    for network in members:
        initialise(cfg.init, network, [head], [network[-1]])
    return Critics(encoded, members, head.action)
