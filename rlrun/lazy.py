"""Torch when it is needed: importing it takes two CPU seconds, which help, a list or a typo should not cost.

Inside `deferred("torch")`, `import torch` at the top of a file binds a stand-in. The first time anybody asks it for an
attribute torch is imported, and takes the stand-in's place wherever it was bound: from then on nothing is different.
Only this package's own modules are imported so. What they hold at module level must not touch torch: annotations are
never evaluated, `Tensor` comes from `rlrun.types`, and subclasses of `nn.Module` live in modules that are imported when
a network is built (see `rlrun.networks`). Everybody else's `import torch` is the usual one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """What `import torch` binds until torch is needed."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._replaced(), attribute)

    def _replaced(self) -> ModuleType:
        """Import the real module and put it where this one was bound."""
        _withdraw(self)
        real = importlib.import_module(self.__name__)
        package = __name__.partition(".")[0]
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == package:
                vars(module).update((key, real) for key, value in list(vars(module).items()) if value is self)
        return real


@contextmanager
def deferred(name: str) -> Iterator[None]:
    """Imports of the top-level module `name` inside cost nothing until it is used."""
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = StandIn(name)
    try:
        yield
    finally:
        _withdraw(stand_in)


def _withdraw(stand_in: StandIn) -> None:
    """From now on `import` finds the real module."""
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
