"""Five environments so small that the value of everything in them is known: what a learner gets wrong tells what is
broken in it.

    one_step     one observation, one step, reward 1: a value can be fitted at all
    two_steps    rewards 0 and 1 for two steps: what follows counts, by gamma
    action       reward 1 for action 1, -1 for action 0: rewards belong to the actions that brought them
    observation  three signs are seen; reward 1 for the action of their product's sign, else -1: what is seen tells
                 values apart, and there are sixteen of them to be learned
    discount     reward 1 for ever, cut every third step: a cut is not an end, 1 / (1 - gamma)

They are stepped all at once, and answer as a vector of environments does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlrun.types import Array, EnvSpec, EpisodeStat, Space, Step

GAMMA = 0.5
TWO = Space("discrete", (), np.dtype(np.int64), n=2)
INTERVAL = Space("box", (1,), np.dtype(np.float32), low=-np.ones(1, np.float32), high=np.ones(1, np.float32))
LENGTH = {"one_step": 1, "two_steps": 2, "action": 1, "observation": 1, "discount": 3}
# What is seen -> the value of both actions, all later ones being the best.
Seen = tuple[float, float, float]
SIGNS: list[Seen] = [(a, b, c) for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)]
FIRST, SECOND = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)
VALUES: Mapping[str, Mapping[Seen, tuple[float, float]]] = {
    "one_step": {FIRST: (1.0, 1.0)},
    "two_steps": {FIRST: (GAMMA, GAMMA), SECOND: (1.0, 1.0)},
    "action": {FIRST: (-1.0, 1.0)},
    "observation": {(a, b, c): (-a * b * c, a * b * c) for a, b, c in SIGNS},
    "discount": {FIRST: (1 / (1 - GAMMA), 1 / (1 - GAMMA))},
}


class Probe:
    """E copies of one of the five; observations [E, 3] float32, two actions, or all from -1 to 1."""

    caveat = ""

    def __init__(self, name: str, num_envs: int, continuous: bool = False):
        self.name, self.num_envs, self.continuous = name, num_envs, continuous
        obs_space = Space("box", (3,), np.dtype(np.float32))
        self.spec = EnvSpec(name, obs_space, INTERVAL if continuous else TWO, num_envs)
        self.rng = np.random.default_rng(0)
        self.obs, self.t = np.zeros((num_envs, 3), np.float32), 0

    def reset(self, seeds: Sequence[int]) -> Array:
        self.t = 0
        self.obs[:] = self._first()
        return self.obs

    def step(self, action: Array) -> Step:
        self.t += 1
        seen, sign = self.obs.prod(1), action[:, 0] if self.continuous else 2.0 * action - 1
        reward = {
            "one_step": np.ones(self.num_envs),
            "two_steps": np.full(self.num_envs, self.t - 1.0),
            "action": sign,
            "observation": sign * seen,
            "discount": np.ones(self.num_envs),
        }[self.name].astype(np.float32)
        over = np.full(self.num_envs, self.t == LENGTH[self.name])
        never = np.zeros(self.num_envs, bool)
        ended: list[EpisodeStat] = []
        final: dict[int, Array] = {}
        if self.name == "two_steps":
            self.obs[:] = SECOND
        if over[0]:
            final = {e: self.obs[e].copy() for e in range(self.num_envs)}
            ended = [EpisodeStat(float(r), self.t, e) for e, r in enumerate(reward)]
            self.reset([])
        terminated, truncated = (never, over) if self.name == "discount" else (over, never)
        return Step(self.obs, reward, terminated, truncated, final, ended)

    def _first(self) -> Any:
        return self.rng.choice([-1.0, 1.0], (self.num_envs, 3)) if self.name == "observation" else FIRST

    def metrics(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        pass
