"""Sequences from a ring, for networks that remember: recurrent replay (Kapturowski et al. 2019, R2D2).

Each step of an episode belongs to one sequence: the first begins with the episode, and each is `length` steps long, the
last shorter. Whoever draws a step draws the sequence that it belongs to, or what of it is stored; so a sequence is
drawn in proportion to its length, and every step as often as it would be alone. It begins with the memory that the
agent had there when it acted, or with that of `burn_in` steps before.

A path is what a network goes through: the observations that the sequence begins its steps with, and those that come n
steps after them. So one pass says what a step's action was worth and what followed.

Letters: B sequences, L steps of each at most, n steps that are folded, W = L + n observations of a path, K of burn-in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlrun.buffers.ring import Ring
from rlrun.ops.nstep import fold
from rlrun.types import Array


class Paths(NamedTuple):
    """B sequences as rows [L x B], all first steps, then all second ones."""

    cells: Array  # [W x B] where the path's observations are
    memory: Array  # [B, M] before the path, or before its burn-in
    before: Array  # [K x B] where those of the burn-in are; of no meaning where `warm` is false
    warm: Array  # [B, 1] bool, whether there is any
    place: Array  # [L x B] where in the path each row stands
    following: Array  # [L x B] and where what came after it
    action: Array  # [L x B, *action]
    reward: Array  # [L x B] folded
    discount: Array  # [L x B]
    number: Array  # [L x B] of the transition; -1 behind the end of a sequence
    share: Array  # [L x B] float32: what a row counts, so that the mean over all is that over those that are there


def paths(ring: Ring, slots: Array, length: int, burn_in: int, n_step: int) -> Paths:
    """The sequences that the steps in slots [B] belong to.

    Args:
        length: L.
        burn_in: K, at most L.
        n_step: n.
    """
    envs, count = ring.envs, len(slots)
    each, drawn = np.arange(count), ring.take(slots)["number"]
    oldest = ring.added - len(ring) + drawn % envs
    start = np.maximum(drawn - envs * (ring.age.take(slots) % length), oldest)
    warm = (ring.age.take(start % ring.capacity) >= burn_in) & (start - envs * burn_in >= oldest) & (burn_in > 0)
    since = np.where(warm, start - envs * burn_in, start)

    steps = ring.windows(start % ring.capacity, length + n_step - 1)  # [W - 1, B]
    stops = ring.stops(steps)
    going = np.ones(steps.shape, bool)
    np.logical_and.accumulate(~stops[:-1], axis=0, out=going[1:])
    end = steps["after"][np.add.reduce(going, axis=0, dtype=np.int64) - 1, each]  # the cell that each leads to at last
    cells = np.concatenate([np.where(going, ring.cell(steps["number"]), end), end[None]])

    window = np.arange(n_step)[:, None] + np.arange(length)  # [n, L]
    reward, discount, folded = fold(steps["reward"][window], steps["discount"][window], stops[window][:-1])
    there, along = going[:length], np.arange(length)[:, None]
    back = since + envs * np.minimum(np.arange(burn_in)[:, None], warm * burn_in)
    return Paths(
        cells.ravel(),
        ring.memory.take(since % ring.capacity, axis=0),
        ring.cell(back).ravel(),
        warm[:, None],
        (along * count + each).ravel(),
        ((along + np.where(there, folded, 0)) * count + each).ravel(),
        steps["action"][:length].reshape(-1, *steps["action"].shape[2:]),
        reward.ravel(),
        discount.ravel(),
        np.where(there, steps["number"][:length], -1).ravel(),
        (there * (there.size / np.count_nonzero(there))).astype(np.float32).ravel(),
    )
