"""Small layers that turn observations into features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.types import Array


class OneHot(nn.Module):
    """Discrete observations [B] -> float [B, n]."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n

    def forward(self, obs: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(obs, self.n).float()


class OneHots(nn.Module):
    """Several choices [B, *shape], element i one of nvec[i] -> float [B, sum(nvec)], one-hot side by side."""

    first: Tensor  # the column of every element's 0

    def __init__(self, nvec: Sequence[int]):
        super().__init__()
        self.nvec = tuple(nvec)
        self.register_buffer("first", torch.tensor([0, *self.nvec[:-1]]).cumsum(0), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        places = obs.reshape(len(obs), -1) + self.first
        return torch.zeros(len(obs), sum(self.nvec), device=obs.device).scatter(1, places, 1.0)


class Tanh(nn.Module):
    """tanh(x) = 2 sigmoid(2x) - 1, elementwise.

    torch.tanh goes through a library of vector functions that on AMD processors takes ten times as long as its sigmoid.
    """

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(2 * x) - 1


class Drop(nn.Module):
    """Hidden features [..., H] that are 0 where uniform noise [..., H] is below `rate`, otherwise / (1 - rate).

    Without noise nothing is dropped.
    """

    def __init__(self, rate: float, units: int):
        super().__init__()
        self.rate, self.units = rate, units

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return x if noise is None else x * ((noise >= self.rate) / (1 - self.rate))


class Flat(nn.Module):
    """Box observations [B, *obs] of any type -> float [B, features]."""

    def forward(self, obs: Tensor) -> Tensor:
        return obs.reshape(len(obs), -1).float()


class Scaled(nn.Module):
    """Box observations [B, *obs] with finite bounds [*obs] -> float [B, features], `low` as 0 and `high` as 1."""

    low: Tensor
    factor: Tensor

    def __init__(self, low: Array, high: Array):
        super().__init__()
        below, span = low.reshape(-1).astype(np.float32), (high - low).reshape(-1).astype(np.float32)
        self.register_buffer("low", torch.from_numpy(below), persistent=False)  # known from the space
        self.register_buffer("factor", torch.from_numpy(1 / np.maximum(span, 1)), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        return (obs.reshape(len(obs), -1).float() - self.low) * self.factor


class Field(nn.Module):
    """One field of an observation of several: the others, such as a mask of the actions, are left out."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        return obs[self.name]


class OfField(nn.Module):
    """A network that is shown one field of an observation of several, as if there were no others.

    What is asked of it beside its outputs, the network answers.
    """

    def __init__(self, name: str, network: nn.Module):
        super().__init__()
        self.name, self.network = name, network

    def forward(self, obs: dict[str, Tensor], *more: Any, **named: Any) -> Any:
        return self.network(obs[self.name], *more, **named)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)


class Joined(nn.Module):
    """Every field of an observation through an encoder of its own -> float [B, features], side by side.

    Args:
        encoders: by field; each gives [B, its features].
    """

    def __init__(self, encoders: dict[str, nn.Module]):
        super().__init__()
        self.names = tuple(encoders)
        self.encoders = nn.ModuleList(encoders.values())  # a ModuleDict takes no names with dots

    def forward(self, obs: dict[str, Any]) -> Tensor:
        encoded = [encoder(obs[name]) for name, encoder in zip(self.names, self.encoders, strict=True)]
        return torch.cat(encoded, -1)
