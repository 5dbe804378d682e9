"""Streams of experience of several environments, and what a replay must make of them, transition by transition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rlrun.types import Array, EnvSpec, Rollout, Space

RECORD = np.dtype([("place", np.float32, (2,)), ("seen", np.uint8)])


def spec(envs: int, dtype: np.dtype | None = None) -> EnvSpec:
    """Observations of 3 floats, or records of a given dtype; 9 actions."""
    obs = Space("box", (3,), np.dtype(np.float32)) if dtype is None else Space("dict", (), dtype)
    return EnvSpec("stream", obs, Space("discrete", (), np.dtype(np.int64), n=9), num_envs=envs)


class Transition(NamedTuple):
    """One step of one environment; `stops` where its episode ended or the environment was started anew."""

    obs: Array
    action: int
    next_obs: Array
    reward: np.float32
    terminated: bool
    stops: bool


class Stream:
    """Rollouts of random observations, and the list of all that happened in them.

    Args:
        ends: probability of a termination, and of a truncation, per step.
        anew: probability that all environments are started anew between two rollouts, unnoticed.
    """

    def __init__(self, env: EnvSpec, seed: int, *, ends: float = 0.1, anew: float = 0.0):
        self.env, self.rng, self.ends, self.anew = env, np.random.default_rng(seed), ends, anew
        self.transitions: list[Transition] = []
        self.obs = self.observations(env.num_envs)

    def observations(self, *shape: int) -> Array:
        space = self.env.obs_space
        if space.dtype.names is None:
            return self.rng.normal(size=(*shape, *space.shape)).astype(space.dtype)
        found = np.zeros(shape, space.dtype)
        for name in space.dtype.names:
            found[name] = self.rng.integers(256, size=found[name].shape)
        return found

    def rollout(self, steps: int) -> Rollout:
        envs = self.env.num_envs
        if self.transitions and self.rng.random() < self.anew:
            self.obs = self.observations(envs)
            for n in range(len(self.transitions) - envs, len(self.transitions)):
                self.transitions[n] = self.transitions[n]._replace(stops=True)
        obs = np.concatenate([self.obs[None], self.observations(steps, envs)])
        terminated, truncated = self.rng.random((2, steps, envs)) < self.ends
        over = terminated | truncated
        final_obs = {(int(t), int(e)): self.observations() for t, e in np.argwhere(over)}
        action = self.rng.integers(9, size=(steps, envs))
        reward = self.rng.normal(size=(steps, envs)).astype(np.float32)
        self.transitions += [
            Transition(
                obs[t, e],
                action[t, e],
                final_obs.get((t, e), obs[t + 1, e]),
                reward[t, e],
                bool(terminated[t, e]),
                bool(over[t, e]),
            )
            for t, e in np.ndindex(steps, envs)
        ]
        self.obs = obs[-1].copy()
        return Rollout(obs, action, reward, terminated, truncated, final_obs, {})

    def rollouts(self, *lengths: int) -> Iterator[Rollout]:
        return map(self.rollout, lengths)

    def folded(self, number: int, n: int, gamma: float) -> tuple[Array, float, float]:
        """(observation m steps later, sum of m rewards, discount of what follows) of a transition, by definition."""
        total, m = 0.0, 0
        while True:
            here = self.transitions[number + m * self.env.num_envs]
            total += gamma**m * float(here.reward)
            m += 1
            if here.terminated:
                return here.next_obs, total, 0.0
            if m == n or here.stops or number + m * self.env.num_envs >= len(self.transitions):
                return here.next_obs, total, gamma**m
