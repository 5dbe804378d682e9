"""Books of a loop of one's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlrun.experience import RewardTracker, TBMeanTracker


class Writer:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []
        self.closed = False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


def test_means_of_so_many_values_and_of_what_is_left() -> None:
    writer = Writer()
    with TBMeanTracker(writer, batch_size=3) as tracker:
        for step, value in enumerate(
            [1, np.float32(2), torch.tensor([2.0, 4.0], requires_grad=True), 10, np.array([20, 30])]
        ):
            tracker.track("loss", value, step)
        tracker.track("q", 7, 9)
        assert writer.scalars == [("loss", 2.0, 2)]
    assert writer.scalars[1:] == [("loss", 17.5, 4), ("q", 7.0, 9)]
    assert writer.closed
    with pytest.raises(ValueError, match="batch_size"):
        TBMeanTracker(writer, 0)


def test_returns_are_told_and_judged_when_there_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer()
    with RewardTracker(writer, min_ts_diff=-1.0) as tracker:
        assert math.isnan(tracker.mean)
        judged = [tracker.reward(reward, 10 * reward, epsilon=0.5) for reward in range(1, 151)]
    assert judged[:30] == [None] * 30
    assert judged[30] == np.mean(range(1, 32))
    assert judged[-1] == tracker.mean == np.mean(range(51, 151))
    assert {name for name, _, _ in writer.scalars} == {"reward", "reward_100", "epsilon", "speed"}
    assert [value for name, value, _ in writer.scalars if name == "reward"] == list(range(1, 151))
    assert writer.closed
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("20: done 2 episodes, mean reward 1.500, speed ") and lines[1].endswith("f/s, eps 0.50")


def test_it_says_nothing_more_often_than_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = RewardTracker(min_ts_diff=1e6)
    for reward in range(50):
        tracker.reward(reward, reward)
    assert capsys.readouterr().out == ""
