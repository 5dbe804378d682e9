"""The ring against the list of all that happened."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from transitions import RECORD, Stream, spec

from rlrun.blocks import Block
from rlrun.buffers import ring as rings
from rlrun.buffers.ring import Ring
from rlrun.rundir.codec import decode, encode

GAMMA = 0.9
CASES = [(1, None), (3, None), (2, RECORD)]  # environments, and what they show


def must_hold(ring: Ring, stream: Stream) -> None:
    """Every stored transition is the one that its number says, and they are the newest."""
    count = len(stream.transitions)
    held = min(count, ring.capacity)
    slots = np.arange(len(ring))
    assert sorted(ring.steps["number"][slots].tolist()) == list(range(count - held, count))
    steps = ring.take(slots)
    obs, next_obs = ring.observations(steps), ring.next_observations(steps)
    for slot, number in enumerate(steps["number"].tolist()):
        expected = stream.transitions[number]
        assert slot == number % ring.capacity
        assert obs[slot].tobytes() == expected.obs.tobytes()
        assert next_obs[slot].tobytes() == expected.next_obs.tobytes()
        assert (steps["action"][slot], steps["reward"][slot]) == (expected.action, expected.reward)
        assert steps["discount"][slot] == np.float32(0 if expected.terminated else GAMMA)
        newest = number >= count - ring.envs
        assert ring.stops(steps[slot]) == (expected.stops or newest)


@pytest.mark.parametrize(("envs", "dtype"), CASES)
@pytest.mark.parametrize("anew", [0.0, 0.5])
def test_the_ring_holds_the_newest_transitions(envs: int, dtype: np.dtype | None, anew: float) -> None:
    """Through wraps, rollouts that are longer than the ring, and environments that are started anew in between."""
    for seed in range(5):
        env = spec(envs, dtype)
        ring, stream = Ring(7 * envs, env, gamma=GAMMA), Stream(env, seed, anew=anew)
        must_hold(ring, stream)
        for steps in (1, 2, 1, 3, 7, 4, 1, 20, 6, 8, 2):
            first = len(stream.transitions)
            assert ring.add(stream.rollout(steps)) == range(first, first + steps * envs)
            must_hold(ring, stream)


def test_observations_at_ends_take_no_more_room_than_there_are_ends() -> None:
    """Cells of what was overwritten are used again."""
    env = spec(2)
    ring, stream = Ring(20, env, gamma=GAMMA), Stream(env, 0, ends=1.0)
    for rollout in stream.rollouts(*[3] * 50):
        ring.add(rollout)
    assert ring.cells._apart == 20
    must_hold(ring, stream)


def test_a_capacity_that_is_no_multiple_of_the_environments_is_rounded_up() -> None:
    assert [Ring(c, spec(4), gamma=GAMMA).capacity for c in (1, 4, 5, 1000)] == [4, 4, 8, 1000]


def test_an_observation_that_repeats_is_told_from_one_that_was_started_anew() -> None:
    """Bit by bit: NaN goes on as NaN, and in records what lies between the fields means nothing."""
    env = spec(1)
    ring, stream = Ring(9, env, gamma=GAMMA), Stream(env, 0, ends=0)
    rollout = stream.rollout(2)
    rollout.obs[-1] = np.nan
    ring.add(rollout)
    ring.add(rollout._replace(obs=rollout.obs[::-1].copy()))
    assert ring.stops(ring.take(np.arange(4))).tolist() == [False, False, False, True]

    gaps = spec(1, np.dtype({"names": ["a", "b"], "formats": ["u1", "f4"], "offsets": [0, 4]}))
    ring, stream = Ring(9, gaps, gamma=GAMMA), Stream(gaps, 0, ends=0)
    ring.add(stream.rollout(2))
    rollout = stream.rollout(1)
    obs = rollout.obs.astype(gaps.obs_space.dtype)
    obs.view(np.uint8).reshape(2, 8)[:, 1:4] = 99
    ring.add(rollout._replace(obs=obs))
    assert ring.stops(ring.take(np.arange(3))).tolist() == [False, False, True]


def test_late_news_of_what_was_overwritten_is_refused_and_counted() -> None:
    env = spec(2)
    ring, stream = Ring(6, env, gamma=GAMMA), Stream(env, 0)
    ring.add(stream.rollout(3))
    numbers = ring.take(np.arange(6))["number"]
    assert numbers.tolist() == [0, 1, 2, 3, 4, 5]
    ring.add(stream.rollout(1))
    assert ring.take(np.arange(6))["number"].tolist() == [6, 7, 2, 3, 4, 5]
    slots, there = ring.slots(np.array([5, 0, 2, 1]))
    assert there is not None
    assert slots.tolist() == [5, 2] and there.tolist() == [True, False, True, False]
    assert ring.late == 2
    ring.add(stream.rollout(6))
    assert ring.slots(numbers)[0].tolist() == []
    assert ring.late == 8


# State.


def copied(ring: Ring) -> Any:
    """A ring's state as it comes back from a file."""
    return copy.deepcopy(decode(*encode(ring.state_dict())))


