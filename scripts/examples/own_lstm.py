"""A whole network of your own, which remembers: one LSTM that policy and value share.

    cd scripts/examples
    rlrun imports=[own_lstm] algo=ppo env=cartpole_no_velocity network=own_lstm
    rlrun imports=[own_lstm] algo=dqn env=cartpole_no_velocity network=own_lstm network.units=32
    rlrun imports=[own_lstm] experiment=genrl_custom_policy network=own_lstm network.hidden=[64,64]

A network is made for the space of the observations and the heads that the algorithm asks for, and gives an output for
each: `build_head` makes what a head asks for. That it remembers is said by `memory_size`, and `remembers` tells it
before there is one. The agent carries a row of memory for each environment from step to step, new at an episode's
start; the algorithm learns from sequences, whose steps come as N = L x B rows in order of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from rlrun import networks, register
from rlrun.types import HeadSpec, Space


@dataclass
class OwnLSTMConfig:
    """One LSTM for all heads."""

    name: str = "own_lstm"
    units: int = 64  # of the LSTM
    hidden: list[int] = field(default_factory=list)  # widths of the layers behind it


@register("network", OwnLSTMConfig, remembers=lambda cfg, *heads: 2 * cfg.units)
class OwnLSTM(nn.Module):
    """Long short-term memory straight on the observations, and layers behind it if wanted."""

    def __init__(self, cfg: OwnLSTMConfig, obs_space: Space, *heads: HeadSpec):
        super().__init__()
        self.lstm = nn.LSTM(obs_space.size, cfg.units)
        widths = [cfg.units, *cfg.hidden]
        layers = [nn.Sequential(nn.Linear(*pair), nn.ReLU()) for pair in pairwise(widths)]
        self.hidden = nn.Sequential(*layers)
        self.heads = nn.ModuleList(networks.build_head(head, widths[-1]) for head in heads)
        self.memory_size = 2 * cfg.units  # its output of the step before, and the state of its cells

    def forward(self, obs: Any, memory: torch.Tensor | None = None) -> Any:
        if memory is None:  # a minibatch of sequences
            return networks.unrolled(self, obs)
        steps = obs.flatten(1).unflatten(0, (-1, len(memory)))  # [L, B, obs]
        hidden, (h, c) = self.lstm(steps, tuple(part.contiguous() for part in memory[None].chunk(2, -1)))
        features = self.hidden(hidden.flatten(0, 1))
        outputs = tuple(head(features) for head in self.heads)
        return outputs if len(outputs) > 1 else outputs[0], torch.cat([h[0], c[0]], -1)
