"""Weights in shared memory: one writes, many read, and nobody waits for anybody.

There are two slots, and version v lies in slot v % 2. The writer says which version it begins, writes it, and says that
it is done; a reader copies the newest that is done and then looks whether the slot may have been begun anew meanwhile,
which takes two versions: then it copies once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlrun.experience.actors.shared import Form, Shared

NEVER = -1


class Weights:
    """Parameters and buffers of a module, as one stretch of bytes in shared memory.

    Args:
        module: whose they are: they are read from there, or written into it.
        shared: where they lie; made here for the one who writes.
    """

    def __init__(self, module: torch.nn.Module, shared: Shared | None = None):
        self._own = [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]
        forms: dict[str, Form] = {"begun": ((1,), np.dtype(np.int64)), "done": ((1,), np.dtype(np.int64))}
        for number, tensor in enumerate(self._own):
            dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
            forms[f"{number}"] = ((2, *tensor.shape), dtype)
        if shared is None:
            self.shared = Shared(forms)
            self.shared["begun"][:] = self.shared["done"][:] = NEVER
        elif shared.forms != forms:
            raise ValueError("the weights are of other shapes here than where they come from")
        else:
            self.shared = shared
        self._slots: list[list[Any]] = [
            [torch.from_numpy(self.shared[f"{number}"][slot, ...]) for number in range(len(self._own))]
            for slot in range(2)
        ]
        self._begun, self._done = self.shared["begun"], self.shared["done"]
        self.version = NEVER  # of the module's

    def write(self, version: int) -> None:
        """The module's weights are version `version`, which is one more than the last."""
        self._begun[0] = version
        _copy(self._slots[version % 2], self._own)
        self._done[0] = self.version = version

    def read(self) -> int:
        """Put the newest weights into the module. Returns their version."""
        while (version := int(self._done[0])) != self.version:
            _copy(self._own, self._slots[version % 2])
            if self._begun[0] <= version + 1:
                self.version = version
        return self.version


def _copy(there: list[Any], here: list[Any]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(there, here)
