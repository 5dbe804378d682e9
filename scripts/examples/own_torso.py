"""A torso of your own: it reads the observations, and rlrun puts hidden layers and heads behind it.

    cd scripts/examples
    rlrun algo=ppo env=cartpole network.torso=own_torso.Residual
    rlrun algo=ppo env=pendulum network.torso=own_torso.Residual network.shared=true
    rlrun algo=dqn env=cartpole 'network.torso={_target_: own_torso.Residual, width: 128}' network.hidden=[]

Policy and value, and an actor and its critics, each have a torso of their own, unless `network.shared=true`. It is made
for the space of the observations, which are [B, *obs], or a dict of such tensors where the environment shows a Dict,
and gives features [B, F]; how many is found out by trying. Dueling, noisy layers, quantiles and memory combine with it.
"""

from __future__ import annotations

import torch
from torch import nn

from rlrun.types import Space


class Residual(nn.Module):
    """Residual blocks x + W relu(V norm(x)), after a layer that brings the observation to their width."""

    def __init__(self, obs_space: Space, width: int = 64, blocks: int = 2):
        super().__init__()
        self.inwards = nn.Linear(obs_space.size, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
            for _ in range(blocks)
        )

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        x = self.inwards(obs.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return x
