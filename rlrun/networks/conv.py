"""Convolutional encoders: pictures -> features, by the name of `network.conv`.

    nips    16 filters of 8 x 8, 32 of 4 x 4                    Mnih et al. 2013, arXiv:1312.5602
    nature  32 of 8 x 8, 64 of 4 x 4, 64 of 3 x 3               Mnih et al. 2015, Nature 518:529
    impala  three sections of residual blocks, 16, 32, 32 deep  Espeholt et al. 2018, arXiv:1802.01561, figure 3

and a layer of 16 filters of 3 x 3 for pictures too small for these (Young & Tian 2019, "MinAtar", arXiv:1903.03176).
Every convolution is followed, in a residual block preceded, by a ReLU. With `network.layer_norm` the numbers of each
picture are normalised together before every one of these, with a factor and an offset for each channel.

Letters: B pictures, H and W their height and width, C channels, those of all frames of a stack side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.errors import ConfigError
from rlrun.types import Space

PLAIN = {  # filters, side and stride of every layer
    "nips": ((16, 8, 4), (32, 4, 2)),
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
}
SECTIONS = (16, 32, 32)  # channels of impala's, times its width
NATURE_SIDE = 36  # the smallest side of a picture that leaves nature's last layer something
SQUARINGS = 5  # of a matrix whose largest singular value is wanted: 2^5 steps of the power method


class Picture(nn.Module):
    """Pictures [B, *picture] -> float [B, C, H, W].

    On a CPU the channels come to lie innermost, where convolutions are a quarter faster.

    Args:
        low, high: elements of these values become 0 and 1.
        frames: how many pictures stand in a stack, [B, frames, *picture]; 0 if they are not stacked.
        last: the channels come last.
    """

    def __init__(self, low: float, high: float, frames: int, last: bool):
        super().__init__()
        self.low, self.factor, self.frames, self.last = low, 1 / max(high - low, 1), frames, last

    def forward(self, obs: Tensor) -> Tensor:
        if not self.frames:
            obs = obs.unsqueeze(1)
        if self.last:
            obs = obs.movedim(-1, 2)
        if obs.ndim == 5:  # every frame's channels side by side
            obs = obs.flatten(1, 2)
        if not obs.is_cuda:  # bytes are moved while they are bytes
            obs = obs.contiguous(memory_format=torch.channels_last)
        picture = obs.float()
        if self.low:
            picture = picture - self.low
        return picture if self.factor == 1 else picture * self.factor


class SpectralConv(nn.Conv2d):
    """A convolution whose weights [out, in * side^2], as a matrix, are divided by their largest singular value.

    Miyato et al. 2018, arXiv:1802.05957. Differs from the paper: that value is found anew in every pass, by squaring
    W W' until only its first eigenvector u is left, not by one step from a vector that is remembered; so there is no
    state, and the same weights always give the same outputs. As there, u and v are constants to the gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / largest_singular_value(self.weight.flatten(1)), self.bias)


