"""Memories: a ring that replays transitions, and a rollout cut into minibatches."""

from rlrun.buffers.minibatches import RolloutBuffer, RolloutBufferConfig
from rlrun.buffers.replay import Replay, UniformConfig, uniform

__all__ = ["Replay", "RolloutBuffer", "RolloutBufferConfig", "UniformConfig", "uniform"]