@pytest.mark.parametrize(("envs", "dtype"), CASES)
@pytest.mark.parametrize("block", [1, 200, 10**6])
def test_a_restored_ring_is_the_one_it_was(
    envs: int, dtype: np.dtype | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rings, "BLOCK_BYTES", block)
    env = spec(envs, dtype)
    stream = Stream(env, 1, anew=0.2)
    ring = Ring(11 * envs, env, gamma=GAMMA)
    for steps in (0, 3, 5, 9, 4, 30):
        if steps:
            ring.add(stream.rollout(steps))
        other = Ring(11 * envs, env, gamma=GAMMA)
        other.load_state_dict(copied(ring))
        must_hold(other, stream)
        plain, arrays = encode(ring.state_dict())
        again, theirs = encode(other.state_dict())
        assert plain == again and all(np.array_equal(arrays[name], theirs[name]) for name in arrays)
        ring = other  # and goes on


def test_a_ring_can_be_put_back_to_its_own_state() -> None:
    env = spec(2)
    ring, stream = Ring(14, env, gamma=GAMMA), Stream(env, 3)
    for rollout in stream.rollouts(5, 4, 2):
        ring.add(rollout)
        ring.load_state_dict(ring.state_dict())
        must_hold(ring, stream)


@pytest.mark.parametrize("block", [1, 60])
def test_blocks_keep_their_seal_until_one_of_their_rows_changes(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings, "BLOCK_BYTES", block)  # one row, or two
    env = spec(1)
    stream, ring = Stream(env, 1, ends=0), Ring(8, env, gamma=GAMMA)

    def seal() -> list[Any]:
        before = [held.seal for held in ring.state_dict()["blocks"]]
        contents = [encode(dict(held.contents())) for held in ring._blocks]
        for held, (_, arrays) in zip(ring._blocks, contents, strict=True):
            held.seal = {"all": [array.tolist() for array in arrays.values()]}
        return before

    rows = ring._block
    for steps in (5, 1, 1, 2, 8, 3):
        first = len(stream.transitions)
        ring.add(stream.rollout(steps))
        touched = {n % 8 // rows for n in range(first, first + steps)}
        sealed = seal()
        assert [number for number, seal_ in enumerate(sealed) if seal_ is None] == sorted(touched)


def test_an_episode_cut_in_between_changes_the_block_of_the_row_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings, "BLOCK_BYTES", 1)
    env = spec(1)
    stream, ring = Stream(env, 1, ends=0, anew=1), Ring(8, env, gamma=GAMMA)
    ring.add(stream.rollout(2))
    for held in ring._blocks:
        held.seal = {}
    ring.add(stream.rollout(1))
    assert [held.seal for held in ring._blocks] == [{}, None, None]


def test_seals_come_back_with_the_blocks_unless_they_were_cut_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    env = spec(1)
    stream, ring = Stream(env, 1), Ring(8, env, gamma=GAMMA)
    monkeypatch.setattr(rings, "BLOCK_BYTES", 60)
    ring = Ring(8, env, gamma=GAMMA)
    ring.add(stream.rollout(7))
    state = ring.state_dict()
    state["blocks"] = [Block(held.contents, {"block": i}) for i, held in enumerate(state["blocks"])]
    for size, seals in ((60, [{"block": i} for i in range(4)]), (1, [None] * 7), (10**6, [None])):
        monkeypatch.setattr(rings, "BLOCK_BYTES", size)
        other = Ring(8, env, gamma=GAMMA)
        other.load_state_dict(state)
        must_hold(other, stream)
        assert [held.seal for held in other._blocks] == seals


def test_what_does_not_fit_is_refused() -> None:
    env = spec(2)
    ring, stream = Ring(8, env, gamma=GAMMA), Stream(env, 1)
    ring.add(stream.rollout(3))
    with pytest.raises(ValueError, match="a rollout of 2 environments, expected 1"):
        Ring(8, spec(1), gamma=GAMMA).add(stream.rollout(1))
    state = copied(ring)
    for smaller in (Ring(4, env, gamma=GAMMA), Ring(9, spec(3), gamma=GAMMA), Ring(8, spec(2, RECORD), gamma=GAMMA)):
        with pytest.raises(ValueError):
            smaller.load_state_dict(state)
    with pytest.raises(ValueError, match="6 transitions of 2 environments were saved of 8"):
        Ring(8, env, gamma=GAMMA).load_state_dict(state | {"stored": 8})
