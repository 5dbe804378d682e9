"""Memories: a ring that replays transitions, and a rollout cut into minibatches."""

from rlrun.buffers.minibatches import RolloutBuffer, RolloutBufferConfig
from rlrun.buffers.replay import UniformConfig, UniformRing

__all__ = ["RolloutBuffer", "RolloutBufferConfig", "UniformConfig", "UniformRing"]
