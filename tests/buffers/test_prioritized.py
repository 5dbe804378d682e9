"""Prioritised replay against the formulas of the paper, and its tree against plain sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transitions import Stream, spec

from rlrun.buffers import PrioritizedConfig, Replay, prioritized, samplers, sumtree
from rlrun.buffers.samplers import Prioritized
from rlrun.buffers.sumtree import SumTree
from rlrun.compute.device import Device, DeviceConfig
from rlrun.errors import ConfigError
from rlrun.rundir.codec import decode, encode
from rlrun.types import Batch

CPU = Device(DeviceConfig(accelerator="cpu"))
GAMMA = 0.9


# The tree.


@pytest.fixture(params=[None, 4])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees as they are, and with narrow groups: small ones of several levels."""
    if request.param:
        monkeypatch.setattr(sumtree, "WIDTH", request.param)
        monkeypatch.setattr(sumtree, "TOP", request.param)


@pytest.mark.parametrize("capacity", [1, 3, 64, 65, 1000])
def test_a_value_leads_to_the_slot_where_the_running_sum_goes_beyond_it(capacity: int, width: None) -> None:
    rng, tree, plain = np.random.default_rng(0), SumTree(capacity), np.zeros(capacity, np.int64)
    for _ in range(20):
        slots = rng.integers(capacity, size=7)
        masses = rng.integers(1, 6, size=7)
        tree.put(slots, masses)
        plain[slots] = masses
        start = int(rng.integers(capacity))
        stop = int(rng.integers(start, capacity)) + 1
        tree.fill(start, stop, 3)
        plain[start:stop] = 3
        assert tree.masses.tolist() == plain.tolist()
        assert (tree.total, tree.smallest) == (plain.sum(), plain[plain > 0].min())
        values = rng.permutation(tree.total)
        assert tree.find(values).tolist() == np.repeat(np.arange(capacity), plain)[values].tolist()
        other = SumTree(capacity)
        other.load(plain)
        assert other.smallest == tree.smallest
        assert [a.tolist() for a in other._levels] == [a.tolist() for a in tree._levels]


