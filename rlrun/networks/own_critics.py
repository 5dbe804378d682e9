"""Critics made of N networks of the user's own, which need not know of critics: each reads observation and action.

An action stands, in units of half its range, behind the numbers of an observation that is one vector; beside any other
observation it is one more field, `action`, of a Dict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.errors import ConfigError
from rlrun.networks.critics import in_half_ranges
from rlrun.types import HeadSpec, Space

ACTION, OBS = "action", "obs"  # fields of what a critic reads
Build = Callable[[Space, HeadSpec], nn.Module]  # a network with one head for a space


class OwnCritics(nn.Module):
    """`critics(obs, action) -> [N, B, K]`, as `Critics`.

    Args:
        build: makes each of them.
        obs_space: of what the agent sees.
        head: as an algorithm asks for critics.

    Raises:
        ConfigError: units shall be dropped, which only our own networks have.
    """

    middle: Tensor
    factor: Tensor
    units = 0  # that may be dropped

    def __init__(self, build: Build, obs_space: Space, head: HeadSpec):
        super().__init__()
        if head.dropout:
            raise ConfigError("algo.critics.dropout", "a network of yours drops no units", "write dropout=0")
        self.joins = head.action is not None and obs_space.kind == "box" and len(obs_space.shape) == 1
        self.names = tuple(obs_space.fields)
        space = obs_space if head.action is None else beside(obs_space, head.action)
        self.members = nn.ModuleList(build(space, HeadSpec("critic", head.size)) for _ in range(head.critics))
        middle, factor = in_half_ranges(head.action) if head.action else (np.zeros(0), np.zeros(0))
        for name, value in {"middle": middle, "factor": factor}.items():  # known from the space
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    def forward(
        self, obs: Any, action: Tensor | None = None, among: slice | Tensor | None = None, noise: None = None
    ) -> Tensor:
        """Values [N, B, K], or [n, B, K] of n among the critics: a slice of them, or their numbers int64 [n].

        There are no units to drop, so there is no noise that would say which.
        """
        if action is not None:
            action = (action.reshape(len(action), -1) - self.middle) * self.factor
            if self.joins:
                obs = torch.cat([obs.float(), action], -1)
            else:
                obs = {**(obs if self.names else {OBS: obs}), ACTION: action}
        members = self.members[among] if isinstance(among, slice) else self.members
        values = torch.stack([member(obs) for member in members])
        return values[among] if isinstance(among, Tensor) else values


def beside(obs_space: Space, action: Space) -> Space:
    """The space of observations with an action beside each, in units of half its range."""
    full = np.ones(action.size, np.float32)
    shown = Space("box", (action.size,), np.dtype(np.float32), low=-full, high=full)
    if obs_space.kind == "box" and len(obs_space.shape) == 1:
        low, high = (np.concatenate([np.float32(a), b]) for a, b in ((obs_space.low, -full), (obs_space.high, full)))
        return Space("box", low.shape, np.dtype(np.float32), low=low, high=high)
    fields = {**(obs_space.fields or {OBS: obs_space}), ACTION: shown}
    dtype = np.dtype([(name, part.dtype, part.shape) for name, part in fields.items()])
    return Space("dict", (), dtype, fields=fields)
