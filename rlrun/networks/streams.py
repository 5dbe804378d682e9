"""Heads of action values that are more than one layer: dueling, noisy, by quantiles.

Such a head begins before the last hidden layer: a stream has one of its own, and it is this layer and the output that
are noisy. With convolutions in front and one hidden layer behind them it is the network of the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from rlrun.errors import ConfigError
from rlrun.networks.dueling import Dueling
from rlrun.networks.heads import build_head
from rlrun.networks.noisy import FactorisedLinear, IndependentLinear, Stream
from rlrun.networks.quantiles import Quantiles
from rlrun.networks.torsos import mlp
from rlrun.types import HeadSpec

if TYPE_CHECKING:
    from rlrun.networks.builder import NetworkConfig


def in_streams(cfg: NetworkConfig, heads: Sequence[HeadSpec]) -> bool:
    """Whether heads begin before the last hidden layer.

    Raises:
        ConfigError: the config asks for what only action values have.
    """
    if cfg.dueling and not any(head.kind == "q" for head in heads):
        problem = "is for networks that give action values, and this algorithm asks for none"
        raise ConfigError("network.dueling", problem, "leave it out")
    if cfg.noisy != "none" and not any(head.takes_noise for head in heads):
        raise ConfigError("network.noisy", "this algorithm does not explore by noise on weights", "leave it out")
    return cfg.dueling or cfg.noisy != "none" or any(head.fractions for head in heads)


def build_streams(cfg: NetworkConfig, spec: HeadSpec, inputs: int, hidden: Sequence[int]) -> nn.Module:
    """A head with hidden layers of its own: [B, inputs] -> as `build_head`; quantiles [B, K, size]."""
    width, noisy = hidden[-1] if hidden else inputs, cfg.noisy if spec.takes_noise else "none"

    def linear(inputs: int, outputs: int) -> nn.Linear:
        if noisy == "factorised":
            return FactorisedLinear(inputs, outputs, cfg.sigma0)
        return IndependentLinear(inputs, outputs) if noisy == "independent" else nn.Linear(inputs, outputs)

    def stream(size: int) -> Stream:
        return Stream(*mlp(inputs, hidden, cfg.activation, cfg.layer_norm, linear), linear(width, size))

    if spec.kind != "q":
        return Stream(*mlp(inputs, hidden, cfg.activation, cfg.layer_norm, linear), build_head(spec, width, linear))
    values: Any = Dueling(stream(spec.atoms), stream(spec.size), spec.atoms) if cfg.dueling else stream(spec.size)
    return Quantiles(inputs, values, spec.fractions) if spec.fractions else values


def outputs(head: nn.Module) -> nn.ModuleList:
    """The last layers of a head: one, or one of each stream."""
    if isinstance(head, Dueling):
        return nn.ModuleList([head.value[-1], head.advantage[-1]])
    if isinstance(head, Quantiles):
        return outputs(head.values)
    return nn.ModuleList([head[-1] if isinstance(head, nn.Sequential) else head])
