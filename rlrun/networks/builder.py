"""From a network config, an observation space and the heads an algorithm asks for to a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch

from rlrun import networks
from rlrun.checks import Bounded, OneOf, Within
from rlrun.errors import ConfigError
from rlrun.registry import register
from rlrun.types import MASK, HeadSpec, Space

if TYPE_CHECKING:
    from rlrun.networks import Network

NetworkBuilder = Callable[..., "Network"]  # (obs_space, *heads) -> Network
ACTIVATIONS = ("relu", "tanh", "elu", "silu", "gelu")


@dataclass
class NetworkConfig(Bounded):
    """Multi-layer perceptron."""

    name: str = "mlp"  # registered kind of network
    # widths of the hidden layers
    hidden: list[Annotated[int, Within(1, 10**6)]] = field(default_factory=lambda: [64, 64])
    activation: Annotated[str, OneOf(*ACTIVATIONS)] = "relu"  # relu | tanh | elu | silu | gelu
    layer_norm: bool = False  # LayerNorm before each activation
    shared: bool = False  # one torso for all heads; otherwise each head has its own
    # of a Dict observation: numbers that each of its fields becomes, before they are joined
    features: Annotated[int, Within(1, 10**6)] = 64
    scale: bool = True  # bring observations of uint8, such as pictures, from their bounds to [0, 1]
    # default (torch's) | orthogonal (gain sqrt 2, policy head 0.01, other heads 1; zero biases)
    init: Annotated[str, OneOf("default", "orthogonal")] = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.hidden) > 1000:
            raise ConfigError("hidden", f"at most 1000 layers, got {len(self.hidden)}")


def footprint(cfg: NetworkConfig, obs_space: Space, *heads: HeadSpec) -> int:
    """How many parameters a network has."""
    seen = obs_space.unmasked
    inputs, encoding = seen.n or sum(seen.nvec) or seen.size, 0
    if seen.fields:
        with torch.device("meta"):
            module, inputs = encoder(cfg, obs_space)
        encoding = sum(parameter.numel() for parameter in module.parameters())
    widths = [inputs, *cfg.hidden]
    layers = sum((below + 1) * width for below, width in zip(widths, cfg.hidden, strict=False))
    norms = 2 * sum(cfg.hidden) if cfg.layer_norm else 0
    torsos = (encoding + layers + norms) * (1 if cfg.shared else len(heads))
    return torsos + sum((widths[-1] + 1) * head.size + head.log_stds for head in heads)


@register("network", NetworkConfig, smoke={"hidden": [16, 16]}, footprint=footprint)
def build_mlp(cfg: NetworkConfig, obs_space: Space, *heads: HeadSpec) -> Network:
    """Multi-layer perceptron on flattened or one-hot observations; of a Dict, on its fields, each encoded by itself."""
    encoded, inputs = encoder(cfg, obs_space)
    in_common = cfg.shared or next(encoded.parameters(), None) is None
    width = cfg.hidden[-1] if cfg.hidden else inputs

    def torso() -> torch.nn.Sequential:
        return networks.mlp(inputs, cfg.hidden, cfg.activation, cfg.layer_norm)

    def own() -> list[torch.nn.Module]:
        """What a head does not share with the others."""
        return [*([] if in_common else [encoder(cfg, obs_space)[0]]), *([] if cfg.shared else torso())]

    trunk = torch.nn.Sequential(*([encoded] if in_common else []), *(torso() if cfg.shared else []))
    branches = [torch.nn.Sequential(*own(), networks.build_head(head, width)) for head in heads]
    network = networks.Network(trunk, branches)
    if cfg.init == "orthogonal":
        orthogonal(network, heads, [branch[-1] for branch in branches])
    return network


def encoder(cfg: NetworkConfig, obs_space: Space) -> tuple[torch.nn.Module, int]:
    """What turns observations into features [B, width], and the width. It has parameters only if they are a Dict's.

    Every field of a Dict becomes `cfg.features` numbers: a picture through convolutions, any other through one layer.
    The mask of the actions is no part of it.
    """
    seen = obs_space.unmasked
    if not seen.fields:
        module, width = _flat(cfg, seen)
        if obs_space.masked:
            (name,) = obs_space.fields.keys() - {MASK}
            module = torch.nn.Sequential(networks.Field(name), module)
        return module, width
    fields = {name: _of_field(cfg, space) for name, space in seen.fields.items()}
    return networks.Joined(fields), cfg.features * len(fields)


def _of_field(cfg: NetworkConfig, space: Space) -> torch.nn.Module:
    """[B, *field] -> [B, cfg.features]."""
    if networks.is_picture(space):
        return networks.convolutional(space, cfg.features, cfg.scale)
    module, width = _flat(cfg, space)
    return torch.nn.Sequential(module, *networks.mlp(width, [cfg.features], cfg.activation, cfg.layer_norm))


def _flat(cfg: NetworkConfig, space: Space) -> tuple[torch.nn.Module, int]:
    """Observations of one kind as float [B, width], without parameters."""
    if space.n:
        return networks.OneHot(space.n), space.n
    if space.nvec:
        return networks.OneHots(space.nvec), sum(space.nvec)
    if cfg.scale and space.dtype == np.uint8 and space.low is not None and space.high is not None:
        return networks.Scaled(space.low, space.high), space.size
    return networks.Flat(), space.size


def orthogonal(network: torch.nn.Module, heads: Sequence[HeadSpec], modules: Sequence[torch.nn.Module]) -> None:
    """Orthogonal weights: sqrt(2) in the torso, a near-uniform policy, unit value heads (Andrychowicz et al. 2021).

    Args:
        heads, modules: what the outputs are, and the modules that give them.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.orthogonal_(module.weight, math.sqrt(2))
            torch.nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    for head, last in zip(heads, modules, strict=True):
        gain = 0.01 if head.kind == "policy" else 1.0
        for module in last.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.orthogonal_(module.weight, gain)
