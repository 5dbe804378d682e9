"""Critics: N networks Q(s, a) of one shape, asked at once.

    critics(obs [B, *obs], action [B, *action]) -> [N, B, K]
    critics(..., among=index [n]) -> [n, B, K]
    critics(..., noise=critics.noise(updates, B, generator)[i]) -> [N, B, K] of networks whose units are dropped

K numbers make up a value: one, or quantiles or atoms; critics of discrete actions are shown none and answer for all of
them side by side. Each layer holds the N layers of its members and multiplies once for all; what turns observations
into features belongs to them in common. An action stands beside the features, in units of half its range where it has
bounds: what the environment counts in makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rlrun.errors import ConfigError
from rlrun.networks.builder import encoder, hidden_layers, initialise
from rlrun.networks.layers import Drop
from rlrun.networks.norms import BatchNorm, unit_rows
from rlrun.networks.rectified import linear, rectified
from rlrun.networks.residual import Residual
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
        self.layers = Chain(members)
        self.units = sum(layer.units for layer in self.layers if isinstance(layer, Drop))  # that may be dropped
        middle, factor = in_half_ranges(action) if action else (np.zeros(0), np.zeros(0))
        for name, value in {"middle": middle, "factor": factor}.items():  # known from the space
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    def forward(
        self,
        obs: Tensor,
        action: Tensor | None = None,
        among: slice | Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Values [N, B, K], or [n, B, K] of n among the critics: a slice of them, or their numbers int64 [n].

        Args:
            noise: uniform in [0, 1), [N or n, B, units]; without it no units are dropped.
        """
        x = self.encoder(obs)
        if action is not None:
            x = torch.cat([x, (action.reshape(len(action), -1) - self.middle) * self.factor], -1)
        return self.layers(x.unsqueeze(0), among, noise)

    def noise(self, passes: int, rows: int, generator: torch.Generator) -> Tensor:
        """Uniform noise [passes, N, rows, units] for as many passes of batches of so many rows."""
        shape = (passes, self.count, rows, self.units)
        return torch.rand(shape, generator=generator, device=generator.device)


