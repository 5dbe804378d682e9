"""Batches from replay against the list of all that happened, and against what an earlier version drew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transitions import Stream, spec

from rlrun.buffers import Replay, UniformConfig, replay, uniform
from rlrun.buffers.ring import Ring
from rlrun.compute.device import Device, DeviceConfig
from rlrun.errors import ConfigError, RlrunError
from rlrun.ops.fields import unbound
from rlrun.rundir import checkpoints
from rlrun.rundir.codec import decode, encode
from rlrun.types import Batch, Rollout

CPU = Device(DeviceConfig(accelerator="cpu"))
GAMMA = 0.9
FLAT_RINGS = Path(__file__).parents[1] / "data" / "flat_rings"


def made(capacity: int, envs: int = 1, seed: int = 0, **options: Any) -> Replay:
    cfg = UniformConfig(capacity=capacity, **options)
    return uniform(cfg, spec(envs), gamma=GAMMA, rng=np.random.default_rng(seed), device=CPU)


def batches(buffer: Replay, count: int, batch_size: int) -> list[Batch]:
    return [batch for stack in buffer.bursts(count, batch_size) for batch in unbound(stack)]


def equal(one: Batch, other: Batch) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("envs", [1, 3])
def test_a_batch_consists_of_folded_transitions(n: int, envs: int) -> None:
    """Every drawn transition is that of the definition, through terminations, truncations, wraps, rollouts that were
    started anew, and windows that reach beyond what is known."""
    for seed in range(3):
        buffer, stream = made(20 * envs, envs, n_step=n), Stream(spec(envs), seed, anew=0.2)
        for rollout in stream.rollouts(2, 5, 1, 9, 3, 8, 40, 7):
            buffer.add(rollout)
            for batch in batches(buffer, 4, min(16, len(buffer))):
                for i, number in enumerate(batch.index.tolist()):
                    here = stream.transitions[number]
                    next_obs, reward, discount = stream.folded(number, n, GAMMA)
                    assert batch.obs[i].tolist() == here.obs.tolist()
                    assert batch.action[i] == here.action
                    assert batch.next_obs[i].tolist() == next_obs.tolist()
                    assert batch.reward[i].item() == pytest.approx(reward, abs=1e-5)
                    assert batch.discount[i].item() == pytest.approx(discount, rel=1e-6)
                    assert batch.weight[i] == 1
        assert buffer.sampler.added == len(stream.transitions)


def test_one_step_is_what_was_stored_to_the_last_bit() -> None:
    buffer, stream = made(50, 2), Stream(spec(2), 0)
    buffer.add(stream.rollout(25))
    batch = buffer.sample(50)
    drawn = [stream.transitions[number] for number in batch.index.tolist()]
    assert batch.reward.tolist() == [float(each.reward) for each in drawn]
    assert batch.discount.tolist() == [0.0 if each.terminated else float(np.float32(GAMMA)) for each in drawn]


def test_every_transition_is_drawn_equally_often() -> None:
    """8 slots, 40 000 draws: 5000 each, standard deviation 66."""
    buffer, stream = made(8), Stream(spec(1), 0)
    buffer.add(stream.rollout(8))
    drawn = torch.cat([batch.index for batch in batches(buffer, 5000, 8)])
    assert torch.bincount(drawn, minlength=8).sub(5000).abs().max() < 300


def test_without_replacement_no_transition_comes_twice() -> None:
    buffer = made(10, replacement=False)
    buffer.add(Stream(spec(1), 0).rollout(10))
    for batch in batches(buffer, 20, 10):
        assert sorted(batch.index.tolist()) == list(range(10))
    assert list(buffer.bursts(0, 10)) == []


def test_more_than_there_is_cannot_be_drawn() -> None:
    buffer = made(10)
    buffer.add(Stream(spec(1), 0).rollout(3))
    with pytest.raises(RlrunError, match="a batch of 4 was asked of a buffer that holds 3 transitions"):
        buffer.sample(4)
    with pytest.raises(ConfigError, match="capacity: must be at least 1"):
        UniformConfig(capacity=0)
    with pytest.raises(ConfigError, match="n_step"):
        UniformConfig(n_step=0)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("replacement", [True, False])
def test_a_burst_gathered_in_pieces_is_the_same_burst(
    n: int, replacement: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> list[Batch]:
        buffer = made(30, 2, n_step=n, replacement=replacement)
        for rollout in Stream(spec(2), 0).rollouts(9, 9):
            buffer.add(rollout)
        return [*batches(buffer, 7, 5), buffer.sample(4)]

    whole = drawn()
    for size in (1, 300, 700, 10**5):
        monkeypatch.setattr(replay, "BURST_BYTES", size)
        pieces = drawn()
        assert len(pieces) == len(whole) == 8
        assert all(map(equal, pieces, whole))


def test_stacks_hold_a_multiple_of_eight_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BURST_BYTES", 19 * 5 * 2 * (4 * 3 + 8 + 8))  # room for 19 batches
    buffer = made(30, 2)
    buffer.add(Stream(spec(2), 0).rollout(12))
    stacks = list(buffer.bursts(37, 5))
    assert [tuple(stack.index.shape) for stack in stacks] == [(16, 5), (16, 5), (5, 5)]
    assert all(column.shape[:2] == stack.index.shape for stack in stacks for column in stack)
    assert len(list(buffer.bursts(37, 100 // 5))) == 10, "4 batches of 20 at a time"


class Noting:
    """A sampler that wants to know, and notes what it hears."""

    added, ahead = 0, 3

    def __init__(self) -> None:
        self.news: list[tuple[list[int], list[float]]] = []

    def add(self, numbers: range) -> None:
        self.added += len(numbers)

    def draw(self, size: int, count: int, batch_size: int) -> np.ndarray:
        return np.arange(count * batch_size).reshape(count, batch_size) % size

    def weights(self, slots: np.ndarray, there: np.ndarray | None = None) -> np.ndarray:
        return slots.astype(np.float32)

    def weigh(self, slots: np.ndarray, td_error: np.ndarray) -> None:
        self.news.append((slots.tolist(), td_error.tolist()))

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        return {"added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.added = state["added"]


def test_news_of_errors_reach_the_sampler_unless_they_come_too_late() -> None:
    env = spec(1)
    sampler, stream = Noting(), Stream(env, 0)
    buffer = Replay(Ring(4, env, gamma=GAMMA), sampler, device=CPU)
    buffer.add(stream.rollout(4))
    batch = buffer.sample(4)
    buffer.update_priorities(batch.index, torch.tensor([0.0, 1.0, 2.0, 3.0]))
    buffer.add(stream.rollout(2))
    buffer.update_priorities(batch.index, torch.tensor([4.0, 5.0, 6.0, 7.0]))
    assert sampler.news == [([0, 1, 2, 3], [0, 1, 2, 3]), ([2, 3], [6, 7])]
    assert (sampler.added, buffer.ring.late) == (6, 2)
    assert batch.weight.tolist() == [0, 1, 2, 3]
    assert [len(stack.index) for stack in buffer.bursts(7, 2)] == [3, 3, 1], "it hears of three before the fourth"


# State.


def test_a_restored_replay_goes_on_with_the_same_draws() -> None:
    first, stream = made(12, 2, n_step=2), Stream(spec(2), 0)
    first.add(stream.rollout(4))
    first.sample(3)
    second = made(12, 2, seed=5, n_step=2)
    second.load_state_dict(decode(*encode(first.state_dict())))
    later = stream.rollout(3)
    for buffer in (first, second):
        buffer.add(later)
    assert equal(first.sample(5), second.sample(5))
    assert first.sampler.added == second.sampler.added == 14


def test_without_contents_only_the_stream_is_kept() -> None:
    first = made(6)
    first.add(Stream(spec(1), 0).rollout(4))
    first.sample(2)
    second = made(6, seed=5)
    second.load_state_dict(first.state_dict(contents=False))
    assert len(second) == 0
    assert second.sampler.added == 4
    assert second.sampler.state_dict() == first.sampler.state_dict()
    second.add(Stream(spec(1), 1).rollout(1))
    assert len(second) == 1


@pytest.mark.parametrize("name", ["filling", "full"])
def test_the_replay_of_an_old_checkpoint_goes_on_with_the_numbers_it_had(name: str) -> None:
    """Written by version 0.1.0, with what it then drew while more was added; 24 transitions of 2 environments."""
    (directory,) = (FLAT_RINGS / name).iterdir()
    state = checkpoints.load(directory)
    buffer = made(24, 2, seed=5)
    buffer.load_state_dict(state["buffer"])
    for then in state["later"]:
        buffer.add(Rollout(**then["rollout"], final_obs={(t, e): obs for t, e, obs in then["final_obs"]}, extras={}))
        for batch, (*columns, slot) in zip(batches(buffer, 3, 8), then["batches"], strict=True):
            assert torch.equal(batch.index % 24, slot)
            assert all(map(torch.equal, batch[:-1], columns))


@pytest.mark.parametrize("n", [1, 3])
def test_an_old_replay_of_no_whole_number_of_rows_keeps_its_transitions(n: int) -> None:
    """25 slots for 2 environments: of the oldest sweep one transition is left, which is left out."""
    (directory,) = (FLAT_RINGS / "uneven").iterdir()
    old = checkpoints.load(directory, ["buffer"])["buffer"]
    buffer = made(25, 2, n_step=n)
    buffer.load_state_dict(old)
    assert (buffer.capacity, len(buffer)) == (26, 24)
    slots = (old["position"] + 1 + np.arange(24)) % 25
    held = np.arange(24)
    steps = buffer.ring.take(held)
    for column in ("action", "reward", "discount"):
        assert np.array_equal(steps[column], old[column][slots])
    assert np.array_equal(buffer.ring.observations(steps), old["obs"][slots])
    assert np.array_equal(buffer.ring.next_observations(steps), old["next_obs"][slots])
    assert buffer.sample(8).index.max() < 24
