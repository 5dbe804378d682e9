"""What the sources of `rlrun.experience` give: single steps, and pieces of several of which first and last are kept.

Where PTAN has a name it is PTAN's: state, action, reward, last_state, done. What it does not tell apart has ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rlrun.agents.modules import default_states_preprocessor
from rlrun.ops.fields import mapped
from rlrun.types import Array, Batch, Tensor


class Experience(NamedTuple):
    """One step of one environment."""

    # observed before the action: a number, an array, a record if the space is a Dict, or `Frames`, which stacks of
    # pictures become and np.asarray makes an array of
    state: Any
    action: Any
    reward: float
    terminated: bool  # the MDP ended with it
    truncated: bool  # the episode was cut behind it, from outside
    next_obs: Any  # observed after it: at an episode's end the true last observation, not that of the reset

    @property
    def done(self) -> bool:
        """The episode ended with it, one way or the other."""
        return self.terminated or self.truncated


class ExperienceFirstLast(NamedTuple):
    """m steps of one environment folded into one, m = n or fewer where the episode ends before.

    The target of Q-learning is `reward + discount * max_a Q(last_obs, a)`, whatever ended the piece.
    """

    state: Any  # observed before the first step
    action: Any  # the first one
    reward: float  # sum over i < m of gamma^i r_i
    last_obs: Any  # observed after the last step: at an episode's end the true last observation
    discount: float  # gamma^m, 0 where the MDP ended
    terminated: bool  # the MDP ended with the last step
    truncated: bool  # the episode was cut behind the last step, from outside
    steps: int  # m

    @property
    def last_state(self) -> Any:
        """`last_obs`, but None where the MDP ended and nothing follows; PTAN says None of a cut episode, too."""
        return None if self.terminated else self.last_obs

    @property
    def done(self) -> bool:
        """The episode ended with the last step, one way or the other."""
        return self.terminated or self.truncated


class RolloutBatch(NamedTuple):
    """T steps of E environments one after the other: all of the first environment, then all of the second."""

    states: Array  # [E * T, *obs]
    returns: Array  # [E * T] float32: what the steps brought, down to the value of the state behind the last
    actions: Array  # [E * T, *action]
    values: Array  # [E * T] float32: V(state), when it was acted on


def unpack_batch(
    pieces: Sequence[ExperienceFirstLast],
    device: str | torch.device = "cpu",
    weights: Array | None = None,
    indices: Array | None = None,
) -> Batch:
    """Pieces as tensors of one batch [B]. Its `discount` is gamma^m with the m really taken, 0 where the MDP ended:

        q = net(batch.obs).gather(1, batch.action[:, None])[:, 0]
        target = batch.reward + batch.discount * target_net(batch.next_obs).amax(1)

    Args:
        weights: [B] of a prioritised sample; ones without.
        indices: [B] of the same; 0, 1, ... without.
    """

    def observed(values: Sequence[Any]) -> Any:
        return mapped(lambda tensor: tensor.to(device), default_states_preprocessor(values))

    def numbers(values: Any, dtype: Any = np.float32) -> Tensor:
        return torch.from_numpy(np.array(values, dtype)).to(device)

    count = len(pieces)
    return Batch(
        obs=observed([piece.state for piece in pieces]),
        action=observed([piece.action for piece in pieces]),
        next_obs=observed([piece.last_obs for piece in pieces]),
        reward=numbers([piece.reward for piece in pieces]),
        discount=numbers([piece.discount for piece in pieces]),
        weight=numbers(np.ones(count) if weights is None else weights),
        index=numbers(np.arange(count) if indices is None else indices, np.int64),
    )
