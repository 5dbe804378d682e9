"""Stacks of pictures that are stored picture by picture, against the list of all that happened."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transitions import Stream, Transition, spec

from rlrun.buffers import PrioritizedConfig, UniformConfig, prioritized, uniform
from rlrun.buffers import ring as rings
from rlrun.buffers.cells import Cells, Frames
from rlrun.buffers.replay import footprint
from rlrun.buffers.ring import Ring
from rlrun.compute.device import Device, DeviceConfig
from rlrun.rundir.codec import decode, encode
from rlrun.types import Array, EnvSpec, Rollout, Space

CPU = Device(DeviceConfig(accelerator="cpu"))
GAMMA = 0.9
STACK, FRAME = 4, (3, 2)


def pictures(envs: int, dtype: type = np.uint8) -> EnvSpec:
    space = Space("box", (STACK, *FRAME), np.dtype(dtype), stack=STACK)
    return EnvSpec("pictures", space, Space("discrete", (), np.dtype(np.int64), n=9), num_envs=envs)


class Films(Stream):
    """Stacks of random pictures of two shades, so that some are like others.

    Args:
        start: what fills a stack at the start of an episode: "repeated", "black" or "any".
        jumps: probability of a stack that has nothing in common with the one before.
    """

    def __init__(self, env: EnvSpec, seed: int, start: str = "repeated", jumps: float = 0.0, **options: Any):
        self.start, self.jumps = start, jumps
        super().__init__(env, seed, **options)

    def picture(self) -> Array:
        return self.rng.integers(2, size=FRAME).astype(np.uint8)

    def first(self) -> Array:
        stack = np.stack([self.picture() for _ in range(STACK)])
        if self.start != "any":
            stack[:-1] = stack[-1] if self.start == "repeated" else 0
        return stack

    def observations(self, *shape: int) -> Array:
        found = np.zeros((*shape, STACK, *FRAME), np.uint8)
        for at in np.ndindex(shape):
            found[at] = self.first()
        return found

    def rollout(self, steps: int) -> Rollout:
        made, e = super().rollout(steps), self.env.num_envs
        begun = len(self.transitions) - steps * e
        for t, i in np.ndindex(steps, e):
            over = made.terminated[t, i] or made.truncated[t, i]
            following = np.concatenate([made.obs[t, i, 1:], self.picture()[None]])
            if self.rng.random() < self.jumps:
                following = self.first()
            if over:
                made.final_obs[t, i][...] = following  # type: ignore[index]
            else:
                made.obs[t + 1, i] = following
        for t, i in np.ndindex(steps, e):
            number = begun + t * e + i
            here = self.transitions[number]
            self.transitions[number] = Transition(
                made.obs[t, i], here.action, made.final_obs.get((t, i), made.obs[t + 1, i]), *here[3:]
            )
        self.obs = made.obs[-1].copy()
        return made


def must_hold(ring: Ring, stream: Stream) -> None:
    held = min(len(stream.transitions), ring.capacity)
    steps = ring.take(np.arange(len(ring)))
    assert len(steps) == held
    obs, next_obs = ring.observations(steps), ring.next_observations(steps)
    for slot, number in enumerate(steps["number"].tolist()):
        expected = stream.transitions[number]
        assert (obs[slot] == expected.obs).all() and (next_obs[slot] == expected.next_obs).all()


CASES = [
    (envs, start, jumps, anew)
    for envs in (1, 3)
    for start, jumps, anew in [("repeated", 0, 0), ("black", 0, 0.5), ("any", 0.2, 0.3)]
]


@pytest.mark.parametrize(("envs", "start", "jumps", "anew"), CASES)
@pytest.mark.parametrize("rows", [1, 2, 7, 12])
def test_every_stack_is_the_one_that_was_seen(rows: int, envs: int, start: str, jumps: float, anew: float) -> None:
    """Through wraps, ends of episodes, rollouts longer than the ring and environments that are started anew."""
    for seed in range(3):
        env = pictures(envs)
        ring, stream = Ring(rows * envs, env, gamma=GAMMA), Films(env, seed, start, jumps, anew=anew)
        assert type(ring.cells) is Frames
        for steps in (1, 2, 1, 3, 7, 4, 1, 20, 6, 8, 2):
            ring.add(stream.rollout(steps))
            must_hold(ring, stream)


def test_one_picture_is_stored_for_each_step_and_two_for_each_episode() -> None:
    """An episode's first pictures are one repeated; the last one of it comes beside."""
    env = pictures(2)
    ring, stream = Ring(40, env, gamma=GAMMA), Films(env, 0)
    for _ in range(30):
        ring.add(stream.rollout(5))
    assert len(ring.cells.kept) - ring.cells.in_rows >= ring.cells._apart
    assert ring.cells.in_rows == 40 + 2 * STACK
    ends = sum(each.stops for each in stream.transitions[-40:])
    assert ring.cells._apart - len(ring.cells._free) == ends