def test_many_values_are_searched_for_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sumtree, "AT_ONCE", 3)
    tree = SumTree(5)
    tree.fill(0, 5, 2)
    assert tree.find(np.arange(tree.total)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


# Drawing.


def made(capacity: int, envs: int = 1, seed: int = 0, total_timesteps: int = 1000, **options: Any) -> Replay:
    cfg, rng = PrioritizedConfig(capacity=capacity, **options), np.random.default_rng(seed)
    return prioritized(cfg, spec(envs), gamma=GAMMA, rng=rng, device=CPU, total_timesteps=total_timesteps)


def filled(capacity: int, **options: Any) -> Replay:
    buffer = made(capacity, **options)
    buffer.add(Stream(spec(1), 0).rollout(capacity))
    return buffer


def shares(buffer: Replay) -> np.ndarray:
    """P(i) of every slot."""
    masses = buffer.sampler.tree.masses  # type: ignore[attr-defined]
    return masses / masses.sum()


def test_the_chance_of_a_transition_is_the_papers() -> None:
    """P(i) = p_i^alpha / sum p^alpha with p = |TD| + 1e-6; 8 slots, the newest included, 40 000 draws."""
    buffer, td = filled(8), np.array([0, 0.1, -0.5, 1, 2, -3, 50, 7])
    buffer.update_priorities(torch.arange(8), torch.tensor(td))
    p = (np.abs(td) + 1e-6) ** 0.6
    assert shares(buffer) == pytest.approx(p / p.sum(), rel=2e-4)
    drawn = torch.cat([buffer.sample(8).index for _ in range(5000)])
    counts = torch.bincount(drawn, minlength=8).numpy()
    assert counts / 40_000 == pytest.approx(p / p.sum(), abs=0.005)
    assert counts[7] > 0


def test_a_batch_has_one_of_each_equal_part() -> None:
    """Of 8 equally likely transitions a batch of 8 has every one, of 4 one of each pair."""
    buffer = filled(8)
    for _ in range(50):
        assert buffer.sample(8).index.tolist() == list(range(8))
        assert (buffer.sample(4).index // 2).tolist() == list(range(4))


@pytest.mark.parametrize("normalize", ["buffer", "batch"])
def test_weights_are_the_papers(normalize: str) -> None:
    """w_i = (N P(i))^-beta / max w, of all that is stored or of the batch; beta goes from .4 to 1."""
    buffer, td = made(10, total_timesteps=80, normalize=normalize), np.linspace(0.1, 3, 8)
    stream = Stream(spec(1), 0)
    buffer.add(stream.rollout(8))
    for beta, more in ((0.4 + 0.6 * 8 / 80, 40), (0.4 + 0.6 * 48 / 80, 60), (1.0, 0)):
        newest = int(buffer.ring.steps["number"].max()) if len(buffer) == 10 else 7
        buffer.update_priorities(torch.arange(newest - 7, newest + 1), torch.tensor(td))
        batch = buffer.sample(3)
        weight = (len(buffer) * shares(buffer)[: len(buffer)]) ** -beta
        chosen = weight[batch.index.numpy() % 10]
        largest = weight.max() if normalize == "buffer" else chosen.max()
        assert batch.weight.numpy() == pytest.approx(chosen / largest, rel=1e-5)
        if more:
            buffer.add(stream.rollout(more))


def test_without_alpha_all_are_equal() -> None:
    buffer = filled(50, alpha=0.0)
    buffer.update_priorities(torch.arange(50), torch.arange(50.0))
    assert shares(buffer).tolist() == [1 / 50] * 50
    assert buffer.sample(20).weight.tolist() == [1] * 20


def test_what_is_new_has_the_largest_priority_there_has_been() -> None:
    buffer, stream = made(4), Stream(spec(1), 0)
    masses = buffer.sampler.tree.masses  # type: ignore[attr-defined]
    buffer.add(stream.rollout(3))
    one = masses[0]
    assert masses.tolist() == [one, one, one, 0]
    buffer.update_priorities(torch.tensor([0, 1, 2]), torch.tensor([9.0, 0.1, 0.1]))
    buffer.update_priorities(torch.tensor([0]), torch.tensor([0.5]))
    buffer.add(stream.rollout(1))
    assert masses[3] == pytest.approx(one * 9**0.6, rel=1e-6)
    buffer.add(stream.rollout(9))
    assert masses.tolist() == [masses[3]] * 4


def test_news_of_what_was_overwritten_changes_nothing() -> None:
    buffer, stream = made(4), Stream(spec(1), 0)
    buffer.add(stream.rollout(4))
    batch = buffer.sample(4)
    buffer.add(stream.rollout(2))
    before = shares(buffer).tolist()
    buffer.update_priorities(batch.index[:2], torch.tensor([99.0, 99.0]))
    assert shares(buffer).tolist() == before
    assert buffer.ring.late == 2


@pytest.mark.parametrize("error", [0.0, 1e30, float("inf"), float("nan"), -1e-30])
def test_any_error_leaves_a_transition_that_can_be_drawn(error: float) -> None:
    sampler = Prioritized(10**9, np.random.default_rng(0), alpha=1.0, beta=lambda _: 1.0)
    sampler.__dict__["tree"] = tree = SumTree(70)
    sampler.add(range(70))
    sampler.weigh(np.arange(69), np.full(69, error))
    assert tree.masses.min() >= 1 and tree.masses.max() <= samplers.LARGEST * sampler.one
    assert set(sampler.draw(70, 20, 70).ravel().tolist()) >= {69 if abs(error) < 1 else 0}
    assert 10**9 * samplers.LARGEST * sampler.one < 2**62


def test_every_batch_is_drawn_by_what_is_known_of_those_before() -> None:
    """Where one error is by far the largest, the next batch consists of little else."""
    buffer, stacks = filled(64), []
    for stack in buffer.bursts(5, 16):
        stacks.append(stack.index.tolist())
        buffer.update_priorities(stack.index[0], torch.where(stack.index[0] == stack.index[0, 0], 1e6, 1e-3))
    assert [len(stack) for stack in stacks] == [1] * 5
    assert stacks[1][0].count(stacks[0][0][0]) > 8
    assert [len(stack.index) for stack in filled(64, ahead=3).bursts(5, 16)] == [3, 2]


@pytest.mark.parametrize(("n", "envs"), [(1, 1), (3, 1), (3, 8)])
def test_transitions_are_folded_as_in_uniform_replay(n: int, envs: int) -> None:
    buffer, stream = made(20 * envs, envs, n_step=n), Stream(spec(envs), 0, anew=0.2)
    for rollout in stream.rollouts(12, 9, 8, 30):
        buffer.add(rollout)
        batch = buffer.sample(10)
        for i, number in enumerate(batch.index.tolist()):
            next_obs, reward, discount = stream.folded(number, n, GAMMA)
            assert batch.next_obs[i].tolist() == next_obs.tolist()
            assert batch.reward[i].item() == pytest.approx(reward, abs=1e-5)
            assert batch.discount[i].item() == pytest.approx(discount, rel=1e-6)


# State.


def equal(one: Batch, other: Batch) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("steps", [5, 30])
def test_a_restored_replay_goes_on_with_the_same_draws(steps: int) -> None:
    first, stream = made(24, 2, n_step=2), Stream(spec(2), 0)
    first.add(stream.rollout(steps))
    batch = first.sample(6)
    first.update_priorities(batch.index, torch.linspace(0, 20, 6))
    second = made(24, 2, seed=5, n_step=2)
    second.load_state_dict(decode(*encode(first.state_dict())))
    later = stream.rollout(3)
    for buffer in (first, second):
        buffer.add(later)
    for _ in range(3):
        one, other = first.sample(6), second.sample(6)
        assert equal(one, other)
        for buffer in (first, second):
            buffer.update_priorities(one.index, torch.arange(6.0))


def test_without_contents_a_restored_replay_begins_anew_at_the_same_age() -> None:
    first = filled(6)
    first.update_priorities(torch.arange(6), torch.full((6,), 5.0))
    second = made(6, seed=5)
    second.load_state_dict(first.state_dict(contents=False))
    assert (len(second), second.sampler.added) == (0, 6)
    second.add(Stream(spec(1), 1).rollout(2))
    assert second.sample(2).index.tolist() == [0, 1]
    assert shares(second).tolist() == [0.5, 0.5, 0, 0, 0, 0]


def test_what_does_not_fit_is_refused() -> None:
    state = filled(6).state_dict()
    with pytest.raises(ValueError, match="priorities of 6 transitions were saved, expected 5 or fewer"):
        made(5).sampler.load_state_dict(state)
    with pytest.raises(ValueError, match="priorities"):
        made(6).sampler.load_state_dict(state | {"masses": np.zeros(6, np.int64)})
    with pytest.raises(ConfigError, match=r"buffer.n_step: 5 steps are more than the 4 of each environment"):
        made(12, 3, n_step=5)
    for wrong in ({"alpha": 1.5}, {"normalize": "all"}, {"ahead": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            PrioritizedConfig(**wrong)  # type: ignore[arg-type]
