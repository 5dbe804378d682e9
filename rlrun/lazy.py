"""Torch and NumPy when they are needed: importing torch takes two CPU seconds, which help or a typo should not cost.

Inside `deferred("torch")`, `import torch` at the top of a file binds a stand-in. The first time anybody asks it for an
attribute torch is imported, and takes the stand-in's place wherever it was bound: from then on nothing is different.
Only this package's own modules are imported so, and what they import. What ours hold at module level must not touch
torch or NumPy: annotations are never evaluated, `Array` and `Tensor` come from `rlrun.types`, and subclasses of
`nn.Module` live in modules that are imported when a network is built (see `rlrun.networks`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """What an import binds until the module is needed."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._replaced(), attribute)

    def _replaced(self) -> ModuleType:
        """Import the real module and put it where this one was bound."""
        _withdraw(self)
        real = importlib.import_module(self.__name__)
        for module in list(sys.modules.values()):
            names = vars(module) if isinstance(module, ModuleType) else {}
            names.update((key, real) for key, value in list(names.items()) if value is self)
        return real


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Imports of these top-level modules inside cost nothing until they are used."""
    stand_ins = [StandIn(name) for name in names if name not in sys.modules]
    sys.modules.update((stand_in.__name__, stand_in) for stand_in in stand_ins)
    try:
        yield
    finally:
        for stand_in in stand_ins:
            _withdraw(stand_in)


def _withdraw(stand_in: StandIn) -> None:
    """From now on `import` finds the real module."""
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]


def face(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: what users find in it, imported when they ask for it.

    Args:
        package: its `__name__`.
        homes: name -> the module inside that holds it, or that it is.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name]}")
        return module if homes[name] == name else getattr(module, name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
