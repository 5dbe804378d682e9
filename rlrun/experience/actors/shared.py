"""Memory that processes share. It has no name, so nothing of it stays when they are gone, however they went."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Mapping
from multiprocessing import reduction
from typing import Any

import numpy as np

from rlrun.types import Array

ALIGNED = 64  # bytes

Form = tuple[tuple[int, ...], "np.dtype"]  # shape and type of an array


class Shared:
    """Arrays of zeros by name, `shared["reward"]`; can be sent to a child that is being started.

    Pages that nobody has written to take no memory.

    Args:
        forms: of each array.
    """

    def __init__(self, forms: Mapping[str, Form]):
        size = sum(_aligned(shape, dtype) for shape, dtype in forms.values())
        if hasattr(os, "memfd_create"):  # elsewhere than on Linux, a file that is deleted at once
            self._open(os.memfd_create("rlrun"), forms, size)
        else:
            descriptor, path = tempfile.mkstemp(prefix="rlrun-")
            os.unlink(path)
            self._open(descriptor, forms, size)

    def _open(self, descriptor: int, forms: Mapping[str, Form], size: int) -> None:
        self._descriptor, self.forms = descriptor, dict(forms)
        os.ftruncate(descriptor, max(size, 1))
        memory, first = mmap.mmap(descriptor, max(size, 1)), 0
        self.arrays: dict[str, Array] = {}
        for name, (shape, dtype) in forms.items():
            self.arrays[name] = np.frombuffer(memory, dtype, math.prod(shape), first).reshape(shape)
            first += _aligned(shape, dtype)

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self._descriptor), self.forms)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def _received(descriptor: Any, forms: Mapping[str, Form]) -> Shared:
    shared = Shared.__new__(Shared)
    size = sum(_aligned(shape, dtype) for shape, dtype in forms.values())
    shared._open(descriptor.detach(), forms, size)
    return shared


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of an array, up to where the next one begins."""
    return -(-math.prod(shape) * np.dtype(dtype).itemsize // ALIGNED) * ALIGNED
