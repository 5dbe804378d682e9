"""Cutting rollouts into sequences for networks that remember.

A sequence is at most `length` steps of one environment, within one episode: where an episode ends the memory begins
anew, and so does a sequence. It starts from the memory that the agent had there when it acted, which later weights
would not have come to; the `burn_in` steps before it, as far as they belong to the same episode and rollout, can be
gone through again to make up for that (Kapturowski et al. 2019, "R2D2").

Letters: T x E steps of a rollout, B sequences, L steps of the longest, K steps of burn-in, N valid steps of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from rlrun.types import Array


class Sequences(NamedTuple):
    """Where sequences stand in a rollout [T, E], and how long they are."""

    env: Array  # [B] int64
    start: Array  # [B] int64, the step each begins with
    steps: Array  # [B] int64, how many it has
    warm: Array  # [B] int64, how many steps before it its memory is taken from

    def take(self, order: Array) -> Sequences:
        """The sequences with these numbers."""
        return Sequences(*(column[order] for column in self))

    def rows(self) -> tuple[Array, Array]:
        """(t, e) [N] of all valid steps, in order of time, side by side."""
        t = self.start + np.arange(self.steps.max())[:, None]
        valid = t < self.start + self.steps
        return t[valid], np.broadcast_to(self.env, t.shape)[valid]

    def grid(self) -> tuple[Array, Array]:
        """The rows as a grid, [L x B] row of each step, and [N] where each row stands in it.

        Behind the end of a shorter sequence its last row is repeated.
        """
        along, shape = np.arange(self.steps.max())[:, None], (self.steps.max(), len(self.env))
        (place,) = np.nonzero((along < self.steps).ravel())
        number = np.zeros(shape, np.int64)
        number.ravel()[place] = np.arange(len(place))
        return np.take_along_axis(number, np.minimum(along, self.steps - 1), 0).ravel(), place

    def before(self, burn_in: int) -> tuple[Array, Array]:
        """Rows (t, e), each [K, B], of the steps before them; of no meaning where `warm` is 0."""
        t = np.minimum(np.maximum(self.start - burn_in, 0) + np.arange(burn_in)[:, None], self.start)
        return t, np.broadcast_to(self.env, t.shape)


def cut(ended: Array, length: int, burn_in: int = 0) -> Sequences:
    """All sequences of a rollout, environment by environment; each step belongs to exactly one.

    Args:
        ended: [T, E] bool, whether an episode ended with the step.
        length: most steps of a sequence.
        burn_in: steps that may come before a sequence; 0 <= burn_in <= length, so that where there are any, all are.
    """
    t = np.arange(len(ended))[:, None]
    begins = np.concatenate([np.ones_like(ended[:1]), ended[:-1]])
    into = t - np.maximum.accumulate(np.where(begins, t, 0))  # steps since the episode or the rollout began
    first = (into % length == 0).T
    env, start = np.nonzero(first)  # by environment, then by time
    following = np.append(start[1:], len(ended))
    following[np.append(env[1:], -1) != env] = len(ended)
    warm = np.where(into[start, env] > 0, burn_in, 0)
    return Sequences(env, start, following - start, warm)


def batches(sequences: Sequences, order: Array, batch_size: int) -> Iterator[Sequences]:
    """Minibatches of whole sequences, taken in `order`, of about `batch_size` valid steps each.

    A minibatch takes the sequences that begin within its share of all steps, so it holds less than the longest
    sequence too many or too few, and there are no more minibatches than flat ones.
    """
    steps = sequences.steps[order]
    share = (np.cumsum(steps) - steps) // batch_size
    for group in np.split(order, np.flatnonzero(np.diff(share)) + 1):
        yield sequences.take(group)


def columns_of(
    group: Sequences, columns: Mapping[str, Array], memory: Array, burn_in: int, inputs: str = "obs"
) -> dict[str, Array]:
    """A minibatch of sequences: all columns as rows [N, ...], and what takes a network through them.

    memory [B, M] to begin with; grid [L x B] and place [N] as in `Sequences.grid`; with burn-in also before
    [K x B, *obs], the observations that a memory goes through first where warm [B, 1] says so.

    Args:
        columns: arrays [T, E, ...].
        memory: what the agent had before each step [T, E, M].
        inputs: the column that the network reads.
    """
    rows = group.rows()
    found = {key: column[rows] for key, column in columns.items()}
    found["memory"] = memory[group.start - group.warm, group.env]
    found["grid"], found["place"] = group.grid()
    if burn_in:
        before = columns[inputs][group.before(burn_in)]
        found |= {"before": before.reshape(-1, *before.shape[2:]), "warm": group.warm[:, None] > 0}
    return found
