"""Stacks of pictures that share their pictures, so that a buffer of items keeps each of them once.

The last four pictures of a game are seen at every step, and three of them were seen before. That a stack goes on from
the one before is not believed but seen: their pictures are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rlrun.types import Array

MOST = 16  # pictures of a stack; a longer first axis is one of something else


class Frames:
    """A stack of pictures [S, ...], the oldest first: an array for whoever asks for one, `np.asarray(frames)`."""

    __slots__ = ("frames",)

    def __init__(self, frames: tuple[Array, ...]):
        self.frames = frames

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.frames), *self.frames[0].shape)

    @property
    def dtype(self) -> np.dtype:
        return self.frames[0].dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.stack(self.frames).astype(dtype or self.dtype, copy=False)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Array]:
        return iter(self.frames)

    def __getitem__(self, index: Any) -> Array:
        return np.asarray(self)[index]


def are_stacks(obs: Array) -> bool:
    """Whether observations [E, *obs] may be stacks of pictures: bytes of three axes or more, a few in the first."""
    return obs.dtype == np.uint8 and obs.ndim >= 4 and 2 <= obs.shape[1] <= MOST


def shared(stack: Array, before: Any = None) -> Frames | Array:
    """A stack [S, ...] with the pictures that it has from the one before it, or that it shows several times.

    Args:
        stack: whose arrays are kept if it shares nothing with any.
        before: the stack of the step before; None where an episode begins.
    """
    older = None if before is None else tuple(before)
    if older is not None and all(map(np.array_equal, stack[:-1], older[1:])):
        return Frames((*older[1:], stack[-1].copy()))
    frames = [stack[0].copy()]
    for frame in stack[1:]:
        frames.append(frames[-1] if np.array_equal(frame, frames[-1]) else frame.copy())
    if len(set(map(id, frames))) == len(frames):
        return stack
    return Frames(tuple(frames))
