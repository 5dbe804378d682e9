"""What is learned from: a ring that replays transitions, and a rollout cut into minibatches."""

from rlrun.buffers.minibatches import Minibatches
from rlrun.buffers.replay import Replay, UniformConfig, uniform

__all__ = ["Minibatches", "Replay", "UniformConfig", "uniform"]
