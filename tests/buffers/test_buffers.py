"""The ring against a plain list of transitions, and rollouts in minibatches."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch

from rlrun.buffers import RolloutBuffer, RolloutBufferConfig, UniformConfig, UniformRing
from rlrun.compute.device import Device, DeviceConfig
from rlrun.errors import ConfigError, RlrunError
from rlrun.rundir.codec import decode, encode
from rlrun.types import EnvSpec, Rollout, Space

CPU = Device(DeviceConfig(accelerator="cpu"))
SPEC = EnvSpec("test", Space("box", (1,), np.dtype(np.float32)), Space("discrete", (), np.dtype(np.int64), n=9))
GAMMA = 0.9


def ring(capacity: int, seed: int = 0, **options: object) -> UniformRing:
    cfg = UniformConfig(capacity=capacity, **options)  # type: ignore[arg-type]
    return UniformRing(cfg, SPEC, gamma=GAMMA, rng=np.random.default_rng(seed), device=CPU)


def rollout(first: int, steps: int, envs: int, ends: dict[tuple[int, int], str] | None = None) -> Rollout:
    """Observations count up from `first` by 1 per step and by 100 per env; `ends` are "terminated" or "truncated"."""
    ends = ends or {}
    obs = first + np.arange(steps + 1)[:, None] + 100.0 * np.arange(envs)
    flags = {name: np.zeros((steps, envs), bool) for name in ("terminated", "truncated")}
    for where, name in ends.items():
        flags[name][where] = True
    return Rollout(
        obs[..., None].astype(np.float32),
        (np.arange(steps * envs).reshape(steps, envs) % 9),
        obs[:-1].astype(np.float32) * 2,
        flags["terminated"],
        flags["truncated"],
        {where: np.array([-1.0], np.float32) for where in ends},
        {},
    )


def transitions(data: Rollout) -> list[tuple[float, ...]]:
    """(obs, action, next_obs, reward, discount) one by one: what the ring must hold."""
    steps, envs = data.reward.shape
    return [
        (
            data.obs[t, e, 0],
            data.action[t, e],
            data.final_obs.get((t, e), data.obs[t + 1, e])[0],
            data.reward[t, e],
            0.0 if data.terminated[t, e] else np.float32(GAMMA),
        )
        for t in range(steps)
        for e in range(envs)
    ]


def held(buffer: UniformRing) -> list[tuple[float, ...]]:
    rows = range(len(buffer))
    return [
        (buffer.obs[i, 0], buffer.action[i], buffer.next_obs[i, 0], buffer.reward[i], buffer.discount[i]) for i in rows
    ]


def test_the_ring_holds_the_newest_transitions() -> None:
    """A terminated step has discount 0, a truncated one keeps it, both lead to the true last observation."""
    buffer, expected = ring(7), deque[tuple[float, ...]](maxlen=7)
    for first, steps, ends in ((0, 2, {}), (2, 1, {(0, 1): "terminated"}), (3, 3, {(1, 0): "truncated"}), (6, 1, {})):
        data = rollout(first, steps, 2, ends)
        buffer.add(data)
        expected.extend(transitions(data))
        assert sorted(held(buffer)) == sorted(expected)
    assert len(buffer) == 7


def test_a_rollout_longer_than_the_ring_leaves_its_end() -> None:
    buffer, data = ring(5), rollout(0, 13, 1)
    buffer.add(data)
    assert sorted(held(buffer)) == sorted(transitions(data)[-5:])


def test_a_batch_consists_of_stored_transitions() -> None:
    buffer, data = ring(50), rollout(0, 20, 2, {(4, 1): "terminated", (9, 0): "truncated"})
    buffer.add(data)
    known = set(transitions(data))
    for batch in buffer.batches(3, 16):
        rows = zip(
            batch.obs[:, 0].tolist(),
            batch.action.tolist(),
            batch.next_obs[:, 0].tolist(),
            batch.reward.tolist(),
            batch.discount.tolist(),
            strict=True,
        )
        assert {(o, a, n, r, np.float32(d)) for o, a, n, r, d in rows} <= known
        assert batch.weight.tolist() == [1.0] * 16
        assert torch.equal(torch.from_numpy(buffer.obs[batch.index.numpy()]), batch.obs)


def test_every_slot_is_drawn_equally_often() -> None:
    """8 slots, 40 000 draws: 5000 each, standard deviation 66."""
    buffer = ring(8)
    buffer.add(rollout(0, 8, 1))
    drawn = torch.cat([batch.index for batch in buffer.batches(1000, 40)]) if len(buffer) >= 40 else None
    assert drawn is None
    drawn = torch.cat([batch.index for batch in buffer.batches(5000, 8)])
    assert torch.bincount(drawn, minlength=8).sub(5000).abs().max() < 300


def test_without_replacement_no_transition_comes_twice() -> None:
    buffer = ring(10, replacement=False)
    buffer.add(rollout(0, 10, 1))
    for batch in buffer.batches(20, 10):
        assert sorted(batch.index.tolist()) == list(range(10))


def test_more_than_there_is_cannot_be_drawn() -> None:
    buffer = ring(10)
    buffer.add(rollout(0, 3, 1))
    with pytest.raises(RlrunError, match="a batch of 4 was asked of a buffer that holds 3 transitions"):
        buffer.sample(4)
    with pytest.raises(ConfigError, match="capacity: must be at least 1"):
        UniformConfig(capacity=0)


def test_a_restored_ring_goes_on_with_the_same_draws() -> None:
    first = ring(6)
    first.add(rollout(0, 4, 2))
    first.sample(3)
    second = ring(6, seed=5)
    second.load_state_dict(decode(*encode(first.state_dict())))
    for buffer in (first, second):
        buffer.add(rollout(20, 1, 2))
    one, other = first.sample(5), second.sample(5)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_without_contents_only_the_stream_is_kept() -> None:
    first = ring(6)
    first.add(rollout(0, 4, 1))
    state = first.state_dict(contents=False)
    second = ring(6, seed=5)
    second.load_state_dict(state)
    assert len(second) == 0
    assert second.rng.random() == first.rng.random()


def minibatches(batch_size: int, epochs: int, normalize: str | None = None) -> list[dict[str, torch.Tensor]]:
    buffer = RolloutBuffer(RolloutBufferConfig(), SPEC, gamma=GAMMA, rng=np.random.default_rng(0), device=CPU)
    columns = {"obs": np.arange(24.0, dtype=np.float32).reshape(4, 3, 2), "x": np.arange(12.0).reshape(4, 3)}
    return list(buffer.minibatches(columns, batch_size, epochs, normalize))


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
