"""The n-step fold against numbers worked by hand and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from rlrun.ops.nstep import fold


def window(*steps: tuple[float, float, bool]) -> tuple[np.ndarray, ...]:
    """(reward, discount, whether none follows) of the steps of one window."""
    reward, discount, last = (np.array(column)[:, None] for column in zip(*steps, strict=True))
    return reward.astype(np.float32), discount.astype(np.float32), last[:-1].astype(bool)


@pytest.mark.parametrize(
    ("steps", "folded"),
    [
        ([(1, 0.5, False)], (1, 0.5, 1)),
        ([(1, 0.0, True)], (1, 0, 1)),
        ([(1, 0.5, False), (2, 0.5, False), (4, 0.5, False)], (3, 0.125, 3)),  # 1 + 2/2 + 4/4
        ([(1, 0.5, False), (2, 0.0, True), (4, 0.5, False)], (2, 0, 2)),  # terminated: nothing follows
        ([(1, 0.5, False), (2, 0.5, True), (4, 0.5, False)], (2, 0.25, 2)),  # cut: what follows counts
        ([(1, 0.5, True), (2, 0.0, True), (4, 0.5, True)], (1, 0.5, 1)),
        ([(1, 0.5, False), (2, 0.5, False), (4, 0.0, True)], (3, 0, 3)),
        ([(1, 0.0, False), (2, 0.5, False)], (1, 0, 2)),  # gamma 0, not an end
    ],
)
def test_windows_worked_by_hand(steps: list[tuple[float, float, bool]], folded: tuple[float, float, int]) -> None:
    reward, discount, length = fold(*window(*steps))
    assert (reward.item(), discount.item(), length.item()) == folded
    assert (reward.dtype, discount.dtype, length.dtype) == (np.float32, np.float32, np.int64)


def test_many_windows_at_once_equal_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    n, gamma = 7, 0.97
    reward = rng.normal(size=(n, 40, 5)).astype(np.float32)
    terminated, cut = rng.random((2, n, 40, 5)) < 0.08
    discount = np.where(terminated, 0, gamma).astype(np.float32)
    last = (terminated | cut)[:-1]
    found = fold(reward, discount, last)
    for where in np.ndindex(40, 5):
        alone = fold(reward[:, *where], discount[:, *where], last[:, *where])
        assert list(alone) == [column[where] for column in found]  # bit by bit
        assert [value.dtype for value in alone] == [column.dtype for column in found]
        total, m = 0.0, 0
        while m < n:
            total += gamma**m * float(reward[m][where])
            m += 1
            if m < n and last[m - 1][where]:
                break
        following = 0.0 if terminated[m - 1][where] else gamma**m
        assert [column[where] for column in found] == [pytest.approx(total, abs=1e-6), pytest.approx(following), m]
