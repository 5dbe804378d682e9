"""Convolutional encoders: pictures -> features.

Two, by the size of the picture: the network of Mnih et al. 2015 (Nature 518:529) for those it was made for, and one
layer of 3 x 3 (Young & Tian 2019, "MinAtar", arXiv:1903.03176) for small ones.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from rlrun.types import Space

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # filters, side and stride of every layer
NATURE_SIDE = 36  # the smallest side of a picture that leaves its last layer something


class Picture(nn.Module):
    """Pictures uint8 [B, H, W], [B, H, W, C] or [B, C, H, W] -> float [B, C, H, W].

    Args:
        low, high: elements of these values become 0 and 1.
        last: the channels come last.
    """

    def __init__(self, low: float, high: float, last: bool):
        super().__init__()
        self.low, self.factor, self.last = low, 1 / max(high - low, 1), last

    def forward(self, obs: Tensor) -> Tensor:
        obs = obs.unsqueeze(1) if obs.ndim == 3 else obs.movedim(-1, 1) if self.last else obs
        return (obs.float() - self.low) * self.factor


def is_picture(space: Space) -> bool:
    """Whether observations are pictures: uint8 with two dimensions, or with three, one of which are channels."""
    if space.kind != "box" or space.dtype != np.uint8:
        return False
    return len(space.shape) == 3 or (len(space.shape) == 2 and not space.stack)


def convolutional(space: Space, features: int, scale: bool = True) -> nn.Sequential:
    """Convolutions with ReLU and one fully connected layer: pictures of `space` -> [B, features].

    Args:
        scale: bring the pictures from their bounds to [0, 1].
    """
    last = len(space.shape) == 3 and not space.stack and space.shape[2] <= space.shape[0]
    channels, height, width = (1, *space.shape) if len(space.shape) == 2 else space.shape
    if last:
        height, width, channels = space.shape
    bounds = np.asarray([space.low, space.high]) if scale else np.array([0, 1])
    layers: list[nn.Module] = [Picture(float(bounds.min()), float(bounds.max()), last)]
    if min(height, width) >= NATURE_SIDE:
        for filters, side, stride in NATURE:
            layers += [nn.Conv2d(channels, filters, side, stride), nn.ReLU()]
            channels, height, width = filters, (height - side) // stride + 1, (width - side) // stride + 1
    else:
        layers += [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()]
        channels = 16
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(math.prod((channels, height, width)), features), nn.ReLU())
