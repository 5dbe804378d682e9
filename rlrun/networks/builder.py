"""From a network config, an observation space and the heads an algorithm asks for to a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch

from rlrun import custom, networks
from rlrun.checks import Above0, Bounded, Natural, OneOf, Within, only_with
from rlrun.errors import ConfigError
from rlrun.registry import register
from rlrun.types import MASK, HeadSpec, Space

if TYPE_CHECKING:
    from rlrun.networks import Critics, Network

NetworkBuilder = Callable[..., "Network"]  # (obs_space, *heads) -> Network
ACTIVATIONS = ("relu", "tanh", "elu", "silu", "gelu")
CONVOLUTIONS = ("nips", "nature", "impala")  # of conv.py


@dataclass
class NetworkConfig(Bounded):
    """Multi-layer perceptron."""

    name: str = "mlp"  # registered kind of network
    # widths of the hidden layers
    hidden: list[Annotated[int, Within(1, 10**6)]] = field(default_factory=lambda: [64, 64])
    activation: Annotated[str, OneOf(*ACTIVATIONS)] = "relu"  # relu | tanh | elu | silu | gelu
    layer_norm: bool = False  # LayerNorm before each activation
    # none | before | after: batch normalisation of the inputs, and before or after each activation
    batch_norm: Annotated[str, OneOf("none", "before", "after")] = "none"
    # batch_norm: batches after which it goes by the running statistics ("batch renormalisation"); null: never
    renorm_after: Natural | None = None
    weight_norm: bool = False  # the weights of every unit have length 1, and are brought back to it after each update
    normalize_obs: bool = False  # observations of floats less their running mean, over their running deviation
    shared: bool = False  # one torso for all heads; otherwise each head has its own
    # what reads observations in place of ours: my.module.Torso or {_target_: …, arg: 1}; the hidden layers come behind
    torso: Any = None
    # of a Dict observation: numbers that each of its fields becomes, before they are joined
    features: Annotated[int, Within(1, 10**6)] = 64
    scale: bool = True  # bring observations of uint8, such as pictures, from their bounds to [0, 1]
    # default (torch's) | orthogonal (gain sqrt 2, policy head 0.01, other heads 1; zero biases) | he (normal)
    init: Annotated[str, OneOf("default", "orthogonal", "he")] = "default"
    # standard deviation of a policy head's initial weights, normal with zero biases; null for what `init` says
    policy_init_std: Annotated[float, Above0(100)] | None = None
    # nips | nature | impala: convolutions that read pictures; flat: they are rows of numbers; none: large ones are
    # refused
    conv: Annotated[str, OneOf("none", "flat", *CONVOLUTIONS)] = "none"
    conv_width: Annotated[int, Within(1, 64)] = 1  # impala: factor on the channels of its convolutions
    spectral_norm: bool = False  # impala: divide the weights of its residual blocks by their largest singular value
    max_pool: Annotated[int, Within(0, 100)] = 0  # impala: side of the square that its output is pooled to; 0 leaves it
    # split action values into a state's value and advantages of actions, each with a last hidden layer of its own
    dueling: bool = False
    # none | factorised | independent: explore by noise on the last two layers' weights, of action values or of the
    # policy of an actor-learner
    noisy: Annotated[str, OneOf("none", "factorised", "independent")] = "none"
    # noisy=factorised: how much noise there is at the start, times the root of a layer's inputs
    sigma0: Annotated[float, Within(0, 1000)] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("conv_width", "spectral_norm", "max_pool"):
            only_with(self, key, "conv", "impala")
        if self.batch_norm != "none" and self.layer_norm:
            raise ConfigError("batch_norm", "cannot stand beside layer_norm=true", "write layer_norm=false")
        only_with(self, "renorm_after", "batch_norm", "before", "after")
        only_with(self, "sigma0", "noisy", "factorised")
        if len(self.hidden) > 1000:
            raise ConfigError("hidden", f"at most 1000 layers, got {len(self.hidden)}")
        if self.torso is not None:
            custom.entry("torso", self.torso)
            if self.convolves:
                problem = f"conv={self.conv} and a torso both read the observations"
                raise ConfigError("torso", problem, "write network=mlp, or leave the torso out")

    @property
    def residual(self) -> bool:
        """Whether hidden layers are residual blocks (see residual.py)."""
        return False

    @property
    def convolves(self) -> bool:
        """Whether there are convolutions before the hidden layers."""
        return self.conv in CONVOLUTIONS


@dataclass
class CnnConfig(NetworkConfig):
    """Convolutions, then a multi-layer perceptron."""

    name: str = "cnn"  # registered kind of network
    # widths of the hidden layers after the convolutions
    hidden: list[Annotated[int, Within(1, 10**6)]] = field(default_factory=lambda: [512])
    shared: bool = True  # one torso for all heads; otherwise each head has its own
    # nips | nature | impala: convolutions that read a picture before the hidden layers (see networks/conv.py)
    conv: Annotated[str, OneOf(*CONVOLUTIONS)] = "nature"


def footprint(cfg: NetworkConfig, obs_space: Space, *heads: HeadSpec) -> int:
    """How many parameters a network has."""
    if (heads and heads[0].critics) or cfg.residual or cfg.batch_norm != "none":
        with torch.device("meta"):
            network = build_mlp(replace(cfg, init="default"), obs_space, *heads)
        return sum(parameter.numel() for parameter in network.parameters())
    seen = obs_space.unmasked
    inputs, encoding = seen.n or sum(seen.nvec) or seen.size, 0
    if seen.fields or cfg.convolves or cfg.torso is not None:
        with torch.device("meta"):
            module, inputs = encoder(cfg, obs_space)
        encoding = sum(parameter.numel() for parameter in module.parameters())
    widths = [inputs, *cfg.hidden]
    layers = sum((below + 1) * width for below, width in zip(widths, cfg.hidden, strict=False))
    norms = 2 * sum(cfg.hidden) if cfg.layer_norm else 0
    copies = 1 if cfg.shared else len(heads)
    torsos = copies * (encoding + layers + norms)
    if not networks.in_streams(cfg, heads):
        return torsos + sum((widths[-1] + 1) * head.size + head.log_stds for head in heads)
    below, last = (widths[-2], widths[-1]) if cfg.hidden else (inputs, 0)
    with torch.device("meta"):
        streams = torch.nn.ModuleList(networks.build_streams(cfg, head, below, cfg.hidden[-1:]) for head in heads)
    torsos -= copies * ((below + 1) * last + 2 * last * cfg.layer_norm)  # the streams have it
    return torsos + sum(parameter.numel() for parameter in streams.parameters())


@register("network", NetworkConfig, smoke={"hidden": [16, 16]}, footprint=footprint)
def build_mlp(cfg: NetworkConfig, obs_space: Space, *heads: HeadSpec) -> Network | Critics:
    """Multi-layer perceptron on flattened or one-hot observations; of a Dict, on its fields, each encoded by itself."""
    if heads and heads[0].critics:
        return networks.build_critics(cfg, obs_space, *heads)
    encoded, inputs = encoder(cfg, obs_space)
    in_common = cfg.shared or next(encoded.parameters(), None) is None
    streams = networks.in_streams(cfg, heads)
    hidden = cfg.hidden[:-1] if streams else cfg.hidden
    width = hidden[-1] if hidden else inputs

    def torso() -> torch.nn.Sequential:
        return hidden_layers(cfg, inputs, hidden)

    def output(head: HeadSpec) -> torch.nn.Module:
        if streams:
            return networks.build_streams(cfg, head, width, cfg.hidden[-1:])
        return networks.build_head(head, width)

    def own() -> list[torch.nn.Module]:
        """What a head does not share with the others."""
        return [*([] if in_common else [encoder(cfg, obs_space)[0]]), *([] if cfg.shared else torso())]

    trunk = torch.nn.Sequential(*([encoded] if in_common else []), *(torso() if cfg.shared else []))
    branches = [torch.nn.Sequential(*own(), output(head)) for head in heads]
    network = networks.Network(trunk, branches)
    initialise(cfg, network, heads, [networks.outputs(branch[-1]) for branch in branches])
    if cfg.weight_norm:
        networks.unit_rows(network)
    return network


@register("network", CnnConfig, smoke={"hidden": [16]}, footprint=footprint)
def build_cnn(cfg: CnnConfig, obs_space: Space, *heads: HeadSpec) -> Network | Critics:
    """Convolutions, then a multi-layer perceptron, for pictures; of a Dict, every field is encoded by itself."""
    return build_mlp(cfg, obs_space, *heads)


def hidden_layers(cfg: NetworkConfig, inputs: int, widths: Sequence[int], dropout: float = 0.0) -> torch.nn.Sequential:
    """[B, inputs] -> [B, widths[-1]], with dropout of as large a share.

    Raises:
        ConfigError: they are residual blocks, and not all of one width, or units are to be dropped.
    """
    if not cfg.residual:
        norms: Any = {"batch_norm": cfg.batch_norm, "renorm_after": cfg.renorm_after}
        return networks.mlp(inputs, widths, cfg.activation, cfg.layer_norm, **norms, dropout=dropout)
    if len(set(widths)) != 1:
        hint = "write algo.critics.hidden=[256,256]"
        raise ConfigError("algo.critics.hidden", f"blocks are of one width, got {list(widths)}", hint)
    if dropout:
        hint = "write algo.critics.dropout=0"
        raise ConfigError("algo.critics.dropout", f"{cfg.name} has no units that are dropped", hint)
    return networks.residuals(inputs, widths[0], len(widths), cfg.activation)


def encoder(cfg: NetworkConfig, obs_space: Space) -> tuple[torch.nn.Module, int]:
    """What turns observations into features [B, width], and the width. It has parameters if it convolves or joins.

    Every field of a Dict becomes `cfg.features` numbers: a picture through convolutions, any other through one layer.
    A torso of the user's makes of them what it likes. The mask of the actions is no part of it.

    Raises:
        ConfigError: there are pictures and nothing to read them with, or the other way round; or the torso is none.
    """
    seen = obs_space.unmasked
    name = next(iter(obs_space.fields.keys() - {MASK}), None) if not seen.fields else None  # the only one beside a mask
    if cfg.torso is None:
        require_fit(cfg, seen)
    elif cfg.normalize_obs:
        hint = "write network.normalize_obs=false"
        raise ConfigError("network.normalize_obs", "a torso of yours is shown observations as they are", hint)
    module: torch.nn.Module
    if cfg.torso is not None:
        module, width = networks.own_torso(cfg.torso, seen)
    elif not seen.fields:
        module, width = networks.convolutional(cfg, seen) if cfg.convolves else _flat(cfg, seen, name)
    else:
        fields = {name: _of_field(cfg, space, name) for name, space in seen.fields.items()}
        module, width = networks.Joined(fields), cfg.features * len(fields)
    return module if name is None else torch.nn.Sequential(networks.Field(name), module), width


def require_fit(cfg: NetworkConfig, seen: Space) -> None:
    """A network that convolves has something to convolve, and one that does not is shown no large picture."""
    parts = list(seen.fields.values())
    if cfg.convolves and not (networks.can_be_read(seen) or any(map(networks.is_picture, parts))):
        what = f"{seen.kind} of shape {seen.shape}" if seen.shape else seen.kind
        problem = f"{cfg.name} with conv={cfg.conv} reads pictures, and the observations are none ({what})"
        hint = "write network=mlp" if type(cfg)().convolves else "write network.conv=none"
        raise ConfigError("network", problem, hint)
    if cfg.conv == "none" and networks.is_picture(seen) and sorted(seen.shape)[-2] >= networks.NATURE_SIDE:
        problem = f"{cfg.name} cannot read pictures, and the observations are some (uint8 {seen.shape})"
        hint = "write network=cnn_nature, cnn_impala or cnn_nips; with any other network.conv=nature, or flat"
        raise ConfigError("network", problem, hint)


def _of_field(cfg: NetworkConfig, space: Space, name: str) -> torch.nn.Module:
    """[B, *field] -> [B, cfg.features]."""
    if networks.is_picture(space):
        convolutions, width = networks.convolutional(cfg, space)
        return torch.nn.Sequential(*convolutions, torch.nn.Linear(width, cfg.features), torch.nn.ReLU())
    module, width = _flat(cfg, space, name)
    return torch.nn.Sequential(module, *networks.mlp(width, [cfg.features], cfg.activation, cfg.layer_norm))


def _flat(cfg: NetworkConfig, space: Space, name: str | None) -> tuple[torch.nn.Module, int]:
    """Observations of one kind, or the field of a name, as float [B, width], without parameters."""
    if space.n:
        return networks.OneHot(space.n), space.n
    if space.nvec:
        return networks.OneHots(space.nvec), sum(space.nvec)
    if cfg.scale and space.dtype == np.uint8 and space.low is not None and space.high is not None:
        return networks.Scaled(space.low, space.high), space.size
    if cfg.normalize_obs and space.dtype.kind == "f":
        return torch.nn.Sequential(networks.Flat(), networks.RunningNorm(space.size, name)), space.size
    return networks.Flat(), space.size


def initialise(
    cfg: NetworkConfig, network: torch.nn.Module, heads: Sequence[HeadSpec], modules: Sequence[torch.nn.Module]
) -> None:
    """Initial weights other than torch's own; biases become 0. Those of the user's own torso stay.

    orthogonal: sqrt(2) in the torso, a near-uniform policy, unit value heads (Andrychowicz et al. 2021).
    he: normal with variance 2 / (inputs of a unit) (He et al. 2015, arXiv:1502.01852).

    Args:
        heads, modules: what the outputs are, and the modules that give them.
    """
    if cfg.init != "default":
        own = {part for torso in network.modules() if isinstance(torso, networks.Own) for part in torso.modules()}
        for module in network.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and module not in own:
                if cfg.init == "he":
                    torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    torch.nn.init.orthogonal_(module.weight, math.sqrt(2))
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
    for head, last in zip(heads, modules, strict=True):
        is_policy = head.kind == "policy"
        for module in last.modules():
            if not isinstance(module, torch.nn.Linear):
                continue
            if is_policy and cfg.policy_init_std is not None:
                torch.nn.init.normal_(module.weight, std=cfg.policy_init_std)
                torch.nn.init.zeros_(module.bias)
            elif cfg.init == "orthogonal":
                torch.nn.init.orthogonal_(module.weight, 0.01 if is_policy else 1.0)