def test_what_is_declared_is_what_is_stored() -> None:
    """A picture and where the one before lies; an action, two numbers, its own number and where it goes on."""
    for cfg, own, file in (
        (UniformConfig(capacity=1000), 0, False),
        (PrioritizedConfig(capacity=1000), 9, False),
        (UniformConfig(capacity=1000, storage="memmap"), 0, True),
    ):
        needs = footprint(cfg, pictures(2))
        assert [need.on_disk for need in needs] == ([False, True] if file else [False])
        assert sum(need.bytes for need in needs) == 1000 * (6 + 8 + 8 + 2 * 4 + 2 * 8 + own)


def test_cells_of_what_was_overwritten_are_used_again() -> None:
    env = pictures(2)
    ring, stream = Ring(40, env, gamma=GAMMA), Films(env, 0, "any", jumps=0.5, ends=0.5)
    for _ in range(200):
        ring.add(stream.rollout(5))
    assert ring.cells._apart < 40 * STACK + (40 + 2 * STACK) * (STACK - 1)
    assert len(set(ring.cells._free)) == len(ring.cells._free)
    must_hold(ring, stream)


@pytest.mark.parametrize("envs", [1, 8])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_batches_are_folded_and_stacked(kind: str, n: int, envs: int) -> None:
    rng, env = np.random.default_rng(0), pictures(envs)
    if kind == "uniform":
        cfg: Any = UniformConfig(capacity=20 * envs, n_step=n)
        buffer = uniform(cfg, env, gamma=GAMMA, rng=rng, device=CPU)
    else:
        cfg = PrioritizedConfig(capacity=20 * envs, n_step=n)
        buffer = prioritized(cfg, env, gamma=GAMMA, rng=rng, device=CPU, total_timesteps=1000)
    stream = Films(env, 1, "black", anew=0.2)
    for rollout in stream.rollouts(16, 9, 8, 30):
        buffer.add(rollout)
        batch = buffer.sample(16)
        assert batch.obs.shape == batch.next_obs.shape == (16, STACK, *FRAME) and batch.obs.dtype == torch.uint8
        for i, number in enumerate(batch.index.tolist()):
            next_obs, reward, discount = stream.folded(number, n, GAMMA)
            assert (batch.obs[i].numpy() == stream.transitions[number].obs).all()
            assert (batch.next_obs[i].numpy() == next_obs).all()
            assert batch.reward[i].item() == pytest.approx(reward, abs=1e-5)
            assert batch.discount[i].item() == pytest.approx(discount, rel=1e-6)


def test_other_observations_are_kept_whole() -> None:
    assert type(Ring(9, pictures(1, np.float32), gamma=GAMMA).cells) is Cells
    assert type(Ring(9, spec(1), gamma=GAMMA).cells) is Cells


# State.


@pytest.mark.parametrize("block", [1, 200, 10**6])
@pytest.mark.parametrize(("envs", "start", "jumps", "anew"), CASES)
def test_a_restored_ring_is_the_one_it_was(
    envs: int, start: str, jumps: float, anew: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rings, "BLOCK_BYTES", block)
    env = pictures(envs)
    ring, stream = Ring(11 * envs, env, gamma=GAMMA), Films(env, 1, start, jumps, anew=anew)
    for steps in (0, 3, 5, 9, 4, 30, 2, 1):
        if steps:
            ring.add(stream.rollout(steps))
        other = Ring(11 * envs, env, gamma=GAMMA)
        other.load_state_dict(copy.deepcopy(decode(*encode(ring.state_dict()))))
        must_hold(other, stream)
        plain, arrays = encode(ring.state_dict())
        again, theirs = encode(other.state_dict())
        assert plain == again and all(np.array_equal(arrays[name], theirs[name]) for name in arrays)
        ring = other  # and goes on


def test_a_sealed_block_holds_what_it_held_whatever_became_of_the_rows_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest row moves on through blocks that are not saved anew."""
    monkeypatch.setattr(rings, "BLOCK_BYTES", 1)
    env = pictures(1)
    ring, stream, files = Ring(9, env, gamma=GAMMA), Films(env, 2, "any", ends=0.2), {}
    for _ in range(40):
        ring.add(stream.rollout(1))
        state = ring.state_dict()
        for number, block in enumerate(state["blocks"]):
            if block.seal is None:
                files[number], block.seal = encode(dict(block.contents())), {}
        state["blocks"] = [rings.Block(lambda n=n: decode(*files[n])) for n in range(len(state["blocks"]))]
        other = Ring(9, env, gamma=GAMMA)
        other.load_state_dict(state)
        must_hold(other, stream)


def test_whole_stacks_of_an_older_checkpoint_are_taken_over() -> None:
    env = pictures(2)
    ring, stream = Ring(14, env, gamma=GAMMA), Films(env, 3)
    for rollout in stream.rollouts(5, 4, 2):
        ring.add(rollout)
    state = ring.state_dict()
    contents = [dict(block.contents()) for block in state["blocks"]]
    for number, found in enumerate(contents):
        slots = np.arange(number * ring._block, number * ring._block + len(found["reward"]))
        found |= {"obs": ring.observations(ring.take(slots))}
        del found["begun"], found["older"]
    old = {"stored": 22, "newest": state["newest"], "blocks": [rings.Block(lambda c=c: c) for c in contents]}
    other = Ring(14, env, gamma=GAMMA)
    other.load_state_dict(old)
    must_hold(other, stream)
    other.add(stream.rollout(3))
    must_hold(other, stream)