class Chain(nn.ModuleList):
    """Layers of N critics in a row, [N or 1, B, *] -> [N, B, *].

    Args:
        members: as many layers in a row for each of them. What has no parameters is the same for all.
    """

    def __init__(self, members: Sequence[nn.Sequential]):
        super().__init__(
            STACKS[type(same[0])](same) if type(same[0]) in STACKS else same[0] for same in zip(*members, strict=True)
        )
        linear, between = [*self][::2], [*self][1::2]
        whole = all(type(layer) is Linears for layer in linear) and all(type(layer) is nn.ReLU for layer in between)
        self.rectified = linear if whole and len(linear) > len(between) else None

    def forward(self, x: Tensor, among: slice | Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Some may be chosen; noise [N, B, units] is shared out among the layers that drop units."""
        if self.rectified is not None:
            return rectified(x, [layer.chosen(among) for layer in self.rectified])
        for layer in self:
            if isinstance(layer, OF_MANY):
                x = layer(x, among)
            elif noise is not None and isinstance(layer, Drop):
                x, noise = layer(x, noise[..., : layer.units]), noise[..., layer.units :]
            else:
                x = layer(x)
        return x


class Stack(nn.Module):
    """N layers of one shape, [N or 1, B, *] -> [N, B, *], with parameters [N, ...] that may be chosen among.

    Layers that have no bias have one that is always 0.
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack(list(weights)).detach())
        found = [bias for bias in biases if bias is not None]
        self.bias = nn.Parameter(torch.stack(found).detach().unsqueeze(1)) if found else None  # [N, 1, *]

    def chosen(self, among: slice | Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights and biases of some of them, or of all."""
        bias = self.weight.new_zeros((len(self.weight), 1, 1)) if self.bias is None else self.bias
        return (self.weight, bias) if among is None else (self.weight[among], bias[among])


class Linears(Stack):
    """N linear layers, weights [N, inputs, outputs]."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__([layer.weight.T for layer in layers], [layer.bias for layer in layers])
        if hasattr(layers[0], "unit_dim"):
            self.unit_dim = 1  # a unit's weights stand in a column

    def forward(self, x: Tensor, among: slice | Tensor | None = None) -> Tensor:
        weight, bias = self.chosen(among)
        return linear(x.expand(len(weight), -1, -1), weight, bias)


class LayerNorms(Stack):
    """N LayerNorms over the features, weights [N, 1, features]."""

    def __init__(self, layers: Sequence[nn.LayerNorm]):
        super().__init__([layer.weight.unsqueeze(0) for layer in layers], [layer.bias for layer in layers])
        self.eps = layers[0].eps

    def forward(self, x: Tensor, among: slice | Tensor | None = None) -> Tensor:
        weight, bias = self.chosen(among)
        return torch.addcmul(bias, functional.layer_norm(x, x.shape[-1:], eps=self.eps), weight)


class Residuals(nn.Module):
    """N residual blocks: x + layers(x)."""

    def __init__(self, blocks: Sequence[Residual]):
        super().__init__()
        self.layers = Chain([block.layers for block in blocks])

    def forward(self, x: Tensor, among: slice | Tensor | None = None) -> Tensor:
        return x + self.layers(x, among)


def _batch_norms(layers: Sequence[BatchNorm]) -> BatchNorm:
    """N batch norms at their beginning."""
    one = layers[0]
    return BatchNorm(len(one.mean), len(layers), one.renorm_after, biased=isinstance(one.bias, nn.Parameter))


STACKS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Linear: Linears,
    nn.LayerNorm: LayerNorms,
    BatchNorm: _batch_norms,
    Residual: Residuals,
}
OF_MANY = (Stack, BatchNorm, Residuals)  # layers of all critics, of which some may be chosen


def in_half_ranges(action: Space) -> tuple[np.ndarray, np.ndarray]:
    """What to take off every dimension [A] and then to multiply it by [A]; nothing, where it has not both bounds.

    One that has a single value is 0.
    """
    low, high = (np.asarray(bound, np.float64).ravel() for bound in (action.low, action.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bounded, (low + high) / 2, 0), np.where(bounded & (low < high), 2 / (high - low), 1)


def build_critics(cfg: NetworkConfig, obs_space: Space, head: HeadSpec) -> Critics:
    """Critics as a network config describes each of them: its encoder, its hidden layers, then one that is linear.

    Raises:
        ConfigError: they ask for what does not go with the network.
    """
    if head.layer_norm and (cfg.batch_norm != "none" or cfg.residual):
        problem = "cannot stand beside the norms that the network has already"
        raise ConfigError("algo.critics.layer_norm", problem, "write algo.critics.layer_norm=false")
    cfg = replace(cfg, layer_norm=cfg.layer_norm or head.layer_norm)
    encoded, features = encoder(cfg, obs_space)
    inputs = features + (head.action.size if head.action else 0)
    hidden = cfg.hidden if head.hidden is None else head.hidden
    for key, asked, off in (("layer_norm", head.layer_norm, "false"), ("dropout", head.dropout, "0")):
        if asked and not hidden:
            hint = f"write algo.critics.{key}={off}, or algo.critics.hidden=[256,256]"
            raise ConfigError(f"algo.critics.{key}", "is for hidden layers, and the critics have none", hint)
    width = hidden[-1] if hidden else inputs
    members = [
        nn.Sequential(*hidden_layers(cfg, inputs, hidden, head.dropout), nn.Linear(width, head.size))
        for _ in range(head.critics)
    ]
    initialise(cfg, encoded, [], [])
    for network in members:
        initialise(cfg, network, [head], [network[-1]])
    if cfg.weight_norm:
        unit_rows(nn.ModuleList([encoded, *members]))
    return Critics(encoded, members, head.action)
