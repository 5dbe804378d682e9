"""Means of what updates return."""

from __future__ import annotations

import statistics

import pytest
import torch

from rlrun.compute.means import MAX_PENDING, UpdateMeans


@pytest.mark.parametrize("updates", [1, 3, MAX_PENDING, 2 * MAX_PENDING + 7])
def test_means_over_updates(updates: int) -> None:
    means, values = UpdateMeans(), [0.5 + i % 7 for i in range(updates)]
    assert means.take() == {}
    for value in values:
        means.add({"loss": torch.tensor(value), "learning_rate": value})
    taken = means.take()
    assert isinstance(taken["loss"], float)  # many small tensors that are kept split the memory of large ones
    assert taken["loss"] == pytest.approx(statistics.fmean(values))
    assert taken["learning_rate"] == pytest.approx(statistics.fmean(values))
    assert means.take() == {}


@pytest.mark.parametrize("pieces", [[4], [4, 4, 1], [0, 3], [0]])
def test_of_several_updates_each_counts_once(pieces: list[int]) -> None:
    """A piece of 0 stands for a single update, whose value has no axis."""
    means, values = UpdateMeans(), []
    for number, piece in enumerate(pieces):
        value = torch.arange(float(piece)) + number if piece else torch.tensor(10.0)
        values += value.reshape(-1).tolist()
        means.add({"loss": value})
    assert float(means.take()["loss"]) == pytest.approx(statistics.fmean(values))


def test_what_an_update_says_nothing_of_does_not_count() -> None:
    means = UpdateMeans()
    for said in ({"critic": torch.tensor(1.0)}, {"critic": torch.tensor(2.0), "actor": torch.tensor(7.0)}):
        means.add(said)
    assert means.take() == {"critic": 1.5, "actor": 7.0}