def largest_singular_value(matrix: Tensor) -> Tensor:
    """sigma = |W' u| of a matrix W [n, m], u its first left singular vector, through which no gradient flows."""
    with torch.no_grad():
        power = matrix @ matrix.T
        for _ in range(SQUARINGS):
            power = power / power.trace().clamp(min=1e-30)
            power = power @ power
        u = power.index_select(1, power.diagonal().argmax().unsqueeze(0)).squeeze(1)
        u = u / u.norm().clamp(min=1e-30)
    return (u @ matrix).norm().clamp(min=1e-12)


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), both 3 x 3: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int, conv: Callable[..., nn.Conv2d], normal: bool = False):
        super().__init__()
        norms = [nn.GroupNorm(1, channels) if normal else nn.Identity() for _ in range(2)]
        convs = [conv(channels, channels, 3, padding=1) for _ in range(2)]
        self.layers = nn.Sequential(norms[0], nn.ReLU(), convs[0], norms[1], nn.ReLU(), convs[1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def channels_innermost(network: nn.Module) -> None:
    """Lay the weights of convolutions as pictures lie on a CPU (see Picture): else every pass turns them round anew."""
    for part in network.modules():
        if isinstance(part, nn.Sequential) and any(isinstance(layer, Picture) for layer in part):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def is_picture(space: Space) -> bool:
    """Whether observations are pictures: uint8 [H, W], [H, W, C] or [C, H, W], or a stack of these."""
    return can_be_read(space) and space.dtype == np.uint8


def can_be_read(space: Space) -> bool:
    """Whether observations have the axes of pictures, whatever their elements are."""
    return space.kind == "box" and len(space.shape) - bool(space.stack) in (2, 3)


def convolutional(cfg: Any, space: Space) -> tuple[nn.Sequential, int]:
    """Convolutions from pictures of `space` to features [B, width], flattened, and the width.

    Args:
        cfg: a `NetworkConfig`.

    Raises:
        ConfigError: the pictures are too small for the kind.
    """
    shape = space.shape[1:] if space.stack else space.shape
    last = len(shape) == 3 and shape[2] <= shape[0]  # whichever is less is the number of channels
    channels, height, width = (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2]) if last else shape
    channels *= space.stack or 1
    scaled = cfg.scale and space.dtype == np.uint8
    bounds = np.asarray([space.low, space.high]) if scaled else np.array([0, 1])
    picture = Picture(float(bounds.min()), float(bounds.max()), space.stack, last)
    kind = cfg.conv if cfg.convolves else "nature" if min(height, width) >= NATURE_SIDE else "small"
    if kind == "impala":
        layers, *size = _impala(cfg, channels, height, width)
    else:
        plain = PLAIN.get(kind, ((16, 3, 1),))
        normal = cfg.layer_norm and cfg.conv != "none"
        layers, *size = _plain(plain, channels, height, width, int(kind == "small"), normal)
    if min(size) < 1:
        problem = f"{kind} leaves nothing of pictures of {height} x {width}"
        raise ConfigError("network.conv", problem, "impala reads pictures of any size")
    return nn.Sequential(picture, *layers, nn.Flatten()), math.prod(size)


def _plain(
    plain: Any, channels: int, height: int, width: int, padding: int, normal: bool
) -> tuple[list[nn.Module], int, int, int]:
    layers: list[nn.Module] = []
    for filters, side, stride in plain:
        norm = [nn.GroupNorm(1, filters)] if normal else []
        layers += [nn.Conv2d(channels, filters, side, stride, padding), *norm, nn.ReLU()]
        channels = filters
        height, width = ((length + 2 * padding - side) // stride + 1 for length in (height, width))
    return layers, channels, height, width


def _impala(cfg: Any, channels: int, height: int, width: int) -> tuple[list[nn.Module], int, int, int]:
    """Each section a convolution, a max-pool that halves the picture, and two residual blocks.

    Spectral normalisation is of the blocks' convolutions (Schmidt & Schmied 2021, arXiv:2111.10247), and the last
    section's output may be pooled to a square (Clark et al. 2024, "Beyond the Rainbow", arXiv:2411.03820).
    """
    conv = SpectralConv if cfg.spectral_norm else nn.Conv2d
    layers: list[nn.Module] = []
    for depth in (cfg.conv_width * depth for depth in SECTIONS):
        layers += [nn.Conv2d(channels, depth, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
        layers += [Residual(depth, conv, cfg.layer_norm), Residual(depth, conv, cfg.layer_norm)]
        channels, height, width = depth, (height + 1) // 2, (width + 1) // 2
    layers.append(nn.ReLU())
    if cfg.max_pool:
        layers.append(nn.AdaptiveMaxPool2d(cfg.max_pool))
        height = width = cfg.max_pool
    return layers, channels, height, width
