"""Sequences from a ring against the list of all that happened."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transitions import Stream, spec

from rlrun.buffers import PrioritizedConfig, Replay, UniformConfig, prioritized, uniform
from rlrun.buffers.paths import paths
from rlrun.buffers.ring import Ring
from rlrun.compute.device import Device, DeviceConfig
from rlrun.rundir.codec import decode, encode
from rlrun.types import Rollout

CPU = Device(DeviceConfig(accelerator="cpu"))
GAMMA = 0.9


class Remembering(Stream):
    """The memory before a step is its number and how old its episode is."""

    ages: list[int]

    def rollout(self, steps: int) -> Rollout:
        begun, envs = len(self.transitions), self.env.num_envs
        made = super().rollout(steps)
        self.ages = getattr(self, "ages", [])
        for number in range(begun, begun + steps * envs):
            before = number - envs
            new = before < 0 or self.transitions[before].stops
            self.ages.append(0 if new else self.ages[before] + 1)
        numbers = np.arange(begun, begun + steps * envs)
        memory = np.stack([numbers, np.array(self.ages[begun:])], 1).reshape(steps, envs, 2).astype(np.float32)
        return made._replace(extras={"memory": memory})


def must_hold(ring: Ring, stream: Remembering, length: int, burn_in: int, n: int) -> None:
    slots, envs = np.arange(len(ring)), ring.envs
    found = paths(ring, slots, length, burn_in, n)
    drawn, oldest = ring.take(slots)["number"], ring.added - len(ring)
    path = ring.cells.take(found.cells)
    names = ("number", "reward", "discount", "share")
    rows = {name: getattr(found, name).reshape(length, len(slots)) for name in names}
    place, following = (column.reshape(length, -1) for column in (found.place, found.following))
    before = ring.cells.take(found.before).reshape(burn_in, len(slots), 3)
    for b, number in enumerate(drawn.tolist()):
        start = number
        while stream.ages[start] % length and start - envs >= oldest:
            start -= envs
        assert stream.ages[start] <= stream.ages[number] < stream.ages[start] + length
        at, since = start, start
        for row in range(length):
            if rows["number"][row, b] < 0:
                assert rows["share"][row, b] == 0 and row > 0
                assert stream.transitions[at - envs].stops or at >= ring.added
                assert (rows["number"][row:, b] == -1).all()
                break
            assert rows["number"][row, b] == at
            next_obs, reward, discount = stream.folded(at, n, GAMMA)
            assert path[place[row, b]].tolist() == stream.transitions[at].obs.tolist()
            assert path[following[row, b]].tolist() == next_obs.tolist()
            assert rows["reward"][row, b] == pytest.approx(reward, abs=1e-5)
            assert rows["discount"][row, b] == pytest.approx(discount, rel=1e-6)
            at += envs
        if found.warm[b, 0]:
            since = start - envs * burn_in
            assert stream.ages[since] == stream.ages[start] - burn_in and since >= oldest
            assert [x.tolist() for x in before[:, b]] == [
                stream.transitions[since + k * envs].obs.tolist() for k in range(burn_in)
            ]
        else:
            assert burn_in == 0 or stream.ages[start] < burn_in or start - envs * burn_in < oldest
        assert found.memory[b].tolist() == [since, stream.ages[since]]
    assert rows["share"].mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize(("length", "burn_in", "n"), [(1, 0, 1), (4, 0, 1), (4, 3, 2), (3, 3, 3), (20, 5, 1)])
def test_sequences_are_those_of_a_loop(envs: int, length: int, burn_in: int, n: int) -> None:
    env = spec(envs)
    ring, stream = Ring(25 * envs, env, gamma=GAMMA), Remembering(env, 0, anew=0.2)
    for steps in (1, 2, 9, 3, 20, 30, 1, 8):
        ring.add(stream.rollout(steps))
        must_hold(ring, stream, length, burn_in, n)
    other = Ring(25 * envs, env, gamma=GAMMA)
    other.load_state_dict(copy.deepcopy(decode(*encode(ring.state_dict()))))
    must_hold(other, stream, length, burn_in, n)
    other.add(stream.rollout(7))
    must_hold(other, stream, length, burn_in, n)


def made(kind: str, **options: Any) -> Replay:
    config, factory = {"uniform": (UniformConfig, uniform), "prioritized": (PrioritizedConfig, prioritized)}[kind]
    cfg: Any = config(capacity=60, **options)
    rng = np.random.default_rng(0)
    return factory(cfg, spec(2), gamma=GAMMA, rng=rng, device=CPU, total_timesteps=100)  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_a_batch_of_sequences(kind: str) -> None:
    buffer, stream = made(kind, n_step=2), Remembering(spec(2), 0)
    buffer.add(stream.rollout(40))
    for batch in buffer.sequences(3, 12, 4, 2):
        assert batch.reward.shape == batch.index.shape == batch.weight.shape == (1, 12)
        assert batch.obs["place"].shape == batch.next_obs["place"].shape == (1, 12)
        assert batch.obs["path"].shape == (1, 6 * 3, 3) and batch.obs["memory"].shape == (1, 3, 2)
        assert batch.obs["before"].shape == (1, 2 * 3, 3) and batch.obs["warm"].shape == (1, 3, 1)
        there = batch.index >= 0
        weight, share = batch.weight.reshape(4, 3), 12 / there.sum()
        assert (weight[~there.reshape(4, 3)] == 0).all()
        if kind == "uniform":
            assert weight[there.reshape(4, 3)].numpy() == pytest.approx(share.item(), rel=1e-6)
            continue
        masses = buffer.sampler.tree.masses  # type: ignore[attr-defined]
        held = batch.index.reshape(4, 3).numpy()
        means = [masses[column[column >= 0] % 60].mean() for column in held.T]
        expected = (masses[masses > 0].min() / np.array(means)) ** (0.4 + 0.6 * 80 / 100)
        assert weight[0].numpy() == pytest.approx(expected * share.item(), rel=1e-5)
        buffer.update_priorities(batch.index, torch.linspace(1, 3, 12)[None])
        later = 1e-6 + np.linspace(1, 3, 12, dtype=np.float32)[there[0].numpy()]
        last = dict(zip(batch.index[there].tolist(), later, strict=True))
        ratio = masses[[n % 60 for n in last]] / np.array(list(last.values())) ** 0.6
        assert ratio == pytest.approx(ratio[0], rel=1e-5)
    assert [len(each.index) for each in made(kind).sequences(0, 12, 4, 2)] == []


def test_every_step_is_learned_from_equally_often() -> None:
    """Episodes of 1 to 20 steps in sequences of 4: 24 000 draws of 60 steps, 400 each, standard deviation 20."""
    buffer, stream = made("uniform"), Remembering(spec(2), 3, ends=0.08)
    buffer.add(stream.rollout(30))
    counts = np.zeros(60)
    for batch in buffer.sequences(500, 4 * 48, 4, 0):
        rows = batch.index.reshape(4, 48)
        lengths = (rows >= 0).sum(0).float()
        for row in rows:
            there = row >= 0
            np.add.at(counts, row[there].numpy() % 60, 1 / lengths[there].numpy())
    assert np.abs(counts - 400).max() < 100
