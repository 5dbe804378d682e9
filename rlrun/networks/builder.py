"""From a network config, an observation space and the heads an algorithm asks for to a module."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from rlrun.checks import one_of, positive
from rlrun.networks.heads import build_head
from rlrun.networks.layers import Flat, OneHot
from rlrun.networks.torsos import ACTIVATIONS, mlp
from rlrun.registry import register
from rlrun.types import HeadSpec, Space

NetworkBuilder = Callable[..., "Network"]  # (obs_space, *heads) -> Network


class Network(nn.Module):
    """A trunk that all heads share and one branch per head.

    `forward(obs [B, *obs])` gives the head's output, or a tuple with one output per head.
    """

    def __init__(self, trunk: nn.Sequential, branches: list[nn.Sequential]):
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)

    def forward(self, obs: Tensor) -> Any:
        features = self.trunk(obs)
        outputs = tuple(branch(features) for branch in self.branches)
        return outputs if len(outputs) > 1 else outputs[0]


@dataclass
class NetworkConfig:
    """Multi-layer perceptron."""

    name: str = "mlp"  # registered kind of network
    hidden: list[int] = field(default_factory=lambda: [64, 64])  # widths of the hidden layers
    activation: str = "relu"  # relu | tanh | elu | silu | gelu
    layer_norm: bool = False  # LayerNorm before each activation
    shared: bool = False  # one torso for all heads; otherwise each head has its own
    init: str = "default"  # default (torch's) | orthogonal (gain sqrt 2, policy head 0.01, other heads 1; zero biases)

    def __post_init__(self) -> None:
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("init", self.init, ("default", "orthogonal"))
        for width in self.hidden:
            positive("hidden", width)


@register("network", "mlp", config=NetworkConfig)
def build_mlp(cfg: NetworkConfig, obs_space: Space, *heads: HeadSpec) -> Network:
    """Multi-layer perceptron on flattened or one-hot observations."""
    encoder: nn.Module = OneHot(obs_space.n) if obs_space.n else Flat()
    inputs = obs_space.n or int(np.prod(obs_space.shape))
    width = cfg.hidden[-1] if cfg.hidden else inputs

    def torso() -> nn.Sequential:
        return mlp(inputs, cfg.hidden, cfg.activation, cfg.layer_norm)

    trunk = nn.Sequential(encoder, *(torso() if cfg.shared else []))
    branches = [nn.Sequential(*([] if cfg.shared else torso()), build_head(head, width)) for head in heads]
    network = Network(trunk, branches)
    if cfg.init == "orthogonal":
        _orthogonal(network, heads)
    return network


def _orthogonal(network: Network, heads: tuple[HeadSpec, ...]) -> None:
    """Orthogonal weights: sqrt(2) in the torso, a near-uniform policy, unit value heads (Andrychowicz et al. 2021)."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, math.sqrt(2))
            nn.init.zeros_(module.bias)
    for head, branch in zip(heads, network.branches, strict=True):
        gain = 0.01 if head.kind in ("policy", "gaussian") else 1.0
        for module in branch[-1].modules():  # type: ignore[index]
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, gain)
