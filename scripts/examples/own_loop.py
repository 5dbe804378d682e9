"""A loop and an agent of your own (`python own_loop.py`): CartPole without its velocities, by one that remembers.

What an agent keeps from step to step is its state: here the last observation, since two positions make a velocity. It
learns by the cross-entropy method (Rubinstein 1999): play whole episodes, and imitate the longest of them.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import rlrun.envs.partial  # noqa: F401  registers the environment
from rlrun.agents import BaseAgent, CategoricalActionSelector
from rlrun.experience import ExperienceSource


def with_velocity(now: np.ndarray, before: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([now, (now - before) / 0.02], axis=1))  # a step takes 0.02 s


class Remembering(BaseAgent):
    """Samples a policy; its state is the observation before, None where an episode begins."""

    def __init__(self, net: nn.Module, rng: np.random.Generator):
        self.net, self.select = net, CategoricalActionSelector(rng)

    def __call__(self, states: Any, agent_states: Any = None) -> Any:
        before = [now if old is None else old for now, old in zip(states, agent_states, strict=True)]
        logits = self.net(with_velocity(np.stack(states), np.stack(before))).detach().numpy()
        return self.select(logits), states


def main(seed: int = 0, rounds: int = 50, envs: int = 16) -> float:
    """Play and learn; returns the mean length of the last round's episodes."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    pool = [gym.make("rlrun/CartPoleNoVelocity-v1") for _ in range(envs)]
    played = ExperienceSource(pool, Remembering(net, np.random.default_rng(seed)), seed=seed).episodes()
    for number in range(rounds):
        episodes = sorted(islice(played, envs), key=len)
        best = episodes[-envs // 3 :]
        states = [np.stack([step.state for step in episode]) for episode in best]
        seen = torch.cat([with_velocity(now, np.concatenate([now[:1], now[:-1]])) for now in states])
        actions = torch.tensor([step.action for episode in best for step in episode])
        nn.functional.cross_entropy(net(seen), actions).backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"round {number}: {sum(map(len, episodes)) / envs:.1f} steps")
    return sum(map(len, episodes)) / envs


if __name__ == "__main__":
    main()
