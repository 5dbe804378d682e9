"""CartPole and somebody who can play it a little, for what shows or counts episodes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rlrun.envs.environments import Environments
from rlrun.envs.vector.in_process import InProcess
from rlrun.types import Array


class LeanRight:
    """Pushes CartPole where its pole leans."""

    def initial_memory(self, num_envs: int) -> None:
        return None

    def act(self, obs: Array, memory: None, *, explore: bool, env_steps: int) -> tuple[Array, None, dict[str, Array]]:
        return (obs[:, 2] > 0).astype(np.int64), memory, {}

    def fork(self, rng: np.random.Generator) -> LeanRight:
        return self


class CartPoles(Environments):
    """CartPole as the runner's environment factory offers it, around one Gymnasium environment."""

    def __init__(self, env: gym.Env | None = None):
        self.env = env
        self.modes: list[str] = []

    def render(self, mode: str) -> gym.Env:
        self.modes.append(mode)
        return self.env or gym.make("CartPole-v1", render_mode="rgb_array" if mode == "human" else mode)

    def watch(self, env: gym.Env) -> Any:
        return InProcess([env])


def cartpole_length(seed: int) -> int:
    """The plain Gymnasium loop."""
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=seed)
    length, over = 0, False
    while not over:
        obs, _, terminated, truncated, _ = env.step(int(obs[2] > 0))
        length, over = length + 1, terminated or truncated
    return length
