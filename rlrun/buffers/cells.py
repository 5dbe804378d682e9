"""Observations by cell: a ring of rows of E cells, one row for each sweep over the environments, and cells apart.

    row r, environment e    cell (r mod R) * E + e
    apart                   the cells behind them, for what no row begins with; they are taken one after another

Memory that nothing was ever written into costs nothing. There are two kinds: `Cells` keeps whole observations, `Frames`
one picture for each step where an observation is a stack of them.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from rlrun import files
from rlrun.errors import ConfigError
from rlrun.text import size
from rlrun.types import Array, Space


def is_frugal(space: Space) -> bool:
    """Whether of observations one picture is stored for each step: they are stacks of bytes."""
    return space.kind == "box" and space.stack > 1 and space.dtype == np.uint8


def stored_bytes(space: Space) -> int:
    """Bytes that an observation takes in its cell."""
    return space.nbytes // space.stack + 8 if is_frugal(space) else space.nbytes


def cells_of(space: Space, envs: int, rows: int) -> Cells:
    """Cells for observations of a space; those of `rows` rows can be read, and what followed the last of them."""
    return Frames(space, envs, rows + space.stack) if is_frugal(space) else Cells(space, envs, rows + 1)


class Cells:
    """Whole observations.

    Args:
        rows: R, after which the first are overwritten.
    """

    def __init__(self, space: Space, envs: int, rows: int):
        self.envs = envs
        self._span(rows)
        self.shape, self.dtype = space.shape, space.dtype  # of what a cell holds
        self._apart = 0  # cells that have held something apart
        self._free: list[int] = []  # those of them that hold nothing now
        self._opens: Callable[[], IO[bytes]] | None = None  # the file that they lie in, if it is not memory
        self._all = np.ones(envs, bool)  # environments
        self.stays = False  # that file will be there when a state is put back

    def _span(self, rows: int) -> None:
        self.rows = rows
        self.in_rows = rows * self.envs  # cells in rows: the first cell apart
        self._ring = np.array(self.in_rows)  # NumPy is quicker with an array of no axes than with a number

    def of(self, numbers: Array) -> Array:
        """The cells in rows of observations that are counted row by row."""
        return np.remainder(numbers, self._ring)

    @cached_property
    def kept(self) -> Array:
        """[R * E + apart, ...] what the cells hold."""
        return self._resized(None, self.in_rows + self.in_rows // 8)

    # Where they lie.

    def lie_in(self, path: Path | None) -> None:
        """Keep them in this file from now on, as it is, or in one without a name.

        Raises:
            ConfigError: its disk is too small.
        """
        self._opens = functools.partial(_opened, path) if path else tempfile.TemporaryFile
        self.stays = path is not None
        self.__dict__.pop("kept", None)
        if path is None:
            return
        needed = self.in_rows * self._each - (path.stat().st_blocks * 512 if path.exists() else 0)
        if (free := shutil.disk_usage(path.parent).free) < needed:
            problem = f"a replay file of {size(needed)} would not fit: {size(free)} of disk are free"
            raise ConfigError("buffer.capacity", problem, "make it smaller, or choose another hydra.run.dir")

    def lie_there(self, rows: int) -> None:
        """The file has so many rows already."""
        self._span(rows)
        self.__dict__.pop("kept", None)

    @cached_property
    def _file(self) -> IO[bytes]:
        return self._opens()  # type: ignore[misc]

    @property
    def _each(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def _resized(self, kept: Array | None, count: int) -> Array:
        if self._opens is None:
            new = np.zeros((count, *self.shape), self.dtype)
            if kept is not None:
                new[: len(kept)] = kept
            return new
        if os.fstat(self._file.fileno()).st_size < count * self._each:
            os.truncate(self._file.fileno(), count * self._each)
        return np.asarray(np.memmap(self._file, self.dtype, "r+", shape=(count, *self.shape)))

    def flush(self) -> None:
        """What was written is on the disk, if the cells lie there."""
        if self._opens and "kept" in self.__dict__:
            self.kept.base.flush()  # type: ignore[union-attr]

    # Writing.

    def write(self, row: int, obs: Array) -> None:
        """Put observations [T, E, *obs] into the rows from `row` on, T <= R."""
        for cells, part in self._pieces(row, len(obs)):
            self.kept[cells] = obs[part].reshape(-1, *self.shape)

    def _pieces(self, row: int, count: int) -> Iterator[tuple[slice, slice]]:
        """The cells of `count` rows, and which of the rows lie there: one piece, or two where the ring begins anew."""
        begun = 0
        while begun < count:
            first = (row + begun) % self.rows
            stop = min(count, begun + self.rows - first)
            yield slice(first * self.envs, (first + stop - begun) * self.envs), slice(begun, stop)
            begun = stop

    def put(self, obs: Array, before: int) -> int:
        """Put an observation [*obs], which came after the one in the cell `before`, apart; returns its cell."""
        cell = self._spare()
        self.kept[cell] = obs
        return cell

    def drop(self, cells: list[int]) -> None:
        """What was put into these is not needed any more."""
        self._free += cells

    def clear(self) -> None:
        """Nothing is needed any more."""
        self._apart, self._free = 0, []

    def _spare(self) -> int:
        if self._free:
            return self._free.pop()
        cell = self.in_rows + self._apart
        self._apart += 1
        if cell == len(self.kept):  # episodes of a few steps
            self.kept = self._resized(self.kept, len(self.kept) + self.in_rows // 2 + 1)
        return cell

    # Reading.

    def take(self, cells: Array) -> Array:
        """[..., *obs] observations in these cells [...]."""
        return self.kept.take(cells, 0)

    def same(self, row: int, obs: Array) -> Array:
        """[E] bool: whether a row holds these observations [E, *obs], bit by bit."""
        first = row % self.rows * self.envs
        held = self.kept[first : first + self.envs]
        if _equal(held, obs):
            return self._all
        return np.array([_equal(one, other) for one, other in zip(held, obs, strict=True)])

    # State.

    def contents(self, cells: Array) -> dict[str, Any]:
        """What a checkpoint holds of these cells [n] in rows; of those in a file that stays no more than a checksum."""
        return {"checksum": self._checksum(cells)} if self.stays else {"obs": self.kept.take(cells, axis=0)}

    def restore(self, cells: Array, contents: Mapping[str, Array]) -> None:
        """Put contents back into these cells [n]; ValueError if they do not fit."""
        if "obs" in contents:
            self.kept[cells] = fitting(contents["obs"], np.zeros((len(cells), *self.shape), self.dtype))
        elif not self.stays or contents["checksum"] != self._checksum(cells):
            gone = "the run's replay.bin has gone on too far since then, or is another one"
            raise ValueError(f"{gone}; a new run can begin with the weights: init_from=RUN")

    def older(self, row: int) -> dict[str, Array]:
        """What a checkpoint holds beside, of what belongs to this row and came before it."""
        return {}

    def restore_older(self, row: int, newest: int, state: Mapping[str, Any]) -> None:
        """The same back again, once all rows from this one to the newest are in their places."""

    def _checksum(self, cells: Array) -> int:
        return zlib.crc32(self.kept.take(cells, axis=0).tobytes())


class Frames(Cells):
    """Stacks [S, *frame] of which the newest picture is kept, and which cell holds the one before.

    That a stack goes on from the one of the row before is not believed but seen: all its other pictures must be in that
    one. Where they are not, as at an episode's start, they are kept apart, but for repetitions of one picture.
    """

    def __init__(self, space: Space, envs: int, rows: int):
        super().__init__(space, envs, rows)
        self.stack, self.shape = space.stack, space.shape[1:]
        self._first, self._newest = 0, -1  # rows that were written one after another
        self._stacks: Array | None = None  # of the last of them

    @cached_property
    def before(self) -> Array:
        """[cells] int64: the cell of the picture before; a picture that comes before itself is repeated."""
        return np.zeros(len(self.kept), np.int64)

    def write(self, row: int, obs: Array) -> None:
        if not self._first < row <= self._newest + 1:
            self._first = row
        for number, stacks in enumerate(obs, start=row):
            cells = self._of(number)
            goes_on = self._goes_on(number, stacks)
            self._release(cells)
            self.kept[cells], self.before[cells] = stacks[:, -1], self._previous(cells)
            for e in np.flatnonzero(~goes_on).tolist():
                self._begin(int(cells[e]), stacks[e])
            self._newest, self._stacks = number, stacks
        self._stacks = obs[-1].copy()

    def _of(self, row: int) -> Array:
        """[E] the cells of a row."""
        return row % self.rows * self.envs + np.arange(self.envs)

    def _previous(self, cells: Array) -> Array:
        """[n] the cells of the row before."""
        return (cells - self.envs) % self.in_rows

    def _goes_on(self, row: int, stacks: Array) -> Array:
        """[E] bool: whether all pictures of stacks but the newest are in those of the row before."""
        if row == self._first:
            return np.zeros(self.envs, bool)
        last = self._stacks if row == self._newest + 1 else None
        if last is None:
            last = self.take(self._of(row - 1))
        return (stacks[:, :-1] == last[:, 1:]).reshape(self.envs, -1).all(1)

    def _begin(self, cell: int, stack: Array) -> None:
        """Keep the older pictures of a stack whose newest one lies in this cell."""
        self.before[cell] = cell
        for number in range(self.stack - 2, -1, -1):
            if (stack[: number + 1] == stack[number + 1]).all():
                return
            older = self._spare()
            self.kept[older] = stack[number]
            self.before[older], self.before[cell] = older, older
            cell = older

    def _release(self, cells: Array) -> None:
        """What is kept apart for these cells is not needed any more."""
        before = self.before.take(cells)
        for cell in before[(before >= self.in_rows) & (before != cells)].tolist():
            self._free.append(cell)
            while (older := int(self.before[cell])) != cell:
                self._free.append(older)
                cell = older

    def put(self, obs: Array, before: int) -> int:
        cell = self._spare()
        self.kept[cell] = obs[-1]
        if np.array_equal(obs[:-1], self.take(np.array(before))[1:]):
            self.before[cell] = before
        else:
            self._begin(cell, obs)
        return cell

    def drop(self, cells: list[int]) -> None:
        self._release(np.array(cells, np.int64))
        super().drop(cells)

    def clear(self) -> None:
        super().clear()
        self.__dict__.pop("before", None)
        self._first, self._newest, self._stacks = 0, -1, None

    def _spare(self) -> int:
        cell = super()._spare()
        if len(self.before) < len(self.kept):
            self.before = np.concatenate([self.before, np.zeros(len(self.kept) - len(self.before), np.int64)])
        return cell

    def take(self, cells: Array) -> Array:
        at = np.empty((*cells.shape, self.stack), np.int64)
        at[..., -1] = cells
        for number in range(self.stack - 2, -1, -1):
            at[..., number] = self.before.take(at[..., number + 1])
        return self.kept.take(at, axis=0)

    def same(self, row: int, obs: Array) -> Array:
        held = self._stacks if row == self._newest and self._stacks is not None else self.take(self._of(row))
        return (held == obs).reshape(self.envs, -1).all(1)

    def contents(self, cells: Array) -> dict[str, Any]:
        """The pictures, which of them begin a stack anew, and the older pictures of those [k, S - 1, *frame]."""
        begun = self.before.take(cells) != self._previous(cells)
        return super().contents(cells) | {"begun": begun, "older": self.take(cells[begun])[:, :-1]}

    def restore(self, cells: Array, contents: Mapping[str, Array]) -> None:
        if "begun" not in contents:
            contents = dict(contents) | self._from_whole(contents["obs"])
        super().restore(cells, contents)
        self.before[cells] = self._previous(cells)
        begun = cells[fitting(contents["begun"], np.zeros(len(cells), bool))]
        older = fitting(contents["older"], np.zeros((len(begun), self.stack - 1, *self.shape), self.dtype))
        for cell, pictures in zip(begun.tolist(), older, strict=True):
            self._begin(cell, np.concatenate([pictures, self.kept[cell][None]]))

    def older(self, row: int) -> dict[str, Array]:
        return {"older": self.take(self._of(row))[:, :-1]}

    def restore_older(self, row: int, newest: int, state: Mapping[str, Any]) -> None:
        self._first, self._newest, self._stacks = row, newest, None
        if "older" not in state:
            return
        cells, pictures = self._of(row), state["older"]
        for number in range(1, self.stack):
            cells = self._previous(cells)
            self.kept[cells], self.before[cells] = pictures[:, -number], self._previous(cells)
        self.before[cells] = cells

    def _from_whole(self, obs: Array) -> dict[str, Array]:
        """What was saved as whole stacks [n, S, *frame] of whole rows one after another."""
        begun = np.ones(len(obs), bool)
        for at in range(self.envs, len(obs)):
            begun[at] = not np.array_equal(obs[at, :-1], obs[at - self.envs, 1:])
        return {"obs": obs[:, -1], "begun": begun, "older": obs[begun, :-1]}


def _opened(path: Path) -> IO[bytes]:
    return os.fdopen(files.open_plain(path, os.O_RDWR | os.O_CREAT, path.parent), "r+b")


def fitting(saved: Any, own: Array) -> Array:
    """A saved array; ValueError if it is not of the shape and dtype of our own."""
    if (saved.dtype, saved.shape) != (own.dtype, own.shape):
        raise ValueError(
            f"an array of {saved.dtype}{list(saved.shape)} was saved, expected {own.dtype}{list(own.shape)}"
        )
    return saved


def _equal(one: Any, other: Any) -> bool:
    """Whether observations are equal bit by bit; of records the fields, not what lies between them."""
    if one.dtype.names:
        return all(_equal(one[name], other[name]) for name in one.dtype.names)
    return bool(one.tobytes() == other.tobytes())
