"""Trajectories of single environments, as actors send them: a ring of the newest, to learn from once or many times.

A trajectory is T steps of one environment, whatever episodes end in it, and the observation behind the last. Letters: N
trajectories that there is room for, B of a batch, M numbers of an agent's memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from rlrun.buffers.sequences import cut
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, Rollout, StateDict


class Batch(NamedTuple):
    """B trajectories side by side, time-major."""

    columns: Mapping[str, Array]  # obs [T+1, B, *obs], memory [1, B, M] before the first step, all others [T, B, ...]
    cut: Mapping[tuple[int, int], Array]  # (t, b) -> the true last observation, where an episode was cut from outside


def trajectories(rollout: Rollout, recorded: Iterable[str], drawn: bool = False) -> Batch:
    """A rollout of E environments as E trajectories; the arrays are the rollout's own.

    Args:
        recorded: what the agent recorded that is kept, beside its memory and the noise that it acted with.
        drawn: what was drawn takes the place of the action (see ops/distributions.py).
    """
    extras = rollout.extras
    columns = {
        "obs": rollout.obs,
        "action": extras["drawn"] if drawn else rollout.action,
        "reward": rollout.reward,
        "terminated": rollout.terminated,
        "truncated": rollout.truncated,
        **{name: extras[name] for name in (*recorded, *{"noise"} & {*extras})},
    }
    if "memory" in extras:
        columns["memory"] = extras["memory"][:1]
    ends = rollout.final_obs.items()
    return Batch(columns, {where: obs for where, obs in ends if not rollout.terminated[where]})


class Trajectories:
    """The newest `capacity` trajectories, and how many of all have been taken to be learned from for the first time.

    Args:
        capacity: N.
        rng: draws those that are learned from once more.
    """

    def __init__(self, capacity: int, rng: np.random.Generator):
        self.capacity, self.rng = capacity, rng
        self.added, self.taken = 0, 0
        self.columns: dict[str, Array] = {}  # [T or more, N, ...]
        self.cut: dict[int, list[tuple[int, Array]]] = {}  # slot -> step and true last observation of episodes cut

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    @property
    def waiting(self) -> int:
        """How many have not been taken for the first time."""
        return self.added - self.taken

    def add(self, batch: Batch) -> None:
        """Copies of them, in place of the oldest.

        Raises:
            ValueError: there would be no room for all that are waiting.
        """
        count = batch.columns["reward"].shape[1]
        if self.waiting + count > self.capacity:
            raise ValueError(f"{self.waiting + count} trajectories are waiting, there is room for {self.capacity}")
        slots = (self.added + np.arange(count)) % self.capacity
        for name, column in batch.columns.items():
            if name not in self.columns:
                self.columns[name] = np.zeros((len(column), self.capacity, *column.shape[2:]), column.dtype)
            self.columns[name][:, slots] = column
        for slot in slots.tolist():
            self.cut.pop(slot, None)
        for (t, b), obs in batch.cut.items():
            self.cut.setdefault(int(slots[b]), []).append((t, obs.copy()))
        self.added += count

    def next(self, count: int) -> Batch:
        """The oldest of those that are waiting."""
        numbers = self.taken + np.arange(count)
        self.taken += count
        return self._of(numbers % self.capacity)

    def sample(self, count: int) -> Batch:
        """Any, each as likely, perhaps one twice."""
        return self._of(self.rng.integers(len(self), size=count))

    def _of(self, slots: Array) -> Batch:
        columns = {name: column.take(slots, axis=1) for name, column in self.columns.items()}
        places = enumerate(slots.tolist())
        return Batch(columns, {(t, b): obs for b, slot in places for t, obs in self.cut.get(slot, ())})

    def state_dict(self) -> StateDict:
        held = slice(len(self))
        return {
            "rng": generator_state(self.rng),
            "added": self.added,
            "taken": self.taken,
            "columns": {name: column[:, held].copy() for name, column in self.columns.items()},
            "cut": [[slot, t, obs] for slot, cuts in self.cut.items() for t, obs in cuts],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a state; ValueError if there is no room for what was saved."""
        self.added, self.taken = state["added"], state["taken"]
        self.columns, self.cut = {}, {}
        for name, column in state["columns"].items():
            if column.shape[1] != len(self):
                raise ValueError(f"{column.shape[1]} trajectories were saved, expected {len(self)}")
            self.columns[name] = np.zeros((len(column), self.capacity, *column.shape[2:]), column.dtype)
            self.columns[name][:, : len(self)] = column
        for slot, t, obs in state["cut"]:
            self.cut.setdefault(slot, []).append((t, obs))
        restore_generator(self.rng, state["rng"])


def rows(batch: Batch) -> tuple[Array, Array | None]:
    """All observations of a batch as rows [R, *obs], R = (T + 1) B + K: of each step those of all trajectories, then
    the K true last ones of episodes that were cut; and [K] the numbers t B + b of the steps that led to these."""
    obs = batch.columns["obs"]
    flat = obs.reshape(-1, *obs.shape[2:])
    if not batch.cut:
        return flat, None
    t, b = np.array(list(batch.cut)).T
    return np.concatenate([flat, np.stack(list(batch.cut.values()))]), t * obs.shape[1] + b


def unrolling(batch: Batch) -> dict[str, Array]:
    """What takes a network that remembers through the same rows (see `rlrun.networks.unrolled`).

    Every episode, as far as it lies in the batch, is a sequence of its own, with the observation behind its last step:
    grid [L x P] numbers of rows, place [R] where in the grid each row stands, memory [P, M] before each of P sequences.
    """
    columns = batch.columns
    ended = columns["terminated"] | columns["truncated"]
    steps, count = ended.shape
    pieces = cut(ended, steps)
    along, each = np.arange(pieces.steps.max() + 1)[:, None], np.arange(len(pieces.env))
    t = pieces.start + np.minimum(along, pieces.steps)  # [L, P]; beyond its end a sequence repeats the last row
    grid = t * count + pieces.env
    behind = {
        (int(start + length) - 1, int(env)): p for p, (env, start, length, _) in enumerate(zip(*pieces, strict=True))
    }
    place = np.zeros(((steps + 1) * count + len(batch.cut)), np.int64)
    inside = along < pieces.steps
    place[grid[inside]] = (along * len(each) + each)[inside]
    for b in range(count):
        p = behind[steps - 1, b]
        place[steps * count + b] = pieces.steps[p] * len(each) + p
    for k, where in enumerate(batch.cut):
        p = behind[where]
        place[(steps + 1) * count + k] = pieces.steps[p] * len(each) + p
        grid[pieces.steps[p] :, p] = (steps + 1) * count + k
    memory = np.where((pieces.start == 0)[:, None], columns["memory"][0, pieces.env], np.float32(0))
    return {"grid": grid.ravel(), "place": place, "memory": memory}
