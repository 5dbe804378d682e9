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
    """Pictures uint8 [B, *picture] -> float [B, C, H, W].

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
        return (obs.float() - self.low) * self.factor


def is_picture(space: Space) -> bool:
    """Whether observations are pictures: uint8 [H, W], [H, W, C] or [C, H, W], or a stack of these."""
    dimensions = len(space.shape) - bool(space.stack)
    return space.kind == "box" and space.dtype == np.uint8 and dimensions in (2, 3)


def convolutional(space: Space, features: int, scale: bool = True) -> nn.Sequential:
    """Convolutions with ReLU and one fully connected layer: pictures of `space` -> [B, features].

    Args:
        scale: bring the pictures from their bounds to [0, 1].
    """
    shape = space.shape[1:] if space.stack else space.shape
    last = len(shape) == 3 and shape[2] <= shape[0]  # whichever is less is the number of channels
    channels, height, width = (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2]) if last else shape
    channels *= space.stack or 1
    bounds = np.asarray([space.low, space.high]) if scale else np.array([0, 1])
    layers: list[nn.Module] = [Picture(float(bounds.min()), float(bounds.max()), space.stack, last)]
    if min(height, width) >= NATURE_SIDE:
        for filters, side, stride in NATURE:
            layers += [nn.Conv2d(channels, filters, side, stride), nn.ReLU()]
            channels, height, width = filters, (height - side) // stride + 1, (width - side) // stride + 1
    else:
        layers += [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()]
        channels = 16
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(math.prod((channels, height, width)), features), nn.ReLU())
