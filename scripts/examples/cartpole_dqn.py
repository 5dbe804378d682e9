"""DQN on CartPole by hand, from PTAN's parts: a network, an agent, a source, a buffer, and a loop of your own.

    python scripts/examples/cartpole_dqn.py

It stops when the mean return of the last 100 episodes passes 150, after some 15 000 steps: one lucky episode solves
nothing. `rlrun experiment=ptan_cartpole` is the same loop as a run.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from rlrun.agents import DQNAgent, EpsilonGreedyActionSelector
from rlrun.experience import ExperienceReplayBuffer, ExperienceSourceFirstLast, RewardTracker, unpack_batch
from rlrun.networks import TargetNet


def main(seed: int = 0, solved: float = 150.0, max_steps: int = 60_000) -> float:
    """Train until `solved` or `max_steps`; returns the mean return of the last 100 episodes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    env = gym.make("CartPole-v1")
    net = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 2))
    target = TargetNet(net, interval=10)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    selector = EpsilonGreedyActionSelector(epsilon=1.0, rng=rng)
    source = ExperienceSourceFirstLast(env, DQNAgent(net, selector), gamma=0.9, seed=seed)
    buffer = ExperienceReplayBuffer(source, buffer_size=1000, rng=rng)
    tracker = RewardTracker(min_ts_diff=5.0)
    for step in range(max_steps):
        buffer.populate(1)
        means = [tracker.reward(reward, step, selector.epsilon) for reward in source.pop_total_rewards()]
        if any(mean is not None and mean > solved for mean in means):
            break
        if len(buffer) < 32:
            continue
        selector.epsilon = max(0.02, 0.99 * selector.epsilon)
        batch = unpack_batch(buffer.sample(16))
        q = net(batch.obs).gather(1, batch.action[:, None])[:, 0]
        goal = batch.reward + batch.discount * target(batch.next_obs).amax(1)
        loss = nn.functional.mse_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        target.sync(step)
    print(f"mean return of the last 100 episodes: {tracker.mean:.1f} after {step + 1} steps")
    return tracker.mean


if __name__ == "__main__":
    main()
