"""The storage behind replay: the newest transitions of E environments, time-major, in a ring of L rows of E.

    number      how many transitions were stored before this one; it lies in the slot `number % C`, C = L * E
    steps       [C] records: number, action, reward, discount (gamma, or 0 where the episode terminated), and `after`,
                the cell of what the transition led to
    cells       observations (see cells.py), one for each transition and a row more

What came n steps later in the same environment lies n rows further: the next observation is that of the next row and is
stored once. Only where no row goes on is it kept apart.

No number is used twice, so whoever comes late with news of a transition that has been overwritten is told, and does no
harm to the one that lies there now.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from rlrun.blocks import Block
from rlrun.buffers.cells import cells_of, fitting, stored_bytes
from rlrun.footprint import transition
from rlrun.types import Array, EnvSpec, Rollout, StateDict

NOTHING: StateDict = {"stored": 0, "newest": None, "blocks": []}  # the state of an empty ring
COLUMNS = ("action", "reward", "discount")
BLOCK_BYTES = 2**20  # of a ring are saved together
MOST_BLOCKS = 512


class Ring:
    """The newest transitions of `env.num_envs` environments: `capacity` of them, rounded up to whole rows.

    What it holds is allocated when it is first used: who only looks at a run needs no replay.

    Args:
        in_file: its observations lie in a file, an unnamed one unless `lie_in` says where.
    """

    memory: Array  # [C, M] what the agent had before each step, if it has memory

    def __init__(self, capacity: int, env: EnvSpec, *, gamma: float, in_file: bool = False):
        self.envs, self.gamma, self.in_file = env.num_envs, gamma, in_file
        self.rows = -(-capacity // self.envs)
        self.capacity = self.rows * self.envs
        self.added = 0  # transitions so far: the number of the next one
        self.late = 0  # news of transitions that had been overwritten
        self._slots = np.array(self.capacity)  # NumPy is quicker with an array of no axes than with a number
        self._obs_space, self._action_space = env.obs_space, env.action_space
        self.cells = cells_of(env.obs_space, self.envs, self.rows)
        if in_file:
            self.cells.lie_in(None)
        fields = [("number", np.int64), ("after", np.int64)]
        fields += [("action", env.action_space.dtype, env.action_space.shape)]  # type: ignore[list-item]
        self._step = np.dtype([*fields, ("reward", np.float32), ("discount", np.float32)], align=True)
        self.transition_bytes = transition(env)  # of one that was drawn
        stored = self.transition_bytes - env.obs_space.nbytes + stored_bytes(env.obs_space)
        rows = max(1, BLOCK_BYTES // (self.envs * stored), self.rows // MOST_BLOCKS)
        self._block = rows * self.envs  # slots
        self._blocks: list[Block] = []  # as far as there are transitions

    @cached_property
    def steps(self) -> Array:
        """[C] records."""
        return np.zeros(self.capacity, self._step)

    @property
    def remembers(self) -> bool:
        """Whether an agent with memory acts."""
        return "memory" in self.__dict__

    @cached_property
    def age(self) -> Array:
        """[C] how many steps of its episode came before, where an agent with memory acts."""
        return np.zeros(self.capacity, np.int32)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def lie_in(self, path: Path, ahead: int) -> None:
        """Keep the observations in this file, and those of so many env steps more than there are slots.

        A state can be put back as long as no more env steps than these were stored after it: until then the file has
        all that belongs to it.

        Raises:
            ConfigError: the disk is too small.
        """
        self.cells = cells_of(self._obs_space, self.envs, self.rows + -(-ahead // self.envs))
        self.cells.lie_in(path)

    # Writing.

    def add(self, rollout: Rollout) -> range:
        """Store T x E transitions; of more than fit only the newest. Returns their numbers.

        Where the rollout does not go on as the one before stopped, because environments were started anew in between,
        what was the newest row until now keeps what really followed it, as after a truncation.
        """
        steps, envs = rollout.reward.shape
        if envs != self.envs:
            raise ValueError(f"a rollout of {envs} environments, expected {self.envs}")
        first, row = self.added, self.added // envs
        skipped = max(0, steps - self.rows)  # of a rollout longer than the ring the end stays
        same = self._go_on(row, rollout.obs[0]) if first else np.zeros(envs, bool)
        if "memory" in rollout.extras:
            self._remember(rollout, same)
        begin = skipped * envs
        while begin < rollout.reward.size:  # once, or twice where the ring begins anew
            slot = (first + begin) % self.capacity
            end = min(rollout.reward.size, begin + self.capacity - slot)
            self._store(slice(slot, slot + end - begin), first + begin, rollout, slice(begin, end))
            begin = end
        begun = max(skipped, int(np.count_nonzero(same) == envs))
        self.cells.write(row + begun, rollout.obs[begun:])
        self.added = first + rollout.reward.size
        for (t, e), final in rollout.final_obs.items():
            if t >= skipped:
                slot = (first + t * envs + e) % self.capacity
                self._keep_apart(slot, final)
                if rollout.terminated[t, e]:
                    self.steps["discount"][slot] = 0
        return range(first, self.added)

    def _store(self, slots: slice, first: int, rollout: Rollout, part: slice) -> None:
        """Put a part of a rollout into these slots, from the number `first` on; each is followed by the next row."""
        held = self.steps[slots]
        self._vacate(held)
        numbers = np.arange(first, first + len(held))
        held["number"], held["after"] = numbers, self.cell(numbers + self.envs)
        held["action"] = rollout.action.reshape(-1, *self._action_space.shape)[part]
        held["reward"], held["discount"] = rollout.reward.ravel()[part], self.gamma
        self._touch(slots.start, slots.stop)

    def _vacate(self, held: Array) -> None:
        """What these steps led to is not needed any more."""
        apart = held["after"] >= self.cells.in_rows
        if np.count_nonzero(apart):
            self.cells.drop(held["after"][apart].tolist())

    def cell(self, numbers: Array) -> Array:
        """The cells of what transitions of these numbers begin with."""
        return self.cells.of(numbers)

    def _touch(self, start: int, stop: int) -> None:
        """The blocks of these slots are no longer those that were saved."""
        last = (stop - 1) // self._block
        while len(self._blocks) <= last:
            self._blocks.append(Block(partial(self._contents, len(self._blocks))))
        for number in range(start // self._block, last + 1):
            self._blocks[number].seal = None

    def _remember(self, rollout: Rollout, same: Array) -> None:
        """Store the memory [T, E, M] that the agent had before each step, and how old episodes were.

        Args:
            same: [E] bool, whether the rollout goes on as the one before stopped.
        """
        memory, (steps, envs) = rollout.extras["memory"], rollout.reward.shape
        if not self.remembers:
            self.memory = np.zeros((self.capacity, *memory.shape[2:]), memory.dtype)
        newest = np.arange(self.added - envs, self.added) % self.capacity
        goes_on = same & (self.steps["after"][newest] < self.cells.in_rows)
        age = np.where(goes_on, self.age[newest] + 1, 0)
        ages, over = np.empty((steps, envs), np.int32), rollout.terminated | rollout.truncated
        for t in range(steps):
            ages[t] = age
            age = np.where(over[t], 0, age + 1)
        skipped = max(0, steps - self.rows) * envs
        slots = np.arange(self.added + skipped, self.added + steps * envs) % self.capacity
        self.memory[slots] = memory.reshape(-1, *memory.shape[2:])[skipped:]
        self.age[slots] = ages.ravel()[skipped:]

    def _go_on(self, row: int, obs: Array) -> Array:
        """The next row begins with these [E, *obs]: the newest one, where no episode ended, leads to it.

        Returns [E] bool: whether it was known with what it begins.
        """
        same = self.cells.same(row, obs)
        if np.count_nonzero(same) == self.envs:
            return same
        newest = np.arange(self.added - self.envs, self.added)
        for e in np.flatnonzero(~same).tolist():
            slot = int(newest[e]) % self.capacity
            if self.steps["after"][slot] < self.cells.in_rows:
                self._keep_apart(slot, self.cells.take(self.cell(newest[e] + self.envs)))
                self._touch(slot, slot + 1)
        return same

    def _keep_apart(self, slot: int, obs: Array) -> None:
        """The transition in this slot led to an observation that no row begins with."""
        step = self.steps[slot]
        step["after"] = self.cells.put(obs, int(self.cell(step["number"])))

    # Reading.

    def take(self, slots: Array) -> Array:
        """[...] records of the transitions in slots [...], below `len(self)`."""
        return self.steps.take(slots)

    def windows(self, slots: Array, steps: int) -> Array:
        """[steps, ...] records of these slots, and of those of the same environments in the rows that follow."""
        return self.steps.take(np.add.outer(self.envs * np.arange(steps), slots), mode="wrap")

    def stops(self, steps: Array) -> Array:
        """[...] bool: no row goes on from these records, because an episode ended or because nothing newer is known."""
        return (steps["after"] >= self.cells.in_rows) | (steps["number"] >= self.added - self.envs)

    def observations(self, steps: Array) -> Array:
        """[..., *obs] that transitions began with."""
        return self.cells.take(self.cell(steps["number"]))

    def next_observations(self, steps: Array) -> Array:
        """[..., *obs] that transitions led to; at an episode's end the true last one."""
        return self.cells.take(steps["after"])

    def slots(self, numbers: Array) -> tuple[Array, Array | None]:
        """Of transitions [...] those that have not been overwritten: their slots, and [...] bool, which they are.

        The second is None where all are.
        """
        slots, oldest = np.remainder(numbers, self._slots), self.added - len(self)
        if _within(numbers, oldest, self.added):
            return slots.ravel(), None
        there = (numbers >= oldest) & (numbers < self.added)
        self.late += there.size - int(np.count_nonzero(there))
        return slots[there], there

    # State.

    def state_dict(self) -> StateDict:
        if not self.added:
            return NOTHING
        self.cells.flush()
        row = self.added // self.envs
        newest = self.cells.take(self.cell(np.arange(self.added, self.added + self.envs)))
        found = {"stored": self.added, "newest": newest, "blocks": list(self._blocks)}
        found |= {"rows": self.cells.rows} if self.cells.stays else {}
        return found | self.cells.older(row - len(self) // self.envs)

    def _contents(self, number: int) -> dict[str, Array]:
        """Block `number` as far as it is filled, `final_obs` in the order of the transitions that `ended` there."""
        held = self.steps[number * self._block : min((number + 1) * self._block, len(self))]
        ended = held["after"] >= self.cells.in_rows
        columns = {name: np.ascontiguousarray(held[name]) for name in COLUMNS}
        columns |= {"ended": ended, "final_obs": self.cells.take(held["after"][ended])}
        if self.remembers:
            slots = slice(number * self._block, number * self._block + len(held))
            columns |= {"memory": self.memory[slots].copy(), "age": self.age[slots].copy()}
        return columns | self.cells.contents(self.cell(held["number"]))

    def load_state_dict(self, state: StateDict) -> None:
        """Put a state back; one of the time before there were rows, too."""
        if "stored" not in state:
            state = self._from_flat(state)
        stored, blocks = state["stored"], state["blocks"]
        pieces = [block.contents() for block in blocks]  # before anything changes: it may be a state of this ring
        held, found = min(stored, self.capacity), sum(len(piece["reward"]) for piece in pieces)
        if stored % self.envs or found != held:
            raise ValueError(f"{found} transitions of {self.envs} environments were saved of {stored}")
        self.added, self._blocks = stored, []
        for column in ("steps", "memory", "age"):
            self.__dict__.pop(column, None)
        self.cells.clear()
        if not stored:
            return
        if "rows" in state and self.cells.stays:
            self.cells.lie_there(state["rows"])
        starts = np.cumsum([0, *[len(piece["reward"]) for piece in pieces]]).tolist()
        number = np.arange(stored - held, stored)
        self.steps["number"][number % self.capacity] = number
        for start, contents in zip(starts, pieces, strict=False):
            self._load(start, contents)
        row = stored // self.envs
        self.cells.restore_older(row - held // self.envs, row - 1, state)
        newest = state["newest"]
        self.cells.write(
            row, fitting(newest, np.zeros((self.envs, *self._obs_space.shape), self._obs_space.dtype))[None]
        )
        for start, contents in zip(starts, pieces, strict=False):  # with all in place that they may have come after
            for slot, final in zip(np.flatnonzero(contents["ended"]).tolist(), contents["final_obs"], strict=True):
                self._keep_apart(start + slot, final)
        if starts[:-1] == list(range(0, held, self._block)):  # cut where we cut
            for own, block in zip(self._blocks, blocks, strict=True):
                own.seal = block.seal

    def _load(self, start: int, contents: Mapping[str, Array]) -> None:
        """Fill the slots from `start` on, but for what followed the ends of episodes."""
        held = self.steps[start : start + len(contents["reward"])]
        self._touch(start, start + len(held))
        for name in COLUMNS:
            held[name] = fitting(contents[name], held[name])
        fitting(contents["ended"], np.zeros(len(held), bool))
        if "memory" in contents:
            if not self.remembers:
                self.memory = np.zeros((self.capacity, *contents["memory"].shape[1:]), contents["memory"].dtype)
            for column in ("memory", "age"):
                there = getattr(self, column)[start : start + len(held)]
                there[:] = fitting(contents[column], there)
        self.cells.restore(self.cell(held["number"]), contents)
        held["after"] = self.cell(held["number"] + self.envs)

    def _from_flat(self, state: StateDict) -> StateDict:
        """The state of a ring that knew no rows and kept every next observation, as one of this kind.

        A full one of as many slots keeps them. Of another the oldest transition comes first, and fewer than E of the
        oldest, which make no whole row, are left out.
        """
        size, position = state["size"], state["position"]
        columns = {name: state[name] for name in ("obs", *COLUMNS, "next_obs")}
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


def _within(numbers: Array, start: int, stop: int) -> bool:
    """Whether all of them are in range(start, stop); an extreme is found quicker by its index."""
    if not numbers.size:
        return True
    return start <= numbers.item(numbers.argmin()) and numbers.item(numbers.argmax()) < stop


def _bits(obs: Array) -> Array:
    """[C, *obs] as [C] opaque values, equal where every bit is."""
    cells = np.ascontiguousarray(obs).reshape(len(obs), -1)
    return cells.view(f"V{cells.shape[1] * cells.itemsize}")[:, 0]
