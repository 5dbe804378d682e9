"""Buffers of items: what they hold, how they draw, and that PTAN's mistakes are not made."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch

from rlrun.agents import BaseAgent
from rlrun.envs.toy import CountingEnv
from rlrun.errors import RlrunError
from rlrun.experience import (
    ExperienceReplayBuffer,
    ExperienceSource,
    ExperienceSourceBuffer,
    ExperienceSourceFirstLast,
    PrioritizedReplayBuffer,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Idle(BaseAgent):
    def __call__(self, states: Any, agent_states: Any = None) -> Any:
        return [0] * len(states), agent_states


def test_a_buffer_is_fed_by_its_source_and_keeps_the_newest() -> None:
    buffer = ExperienceReplayBuffer(ExperienceSourceFirstLast(CountingEnv(4), Idle(), gamma=1.0), buffer_size=5)
    assert len(buffer) == 0
    buffer.populate(3)
    assert len(buffer) == 3
    buffer.populate(4)
    assert [item.reward for item in buffer] == [3, 4, 1, 2, 3]  # the oldest first
    assert {item.reward for item in buffer.sample(5)} <= {1, 2, 3, 4}
    assert isinstance(buffer.sample(5), list)


def test_all_items_are_equally_likely() -> None:
    buffer = ExperienceReplayBuffer(None, 10, rng())
    for item in range(14):
        buffer.add(item)
    drawn = np.bincount(np.concatenate([buffer.sample(10) for _ in range(1000)]), minlength=14) / 10_000
    assert not drawn[:4].any()
    assert drawn[4:] == pytest.approx(0.1, abs=0.015)
    without = ExperienceReplayBuffer(iter(range(10)), 10, replacement=False)
    without.populate(10)
    assert sorted(without.sample(10)) == list(range(10))


@pytest.mark.parametrize("kind", [ExperienceReplayBuffer, PrioritizedReplayBuffer])
def test_what_cannot_be_drawn_is_said(kind: Any) -> None:
    """PTAN hands out the buffer's own list where it holds fewer than a batch."""
    buffer = kind(iter(range(3)), 10)
    with pytest.raises(RlrunError, match="holds 0"):
        buffer.sample(1)
    buffer.populate(3)
    with pytest.raises(RlrunError, match="a batch of 4 was asked of a buffer that holds 3"):
        buffer.sample(4)
    with pytest.raises(RlrunError, match="came to its end"):
        buffer.populate(1)
    with pytest.raises(RlrunError, match="no source"):
        kind(None, 10).populate(1)
    with pytest.raises(ValueError, match="buffer_size"):
        kind(None, 0)
    with pytest.raises(ValueError, match="batch_size=0"):
        buffer.sample(0)


def test_exponents_are_not_negative() -> None:
    with pytest.raises(ValueError, match="alpha"):
        PrioritizedReplayBuffer(None, 1, alpha=-0.5)
    with pytest.raises(ValueError, match="beta"):
        PrioritizedReplayBuffer(None, 1).sample(1, beta=-0.5)


def test_same_seed_same_items() -> None:
    def drawn(seed: int) -> list[int]:
        buffer = ExperienceReplayBuffer(iter(range(50)), 50, rng(seed))
        buffer.populate(50)
        return buffer.sample(20)

    assert drawn(0) == drawn(0) != drawn(1)


def test_priorities_are_proportional_and_weights_make_up_for_them() -> None:
    """P(i) = p_i^.5 / sum; w_i = (N P(i))^-b over the largest of the buffer. The newest slot can be drawn."""
    buffer = PrioritizedReplayBuffer(iter(range(8)), 8, alpha=0.5, rng=rng())
    buffer.populate(8)
    _, numbers, weights = buffer.sample(8)
    assert sorted(numbers) == list(range(8)) and (weights == 1).all()  # all new: all alike, and stratified
    buffer.update_priorities(np.arange(8), torch.arange(1.0, 9.0, requires_grad=True) ** 2)
    p = np.arange(1, 9) / 36
    counts, weights_of = np.zeros(8), np.zeros(8)
    for _ in range(500):
        items, numbers, weights = buffer.sample(8, beta=0.7)
        assert items == numbers.tolist()
        np.add.at(counts, numbers, 1)
        weights_of[numbers] = weights
    assert counts / counts.sum() == pytest.approx(p, abs=0.01)
    assert weights_of == pytest.approx((8 * p) ** -0.7 / (8 * p[0]) ** -0.7, rel=1e-5)


def test_new_items_are_as_likely_as_the_likeliest_so_far() -> None:
    buffer = PrioritizedReplayBuffer(iter(range(9)), 4, alpha=1.0, rng=rng())
    buffer.populate(4)
    buffer.update_priorities([0, 1, 2, 3], [1.0, 1.0, 1.0, 7.0])
    buffer.populate(1)  # 4 takes the place of 0
    counts = np.bincount(np.concatenate([buffer.sample(4)[1] for _ in range(500)]), minlength=5) / 2000
    assert counts == pytest.approx([0, 1 / 16, 1 / 16, 7 / 16, 7 / 16], abs=0.02)


def test_news_of_what_was_overwritten_does_no_harm() -> None:
    buffer = PrioritizedReplayBuffer(iter(range(6)), 4, alpha=1.0, rng=rng())
    buffer.populate(4)
    items, numbers, _ = buffer.sample(4)
    assert items == numbers.tolist()
    buffer.populate(2)  # 4 and 5 lie where 0 and 1 lay
    buffer.update_priorities([0, 1], [1e4, 1e4])
    counts = np.bincount(np.concatenate([buffer.sample(4)[1] for _ in range(200)]), minlength=6) / 800
    assert counts == pytest.approx([0, 0, 0.25, 0.25, 0.25, 0.25], abs=0.01)
    for wrong in ([1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="2 items need as many finite priorities"):
            buffer.update_priorities([2, 3], wrong)


def test_pieces_of_stored_episodes() -> None:
    """Every offset of every episode, the last one too; an episode that is too short comes whole."""
    episodes = list(islice(ExperienceSource([CountingEnv(5), CountingEnv(2)], Idle()).episodes(), 3))
    assert sorted(map(len, episodes)) == [2, 2, 5]
    drawn = list(islice(ExperienceSourceBuffer(episodes, steps_count=3, rng=rng()), 900))
    begins = [(len(piece), int(piece[0].state[0])) for piece in drawn]
    assert set(begins) == {(2, 0), (3, 0), (3, 1), (3, 2)}
    assert all(b.reward == a.reward + 1 for piece in drawn for a, b in pairwise(piece))
    assert begins.count((2, 0)) == pytest.approx(600, abs=60)
    assert begins.count((3, 2)) == pytest.approx(100, abs=40)
    source = ExperienceSourceBuffer([[1, 2, 3]], rng=rng())
    source.update_buffer([[4]])
    assert next(iter(source)) == [4]
    for wrong in ([], [[1], []]):
        with pytest.raises(ValueError, match="an episode"):
            ExperienceSourceBuffer(wrong)
