"""Dropout with its random numbers as an input, so that whoever calls decides when it is on and from which stream.

Srivastava et al. 2014 (JMLR 15:1929): a hidden unit is 0 with probability `rate`, otherwise scaled by 1 / (1 - rate).
Left on while acting, dropout draws from an approximate posterior over networks (Gal & Ghahramani 2016,
arXiv:1506.02142).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.networks.inference import Inference
from rlrun.networks.torsos import ACTIVATIONS
from rlrun.types import Array

HIDDEN = tuple(ACTIVATIONS.values())


class Dropout(nn.Module):
    """A chain of layers whose fully connected hidden units are dropped at random.

    `forward(obs [B, *obs], noise [B, units])` takes uniform noise in [0, 1), one number per hidden unit; `units` is 0
    with rate 0. Without noise nothing is dropped.
    """

    def __init__(self, layers: Sequence[nn.Module], rate: float):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.rate = rate
        self.widths: dict[int, int] = {}  # place of an activation in the chain -> hidden units
        width = 0
        for place, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                width = layer.out_features
            if rate and width and isinstance(layer, HIDDEN):
                self.widths[place] = width
        self.units = sum(self.widths.values())

    def forward(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        masks = iter(() if noise is None else self.masks(noise))
        for place, layer in enumerate(self.layers):
            obs = layer(obs)
            if place in self.widths and noise is not None:
                obs = obs * next(masks)
        return obs

    def masks(self, noise: Tensor) -> tuple[Tensor, ...]:
        """What each hidden layer [B, width] is multiplied by."""
        return torch.split((noise >= self.rate) / (1 - self.rate), list(self.widths.values()), dim=-1)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise [*shape, units] for as many rows."""
        return torch.rand((*shape, self.units), generator=generator, device=generator.device)


class DropoutInference:
    """Acting with a Dropout chain on numpy arrays.

    `inference(obs)` drops nothing and is as fast as `Inference`; `inference.sample(obs, rng)` drops units of every row
    at random if `when_acting`, and is the same as `inference(obs)` if not.
    """

    def __init__(self, network: Dropout, when_acting: bool):
        self.network = network
        self.clean = Inference(network.layers)
        self.random = when_acting and network.units > 0

    def __call__(self, obs: Array) -> Array:
        return self.clean(obs)

    def sample(self, obs: Array, rng: np.random.Generator) -> Array:
        if not self.random:
            return self.clean(obs)
        noise = rng.random((len(obs), self.network.units), dtype=np.float32)
        device = self.clean.device
        with torch.no_grad():
            output = self.network(torch.as_tensor(obs, device=device), torch.from_numpy(noise).to(device))
        return output.cpu().numpy()
