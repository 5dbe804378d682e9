"""An environment whose every number follows from its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlrun.types import Array, EnvSpec, EpisodeStat, Space, Step


class SeedIsLength:
    """An episode from seed s lasts s steps; its reward is the action; obs is (seed, steps to the end)."""

    def __init__(self, num_envs: int):
        space = Space("box", (2,), np.dtype(np.float32))
        self.spec = EnvSpec("seed-is-length", space, Space("discrete", (), np.dtype(np.int64), n=1000), num_envs)
        self.num_envs = num_envs
        self.obs = np.zeros((num_envs, 2), np.float32)
        self.resets: list[int] = []
        self._stats = [[0.0, 0] for _ in range(num_envs)]

    def reset(self, seeds: Sequence[int]) -> Array:
        assert len(seeds) == self.num_envs
        for e, seed in enumerate(seeds):
            self.reset_one(e, seed)
        return self.obs

    def reset_one(self, env: int, seed: int) -> Array:
        self.resets.append(seed)
        self.obs[env] = seed, seed
        self._stats[env] = [0.0, 0]
        return self.obs[env]

    def step(self, action: Array) -> Step:
        self.obs[:, 1] -= 1
        over = self.obs[:, 1] == 0
        episodes = []
        for e in range(self.num_envs):
            self._stats[e][0] += float(action[e])
            self._stats[e][1] += 1
            if over[e]:
                episodes.append(EpisodeStat(self._stats[e][0], int(self._stats[e][1]), e))
                self._stats[e] = [0.0, 0]
        final_obs = {e: self.obs[e].copy() for e in np.flatnonzero(over)}
        self.obs[over] = 99, 3  # an episode that nobody asked for
        return Step(self.obs, action.astype(np.float32), over, np.zeros_like(over), final_obs, episodes)

    def metrics(self) -> Mapping[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError("an evaluation restores nothing")

    def close(self) -> None:
        pass
