"""Advantage actor-critic on CartPole by hand (`python cartpole_a2c.py`): rollouts of eight environments at once.

A batch is T steps of each environment; its returns end in the critic's value where nothing ended (Mnih et al. 2016).
It stops when the mean return of the last 100 episodes passes 200.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from rlrun.agents import ActorCriticAgent, CategoricalActionSelector
from rlrun.experience import ExperienceSourceRollouts, RewardTracker


class ActorCritic(nn.Module):
    """Logits [E, 2] and values [E]."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
        self.value = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.policy(obs), self.value(obs).squeeze(1)


def main(seed: int = 0, solved: float = 200.0, max_steps: int = 200_000) -> float:
    """Train until `solved` or `max_steps`; returns the mean return of the last 100 episodes."""
    torch.manual_seed(seed)
    net = ActorCritic()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    agent = ActorCriticAgent(net, CategoricalActionSelector(np.random.default_rng(seed)))
    envs = [gym.make("CartPole-v1") for _ in range(8)]
    source = ExperienceSourceRollouts(envs, agent, gamma=0.99, steps_count=16, seed=seed)
    tracker = RewardTracker(min_ts_diff=5.0)
    for batch in source:
        means = [tracker.reward(reward, source.env_steps) for reward in source.pop_total_rewards()]
        if source.env_steps >= max_steps or any(mean is not None and mean > solved for mean in means):
            break
        states, returns, actions, _ = map(torch.from_numpy, batch)
        logits, values = net(states)
        policy, advantage = torch.distributions.Categorical(logits=logits), returns - values.detach()
        gained = (policy.log_prob(actions) * advantage).mean() + 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        (nn.functional.mse_loss(values, returns) - gained).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    print(f"mean return of the last 100 episodes: {tracker.mean:.1f} after {source.env_steps} steps")
    return tracker.mean


if __name__ == "__main__":
    main()
