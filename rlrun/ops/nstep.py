"""n steps folded into one transition: the rewards of up to n steps, and how much what follows them counts.

Sutton 1988 (Machine Learning 3:9); Watkins 1989, section 7.2; as used from replay by Hessel et al. 2018
(arXiv:1710.02298), equation 1:

    R = sum over i < m of gamma^i r_{t+i},      target = R + gamma^m max_a Q(s_{t+m}, a)

m is n, or fewer where the steps stop before: at an episode's end, or where no further step is known. Whatever stops
them, s_{t+m} is the observation that the last of the m steps really led to, and it counts unless it is terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray


def fold(reward: Array, discount: Array, last: Array) -> tuple[Array, Array, Array]:
    """Fold windows of n steps; where one stops before its end, what stands behind that step does not count.

    Args:
        reward: [n, ...] float32, r_t ... r_{t+n-1}.
        discount: [n, ...] float32, of each step: gamma, or 0 where the MDP ended with it.
        last: [n - 1, ...] bool, of all steps but the nth: none follows.

    Returns:
        R [...] float32, gamma^m or 0 [...] float32, and m [...] int64.
    """
    if reward.ndim == 1:
        return _fold_one(reward.tolist(), discount.tolist(), last.tolist())
    going = np.ones(reward.shape, bool)
    np.logical_and.accumulate(~last, axis=0, out=going[1:])
    following = np.multiply.accumulate(np.where(going, discount, np.float64(1)), axis=0)
    parts = np.empty(reward.shape)
    parts[0] = reward[0]
    parts[1:] = np.where(going[1:], following[:-1] * reward[1:], 0)
    total = np.add.accumulate(parts, axis=0)[-1]  # one after the other, whatever the shape
    return total.astype(np.float32), following[-1].astype(np.float32), np.add.reduce(going, axis=0, dtype=np.int64)


def _fold_one(reward: list[float], discount: list[float], last: list[bool]) -> tuple[Array, Array, Array]:
    """A single window: Python's own numbers are faster, and the same."""
    total, following, steps = reward[0], discount[0], 1
    for r, d, stopped in zip(reward[1:], discount[1:], last, strict=True):
        if stopped:
            break
        total += following * r
        following *= d
        steps += 1
    return np.float32(total), np.float32(following), np.int64(steps)  # type: ignore[return-value]
