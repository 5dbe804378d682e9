"""Dueling networks (Wang et al. 2016, arXiv:1511.06581), equation 9: Q(s, a) = V(s) + A(s, a) - mean over a of A(s, a).

The mean is over the actions of a state alone; where a value is a distribution (of N atoms), over those of an atom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from rlrun.networks.inference import TRANSLATORS, translate
from rlrun.networks.noisy import Stream
from rlrun.types import Array


class Dueling(nn.Module):
    """Two streams on the same features: [..., inputs] -> action values [..., A * N], an action's numbers side by side.

    Args:
        value: gives N numbers.
        advantage: gives A * N numbers.
        atoms: N.
    """

    def __init__(self, value: Stream, advantage: Stream, atoms: int):
        super().__init__()
        self.value, self.advantage, self.atoms = value, advantage, atoms
        self.shares = [value.units, advantage.units]
        self.units = sum(self.shares)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        ours, theirs = (None, None) if noise is None else noise.split(self.shares, -1)
        advantage = self.advantage(x, theirs).unflatten(-1, (-1, self.atoms))  # [..., A, N]
        centred = advantage - advantage.mean(-2, keepdim=True)
        return (self.value(x, ours).unsqueeze(-2) + centred).flatten(-2)


def _dueling(layer: Dueling) -> Any:
    value, advantage = translate(layer.value), translate(layer.advantage)
    if value is None or advantage is None:
        return None
    atoms, first = layer.atoms, layer.shares[0]

    def forward(x: Array, noise: Array | None = None) -> Array:
        parts = ((), ()) if noise is None else ((noise[..., :first],), (noise[..., first:],))
        flat = advantage(x, *parts[1])
        a = flat.reshape(*flat.shape[:-1], -1, atoms)
        a = a - np.add.reduce(a, -2, keepdims=True) / a.shape[-2]
        a += value(x, *parts[0])[..., None, :]
        return a.reshape(flat.shape)

    return forward


TRANSLATORS.update({Dueling: _dueling})
