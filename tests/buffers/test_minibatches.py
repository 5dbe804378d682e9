"""Rollouts in minibatches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlrun.buffers import Minibatches
from rlrun.compute.device import Device, DeviceConfig
from rlrun.ops.fields import unbound

CPU = Device(DeviceConfig(accelerator="cpu"))


def minibatches(batch_size: int, epochs: int, normalize: str | None = None) -> list[dict[str, torch.Tensor]]:
    columns = {"obs": np.arange(24.0, dtype=np.float32).reshape(4, 3, 2), "x": np.arange(12.0).reshape(4, 3)}
    stacks = Minibatches(np.random.default_rng(0), CPU).flat(columns, batch_size, epochs, normalize)
    return [batch for stack in stacks for batch in unbound(stack)]


@pytest.mark.parametrize(("batch_size", "sizes"), [(5, [5, 5, 2]), (4, [4, 4, 4]), (12, [12]), (99, [12])])
def test_each_epoch_visits_every_transition_once(batch_size: int, sizes: list[int]) -> None:
    batches = minibatches(batch_size, epochs=2)
    assert [len(batch["x"]) for batch in batches] == sizes * 2
    for epoch in (batches[: len(sizes)], batches[len(sizes) :]):
        x = torch.cat([batch["x"] for batch in epoch])
        assert sorted(x.tolist()) == list(range(12))
        obs = torch.cat([batch["obs"] for batch in epoch])
        assert torch.equal(obs[:, 0], 2 * x.float()), "columns stay together"
    orders = [torch.cat([batch["x"] for batch in part]) for part in (batches[: len(sizes)], batches[len(sizes) :])]
    assert torch.equal(*orders) == (batch_size >= 12)


def test_a_column_is_normalised_within_its_minibatch() -> None:
    for batch in minibatches(4, epochs=2, normalize="x"):
        assert batch["x"].mean().item() == pytest.approx(0, abs=1e-6)
        assert batch["x"].std().item() == pytest.approx(1, abs=1e-6)
    assert [len(batch["x"]) for batch in minibatches(11, epochs=1, normalize="x")] == [11], "one alone has no spread"
