"""From a network config, an observation space and the heads an algorithm asks for to a module."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from rlrun import networks
from rlrun.checks import one_of, within
from rlrun.errors import ConfigError
from rlrun.registry import register
from rlrun.types import HeadSpec, Space

if TYPE_CHECKING:
    from rlrun.networks import Network

NetworkBuilder = Callable[..., "Network"]  # (obs_space, *heads) -> Network
ACTIVATIONS = ("relu", "tanh", "elu", "silu", "gelu")


@dataclass
class NetworkConfig:
    """Multi-layer perceptron."""

    name: str = "mlp"  # registered kind of network
    hidden: list[int] = field(default_factory=lambda: [64, 64])  # widths of the hidden layers
    activation: str = "relu"  # relu | tanh | elu | silu | gelu
    layer_norm: bool = False  # LayerNorm before each activation
    shared: bool = False  # one torso for all heads; otherwise each head has its own
    scale: bool = True  # bring observations of uint8, such as pictures, from their bounds to [0, 1]
    init: str = "default"  # default (torch's) | orthogonal (gain sqrt 2, policy head 0.01, other heads 1; zero biases)

    def __post_init__(self) -> None:
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("init", self.init, ("default", "orthogonal"))
        for width in self.hidden:
            within("hidden", width, 1, 10**6)
        if len(self.hidden) > 1000:
            raise ConfigError("hidden", f"at most 1000 layers, got {len(self.hidden)}")


def footprint(cfg: NetworkConfig, obs_space: Space, *heads: HeadSpec) -> int:
    """How many parameters a network has."""
    inputs = obs_space.n or math.prod(obs_space.shape)
    widths = [inputs, *cfg.hidden]
    layers = sum((below + 1) * width for below, width in zip(widths, cfg.hidden, strict=False))
    norms = 2 * sum(cfg.hidden) if cfg.layer_norm else 0
    return (layers + norms) * (1 if cfg.shared else len(heads)) + sum((widths[-1] + 1) * head.size for head in heads)


@register("network", "mlp", config=NetworkConfig, footprint=footprint)
def build_mlp(cfg: NetworkConfig, obs_space: Space, *heads: HeadSpec) -> Network:
    """Multi-layer perceptron on flattened or one-hot observations."""
    encoder: torch.nn.Module = networks.OneHot(obs_space.n) if obs_space.n else networks.Flat()
    if cfg.scale and obs_space.dtype == np.uint8 and obs_space.low is not None and obs_space.high is not None:
        encoder = networks.Scaled(obs_space.low, obs_space.high)
    inputs = obs_space.n or int(np.prod(obs_space.shape))
    width = cfg.hidden[-1] if cfg.hidden else inputs

    def torso() -> torch.nn.Sequential:
        return networks.mlp(inputs, cfg.hidden, cfg.activation, cfg.layer_norm)

    trunk = torch.nn.Sequential(encoder, *(torso() if cfg.shared else []))
    branches = [
        torch.nn.Sequential(*([] if cfg.shared else torso()), networks.build_head(head, width)) for head in heads
    ]
    network = networks.Network(trunk, branches)
    if cfg.init == "orthogonal":
        _orthogonal(network, heads)
    return network


def _orthogonal(network: Network, heads: tuple[HeadSpec, ...]) -> None:
    """Orthogonal weights: sqrt(2) in the torso, a near-uniform policy, unit value heads (Andrychowicz et al. 2021)."""
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.orthogonal_(module.weight, math.sqrt(2))
            torch.nn.init.zeros_(module.bias)
    for head, branch in zip(heads, network.branches, strict=True):
        gain = 0.01 if head.kind in ("policy", "gaussian") else 1.0
        for module in branch[-1].modules():  # type: ignore[index]
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.orthogonal_(module.weight, gain)
