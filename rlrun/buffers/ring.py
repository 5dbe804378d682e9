"""The storage behind replay: the newest transitions of E environments, time-major, in a ring of L rows of E.

    slot        l * E + e: row l is one sweep over the environments; there are C = L * E slots
    obs         [C + E + F, *obs]   cell `slot` holds what a transition began with; the cells behind hold what followed
                                    the newest row, and what followed the ends of episodes
    after       [C] int64           the cell that holds what a transition led to
    action      [C, *action]
    reward      [C] float32
    discount    [C] float32         gamma, or 0 where the episode terminated
    number      [C] int64           how many transitions were stored before this one

What came n steps later in the same environment lies n rows further: the next observation is that of the next row and is
stored once. Only where no row goes on is it kept apart, in the F cells, which are taken one after another; memory that
nothing was ever written into costs nothing.

A transition lies in the slot `number % C`. No number is used twice, so whoever comes late with news of a transition
that has been overwritten is told, and does no harm to the one that lies there now.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from rlrun.blocks import Block
from rlrun.footprint import transition
from rlrun.types import Array, EnvSpec, Rollout, StateDict

NOTHING: StateDict = {"stored": 0, "newest": None, "blocks": []}  # the state of an empty ring
COLUMNS = ("obs", "action", "reward", "discount")
BLOCK_BYTES = 2**20  # of a ring are saved together
MOST_BLOCKS = 512


class Ring:
    """The newest transitions of `env.num_envs` environments: `capacity` of them, rounded up to whole rows.

    The columns are allocated when they are first used: who only looks at a run needs no replay.
    """

    def __init__(self, capacity: int, env: EnvSpec, *, gamma: float):
        self.envs, self.gamma = env.num_envs, gamma
        self.capacity = -(-capacity // self.envs) * self.envs
        self.added = 0  # transitions so far: the number of the next one
        self.late = 0  # news of transitions that had been overwritten
        self._obs_space, self._action_space = env.obs_space, env.action_space
        self._row = slice(0)  # the slots of the newest row
        self._unbroken = True  # no episode ended in it
        self._beyond = self.capacity + np.arange(self.envs)  # the cells of what followed it
        self._apart = 0  # cells that have held an observation at an episode's end
        self._free: list[int] = []  # those of them that hold none now
        self.transition_bytes = transition(env, observations=1)
        rows = max(1, BLOCK_BYTES // (self.envs * self.transition_bytes), self.capacity // self.envs // MOST_BLOCKS)
        self._block = rows * self.envs  # slots
        self._blocks: list[Block] = []  # as far as there are transitions

    @cached_property
    def obs(self) -> Array:
        return self._cells(self.capacity + self.envs + self.capacity // 8)

    @cached_property
    def action(self) -> Array:
        return np.zeros((self.capacity, *self._action_space.shape), self._action_space.dtype)

    @cached_property
    def reward(self) -> Array:
        return np.zeros(self.capacity, np.float32)

    @cached_property
    def discount(self) -> Array:
        return np.zeros(self.capacity, np.float32)

    @cached_property
    def after(self) -> Array:
        return np.zeros(self.capacity, np.int64)

    @cached_property
    def number(self) -> Array:
        return np.zeros(self.capacity, np.int64)

    def _cells(self, count: int) -> Array:
        return np.zeros((count, *self._obs_space.shape), self._obs_space.dtype)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    @property
    def newest(self) -> Array:
        """[E, *obs]: what was observed after the newest row."""
        return self.obs[self.capacity : self.capacity + self.envs]

    # Writing.

    def add(self, rollout: Rollout) -> range:
        """Store T x E transitions; of more than fit only the newest. Returns their numbers.

        Where the rollout does not go on as the one before stopped, because environments were started anew in between,
        what was the newest row until now keeps what really followed it, as after a truncation.
        """
        first, count, envs = self.added, rollout.reward.size, self.envs
        if rollout.reward.shape[1] != envs:
            raise ValueError(f"a rollout of {rollout.reward.shape[1]} environments, expected {envs}")
        if first:
            self._go_on(rollout.obs[0])
        begin = skipped = max(0, count - self.capacity)  # of a rollout longer than the ring the end stays
        obs = rollout.obs[:-1].reshape(-1, *self._obs_space.shape)
        action, reward = rollout.action.reshape(-1, *self._action_space.shape), rollout.reward.ravel()
        while begin < count:  # once, or twice where the ring begins anew
            slot = (first + begin) % self.capacity
            end = min(count, begin + self.capacity - slot)
            slots = slice(slot, slot + end - begin)
            self._vacate(slots)
            self.number[slots] = np.arange(first + begin, first + end)
            self.obs[slots], self.action[slots] = obs[begin:end], action[begin:end]
            self.reward[slots], self.discount[slots] = reward[begin:end], self.gamma
            begin = end
        self.added = first + count
        self._row = slice(slots.stop - envs, slots.stop)
        self._unbroken = True
        self.newest[:] = rollout.obs[-1]
        self.after[self._row] = self._beyond
        for (t, e), final in rollout.final_obs.items():
            if (place := t * envs + e) >= skipped:
                slot = (first + place) % self.capacity
                self._keep_apart(slot, final)
                if rollout.terminated[t, e]:
                    self.discount[slot] = 0
                self._unbroken &= place < count - envs
        return range(first, self.added)

    def _vacate(self, slots: slice) -> None:
        """Make room for new transitions, each followed by the next row."""
        after = self.after[slots]
        if self._apart > len(self._free):
            self._free += after[after >= self.capacity + self.envs].tolist()
        after[:] = np.arange(slots.start + self.envs, slots.stop + self.envs)
        if slots.stop == self.capacity:
            after[-self.envs :] -= self.capacity
        self._touch(slots.start, slots.stop)

    def _touch(self, start: int, stop: int) -> None:
        """The blocks of these slots are no longer those that were saved."""
        last = (stop - 1) // self._block
        while len(self._blocks) <= last:
            self._blocks.append(Block(partial(self._contents, len(self._blocks))))
        for number in range(start // self._block, last + 1):
            self._blocks[number].seal = None

    def _go_on(self, obs: Array) -> None:
        """The next row will begin with these [E, *obs]: the newest one, where no episode ended, leads to it."""
        after, ahead = self.after[self._row], self._row.stop % self.capacity - self.capacity
        if self._unbroken and _equal(self.newest, obs):
            after += ahead
            return
        for e in np.flatnonzero(after == self._beyond).tolist():
            if _equal(self.newest[e], obs[e]):
                after[e] += ahead
            else:
                self._keep_apart(self._row.start + e, self.newest[e])
                self._touch(self._row.start, self._row.stop)

    def _keep_apart(self, slot: int, obs: Array) -> None:
        """The transition in this slot led to an observation that no row begins with."""
        if self._free:
            cell = self._free.pop()
        else:
            cell = self.capacity + self.envs + self._apart
            self._apart += 1
            if cell == len(self.obs):  # episodes of a few steps: there may be an end for every transition
                self.obs = np.concatenate([self.obs, self._cells(2 * self.capacity + self.envs - cell)])
        self.obs[cell] = obs
        self.after[slot] = cell

    # Reading. Slots are int64 of any shape [...], below `len(self)`.

    def observations(self, slots: Array) -> Array:
        """[..., *obs] that transitions began with."""
        return self.obs.take(slots, axis=0)

    def next_observations(self, slots: Array) -> Array:
        """[..., *obs] that transitions led to; at an episode's end the true last one."""
        return self.obs.take(self.after.take(slots), axis=0)

    def windows(self, slots: Array, steps: int) -> Array:
        """[steps, ...]: these slots, and those of the same environments in the rows that follow."""
        return np.add.outer(self.envs * np.arange(steps), slots) % self.capacity

    def stops(self, slots: Array) -> Array:
        """[...] bool: no row goes on from here, because an episode ended or because nothing newer is known."""
        return self.after.take(slots) >= self.capacity

    def numbers(self, slots: Array) -> Array:
        """[...] int64: the numbers of the transitions that lie here now."""
        return self.number.take(slots)

    def slots(self, numbers: Array) -> tuple[Array, Array]:
        """Of transitions [...] those that have not been overwritten: their slots, and [...] bool, which they are."""
        slots = numbers % self.capacity
        there = self.number.take(slots) == numbers
        self.late += int(there.size - there.sum())
        return slots[there], there

    # State.

    def state_dict(self) -> StateDict:
        if not self.added:
            return NOTHING
        return {"stored": self.added, "newest": self.newest, "blocks": list(self._blocks)}

    def _contents(self, number: int) -> dict[str, Array]:
        """Block `number` as far as it is filled, `final_obs` in the order of the transitions that `ended` there."""
        slots = slice(number * self._block, min((number + 1) * self._block, len(self)))
        after = self.after[slots]
        ended = after >= self.capacity + self.envs
        columns = {name: getattr(self, name)[slots] for name in COLUMNS}
        return columns | {"ended": ended, "final_obs": self.obs.take(after[ended], axis=0)}

    def load_state_dict(self, state: StateDict) -> None:
        """Put a state back; one of the time before there were rows, too."""
        if "stored" not in state:
            state = self._from_flat(state)
        stored, blocks, starts = state["stored"], state["blocks"], [0]
        pieces = [block.contents() for block in blocks]  # before anything changes: it may be a state of this ring
        self.added, self._apart, self._free, self._blocks = 0, 0, [], []
        self.__dict__.pop("after", None)  # it points at cells that are free now
        for contents in pieces:
            starts.append(self._load(starts[-1], contents))
        if stored % self.envs or starts[-1] != min(stored, self.capacity):
            raise ValueError(f"{starts[-1]} transitions of {self.envs} environments were saved of {stored}")
        self.added = stored
        newer = np.arange(stored - len(self), stored)
        self.number[newer % self.capacity] = newer
        if stored:
            self.newest[:] = _fitting(state["newest"], self.newest)
            last = (stored - 1) % self.capacity + 1
            self._row = slice(last - self.envs, last)
            after = self.after[self._row]
            np.copyto(after, self._beyond, where=after < self.capacity)
            self._unbroken = bool((after == self._beyond).all())
        if starts[:-1] == list(range(0, starts[-1], self._block)):  # cut where we cut
            for own, block in zip(self._blocks, blocks, strict=True):
                own.seal = block.seal

    def _load(self, start: int, contents: Mapping[str, Array]) -> int:
        """Fill the slots from `start` on; returns the first that is not filled."""
        stop = start + len(contents["reward"])
        if stop > self.capacity:
            raise ValueError(f"more than {self.capacity} transitions were saved")
        slots = slice(start, stop)
        self._vacate(slots)
        for name in COLUMNS:
            column = getattr(self, name)[slots]
            column[:] = _fitting(contents[name], column)
        ended = _fitting(contents["ended"], np.zeros(stop - start, bool))
        for slot, final in zip((start + np.flatnonzero(ended)).tolist(), contents["final_obs"], strict=True):
            self._keep_apart(slot, final)
        return stop

    def _from_flat(self, state: StateDict) -> StateDict:
        """The state of a ring that knew no rows and kept every next observation, as one of this kind.

        A full one of as many slots keeps them. Of another the oldest transition comes first, and fewer than E of the
        oldest, which make no whole row, are left out.
        """
        size, position = state["size"], state["position"]
        columns = {name: state[name] for name in (*COLUMNS, "next_obs")}
        if size == self.capacity:
            stored = size + position
        else:
            stored = size - size % self.envs
            columns = {name: np.roll(column, -position, axis=0)[size - stored :] for name, column in columns.items()}
        if not stored:
            return NOTHING
        next_obs, slot = columns.pop("next_obs"), stored % self.capacity or stored
        newest = slice(slot - self.envs, slot)
        ended = _bits(next_obs) != _bits(np.roll(columns["obs"], -self.envs, axis=0))
        ended[newest] = False  # what began after it is not known
        ended |= columns["discount"] == 0
        contents = columns | {"ended": ended, "final_obs": next_obs[ended]}
        return {"stored": stored, "newest": next_obs[newest], "blocks": [Block(lambda: contents)]}


def _bits(obs: Array) -> Array:
    """[C, *obs] as [C] opaque values, equal where every bit is."""
    cells = np.ascontiguousarray(obs).reshape(len(obs), -1)
    return cells.view(f"V{cells.shape[1] * cells.itemsize}")[:, 0]


def _equal(one: Any, other: Any) -> bool:
    """Whether observations are equal bit by bit; of records the fields, not what lies between them."""
    if one.dtype.names:
        return all(_equal(one[name], other[name]) for name in one.dtype.names)
    return bool(one.tobytes() == other.tobytes())


def _fitting(saved: Array, own: Array) -> Array:
    """A saved array; ValueError if it is not of the shape and dtype of our own."""
    if (saved.dtype, saved.shape) != (own.dtype, own.shape):
        raise ValueError(
            f"an array of {saved.dtype}{list(saved.shape)} was saved, expected {own.dtype}{list(own.shape)}"
        )
    return saved
