"""`network=lstm` and `network=gru`: a multi-layer perceptron whose last hidden layer remembers what it has seen.

An agent that acts by such a network carries a row of memory per environment from step to step (see
`rlrun.experience.acting`), and learns from sequences of steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import torch

from rlrun import networks
from rlrun.checks import Within
from rlrun.errors import ConfigError
from rlrun.networks import builder
from rlrun.networks.builder import NetworkConfig, encoder, initialise
from rlrun.registry import register
from rlrun.types import HeadSpec, Space

if TYPE_CHECKING:
    from rlrun.networks.cells import Gru, Lstm, RecurrentNetwork, Torso


@dataclass
class LstmConfig(NetworkConfig):
    """Multi-layer perceptron, then long short-term memory."""

    name: str = "lstm"  # registered kind of network
    # widths of the hidden layers before the memory
    hidden: list[Annotated[int, Within(1, 10**6)]] = field(default_factory=lambda: [64])
    memory_size: Annotated[int, Within(1, 10**5)] = 64  # units of the layer that remembers


@dataclass
class GruConfig(LstmConfig):
    """Multi-layer perceptron, then gated recurrent units."""

    name: str = "gru"  # registered kind of network


def footprint(gates: int) -> Callable[..., int]:
    """How many parameters a network has whose cells have so many gates."""

    def parameters(cfg: LstmConfig, obs_space: Space, *heads: HeadSpec) -> int:
        units, torsos = cfg.memory_size, 1 if cfg.shared else len(heads)
        if cfg.noisy != "none":
            return 0  # which `_build` refuses
        plain = dataclasses.replace(cfg, dueling=False)
        inwards = builder.footprint(plain, obs_space, *[HeadSpec("gates", gates * units)] * torsos)
        if networks.in_streams(cfg, heads):
            with torch.device("meta"):
                streams = [networks.build_streams(cfg, head, units, []) for head in heads]
            outwards = sum(parameter.numel() for stream in streams for parameter in stream.parameters())
        else:
            outwards = sum((units + 1) * head.size + head.log_stds for head in heads)
        return inwards + torsos * gates * units * (units + 1) + outwards

    return parameters


def memory(parts: int) -> Callable[..., int]:
    """How many numbers a network carries from step to step whose cells have so many for each unit."""
    return lambda cfg, *heads: parts * cfg.memory_size * (1 if cfg.shared else len(heads))


@register("network", LstmConfig, footprint=footprint(4), remembers=memory(2))
def build_lstm(cfg: LstmConfig, obs_space: Space, *heads: HeadSpec) -> RecurrentNetwork:
    """Multi-layer perceptron, then long short-term memory, for tasks whose observations do not tell all."""
    return _build(cfg, networks.Lstm, obs_space, heads)


@register("network", GruConfig, footprint=footprint(3), remembers=memory(1))
def build_gru(cfg: GruConfig, obs_space: Space, *heads: HeadSpec) -> RecurrentNetwork:
    """Multi-layer perceptron, then gated recurrent units: three quarters of an LSTM's weights, half its memory."""
    return _build(cfg, networks.Gru, obs_space, heads)


def _build(
    cfg: LstmConfig, cell: type[Lstm] | type[Gru], obs_space: Space, heads: tuple[HeadSpec, ...]
) -> RecurrentNetwork:
    if cfg.noisy != "none":
        raise ConfigError("network.noisy", f"{cfg.name} has no noisy layers", "write network.noisy=none")
    for key, off in (("batch_norm", "none"), ("weight_norm", False)):
        if getattr(cfg, key) != off:
            raise ConfigError(f"network.{key}", f"{cfg.name} has none", f"write network.{key}={str(off).lower()}")
    encoded, inputs = encoder(cfg, obs_space)
    in_common = cfg.shared or next(encoded.parameters(), None) is None
    width = cfg.hidden[-1] if cfg.hidden else inputs

    def torso() -> Torso:
        own = [] if in_common else [encoder(cfg, obs_space)[0]]
        layers = networks.mlp(inputs, cfg.hidden, cfg.activation, cfg.layer_norm)
        return networks.Torso(torch.nn.Sequential(*own, *layers), cell(width, cfg.memory_size))

    torsos = [torso() for _ in range(1 if cfg.shared else len(heads))]
    if networks.in_streams(cfg, heads):
        outputs = [networks.build_streams(cfg, head, cfg.memory_size, []) for head in heads]
    else:
        outputs = [networks.build_head(head, cfg.memory_size) for head in heads]
    network = networks.RecurrentNetwork(torch.nn.Sequential(*([encoded] if in_common else [])), torsos, outputs)
    initialise(cfg, network, heads, [networks.outputs(head) for head in outputs])
    if cfg.init != "default":
        for made in torsos:
            for name, parameter in made.cell.named_parameters():
                torch.nn.init.orthogonal_(parameter) if "weight" in name else torch.nn.init.zeros_(parameter)
    return network
