"""Cutting rollouts into sequences, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from rlrun.buffers.sequences import Sequences, batches, columns_of, cut


def by_loop(ended: np.ndarray, length: int, burn_in: int) -> list[tuple[int, int, int, int]]:
    """(env, start, steps, warm) of every sequence."""
    found = []
    for e in range(ended.shape[1]):
        begun = start = 0
        for t in range(len(ended)):
            over = ended[t, e] or t + 1 == len(ended)
            if over or t + 1 - start == length:
                found.append((e, start, t + 1 - start, burn_in if start > begun else 0))
                start = t + 1
            if ended[t, e]:
                begun = t + 1
    return found


def ends(steps: int, envs: int, share: float) -> np.ndarray:
    return np.random.default_rng(0).random((steps, envs)) < share


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("steps", "envs"), [(1, 1), (7, 1), (24, 3), (25, 2)])
@pytest.mark.parametrize(("length", "burn_in"), [(1, 0), (4, 0), (4, 3), (4, 4), (100, 5)])
def test_sequences_are_those_of_a_loop(share: float, steps: int, envs: int, length: int, burn_in: int) -> None:
    ended = ends(steps, envs, share)
    assert list(zip(*cut(ended, length, burn_in), strict=True)) == by_loop(ended, length, burn_in)


def test_a_rollout_by_hand() -> None:
    """Ten steps, an episode ends with the step 4; sequences of 3 with a burn-in of 2."""
    ended = np.zeros((10, 1), bool)
    ended[4] = True
    found = cut(ended, 3, 2)
    assert found.start.tolist() == [0, 3, 5, 8]
    assert found.steps.tolist() == [3, 2, 3, 2]
    assert found.warm.tolist() == [0, 2, 0, 2]
    t, e = found.rows()
    assert t.tolist() == [0, 3, 5, 8, 1, 4, 6, 9, 2, 7] and not e.any()
    grid, place = found.grid()
    assert t[grid].reshape(3, 4).tolist() == [[0, 3, 5, 8], [1, 4, 6, 9], [2, 4, 7, 9]]
    assert t[grid][place].tolist() == t.tolist()
    t, _ = found.before(2)
    assert t.T[found.warm > 0].tolist() == [[1, 2], [6, 7]]


def test_columns_by_hand() -> None:
    """Two environments of three steps, an episode ends in the second; a burn-in of 1 before sequences of 2."""
    ended = np.zeros((3, 2), bool)
    ended[0, 1] = True
    obs, memory = np.arange(6.0).reshape(3, 2), -np.arange(6.0).reshape(3, 2, 1)
    found = columns_of(cut(ended, 2, 1), {"obs": obs}, memory, 1)
    assert found["obs"].tolist() == [0, 4, 1, 3, 2, 5]
    assert found["memory"].tolist() == [[0], [-2], [-1], [-3]]
    assert found["obs"][found["grid"]].tolist() == [0, 4, 1, 3, 2, 4, 1, 5]
    assert found["place"].tolist() == [0, 1, 2, 3, 4, 7]
    assert found["warm"].tolist() == [[False], [True], [False], [False]]
    assert found["before"].shape == (4,) and found["before"][1] == 2


@pytest.mark.parametrize("batch_size", [1, 5, 16, 1000])
def test_minibatches_hold_every_step_once(batch_size: int) -> None:
    ended = ends(40, 3, 0.15)
    every, length = cut(ended, 6, 2), 6
    groups = list(batches(every, np.random.default_rng(1).permutation(len(every.env)), batch_size))
    seen = []
    for group in groups:
        seen += zip(*(rows.tolist() for rows in group.rows()), strict=True)
        assert group.steps.sum() < batch_size + length
    assert sorted(seen) == [(t, e) for t in range(40) for e in range(3)]
    assert len(groups) <= -(-120 // batch_size)


def test_sequences_keep_their_columns_together() -> None:
    every = cut(ends(20, 2, 0.2), 4, 2)
    some = every.take(np.array([3, 1]))
    assert isinstance(some, Sequences) and [column.tolist() for column in some] == [
        [column[3], column[1]] for column in (c.tolist() for c in every)
    ]


def test_a_rollout_that_was_cut_short_of_a_burn_in() -> None:
    ended, column = np.zeros((3, 2), bool), np.ones((3, 2))
    found = columns_of(cut(ended, 8, 6), {"obs": column}, column[..., None], 6)
    assert not found["warm"].any() and found["before"].shape == (12,)
