"""What is learned from: a ring that replays transitions, and a rollout cut into minibatches."""

from rlrun.buffers.minibatches import Minibatches
from rlrun.buffers.replay import PrioritizedConfig, Replay, UniformConfig, prioritized, uniform

__all__ = ["Minibatches", "PrioritizedConfig", "Replay", "UniformConfig", "prioritized", "uniform"]
