"""Memories: a ring that replays transitions, and a rollout cut into minibatches."""

from rlrun.buffers.rollout import RolloutBuffer, RolloutBufferConfig
from rlrun.buffers.uniform import UniformConfig, UniformRing

__all__ = ["RolloutBuffer", "RolloutBufferConfig", "UniformConfig", "UniformRing"]
