"""What an on-policy algorithm is built from and learns from, made by hand: 8 steps of 2 environments."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from rlrun.algos.algorithm import Kit
from rlrun.compute.device import Device, DeviceConfig
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.types import EnvSpec, Rollout, Space

BOX = Space("box", (3,), np.dtype(np.float32))
DISCRETE = Space("discrete", (), np.dtype(np.int64), n=4)
ARM = Space("box", (2,), np.dtype(np.float32), low=np.float32([-2, 0]), high=np.float32([3, 0.5]))
T, E = 8, 2


def kit(action: Space = DISCRETE, **network: Any) -> Kit:
    """Its observations are three numbers."""
    torch.manual_seed(0)
    return Kit(
        EnvSpec("test", BOX, action, E),
        network=partial(build_mlp, NetworkConfig(**({"activation": "tanh"} | network))),
        device=Device(DeviceConfig(accelerator="cpu")),
        rng=np.random.default_rng(1),
        sampling=np.random.default_rng(0),
        total_timesteps=1000,
    )


def rollout(algo: Any, ends: dict[tuple[int, int], str] | None = None, seed: int = 2) -> Rollout:
    """What the agent itself would have recorded.

    Args:
        ends: (t, e) -> terminated | truncated, where an episode ends.
    """
    rng, ends = np.random.default_rng(seed), ends or {}
    obs = rng.normal(size=(T + 1, E, 3)).astype(np.float32)
    acted = [algo.agent.act(obs[t], None, explore=True, env_steps=0) for t in range(T)]
    extras = {key: np.stack([extra[key] for _, _, extra in acted]) for key in acted[0][2]}
    flags = {name: np.zeros((T, E), bool) for name in ("terminated", "truncated")}
    for where, name in ends.items():
        flags[name][where] = True
    return Rollout(
        obs,
        np.stack([action for action, _, _ in acted]),
        rng.normal(size=(T, E)).astype(np.float32),
        flags["terminated"],
        flags["truncated"],
        {where: rng.normal(size=3).astype(np.float32) for where in ends},
        extras,
    )
