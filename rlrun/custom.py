"""Code of the user's own that a config names: wrappers of environments, callbacks.

An entry is a dotted path, `my.module.Thing`, or a mapping with the path as `_target_` and arguments beside it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from rlrun.errors import ConfigError


@dataclass(frozen=True)
class Custom:
    """One entry of a config's list, as plain data: a child process can be sent it."""

    key: str  # of the list, for messages
    path: str  # dotted; without a dot a registered name
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def factory(self) -> Any:
        """What the path leads to; ConfigError if it cannot be imported or called."""
        if "." not in self.path:
            raise ConfigError(self.key, f"{self.path} is no dotted path", f"for instance my.module.{self.path}")
        found = locate(self.key, self.path)
        if not callable(found):
            raise ConfigError(self.key, f"{self.path} cannot be called", "name a class or a function")
        return found

    def check(self, factory: Any, *given: str) -> None:
        """The arguments fit the factory, behind those that rlrun gives; ConfigError names one that does not."""
        try:
            inspect.signature(factory).bind(*given, **self.arguments)
        except TypeError as error:
            raise ConfigError(self.key, f"{self.path}: {error}", self._usage(factory)) from error
        except ValueError:  # written in C, without a signature
            return

    def _usage(self, factory: Any) -> str:
        return f"its arguments: {inspect.signature(factory)}"[:200]


def entry(key: str, item: Any) -> Custom:
    """An item of a config's list; ConfigError if it is neither a path nor a mapping with one."""
    example = "{_target_: my.module.Name, argument: 1}"
    match item:
        case str() if item:
            return Custom(key, item)
        case {"_target_": str(path), **arguments} if path:
            if special := sorted(str(name) for name in arguments if str(name).startswith("_")):
                raise ConfigError(key, f"{path}: {special[0]} is not understood here", f"write {example}")
            return Custom(key, path, {str(name): value for name, value in arguments.items()})
    raise ConfigError(key, f"{str(item)[:60]} names nothing", f"write my.module.Name or {example}")


def locate(key: str, path: str) -> Any:
    """What a dotted path leads to, imported from the current directory too.

    Raises:
        ConfigError: it leads nowhere; quotes why.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception as error:
        raise ConfigError(key, f"{path!r} cannot be imported", one_line(error)) from error


def import_module(name: str) -> ModuleType:
    """Import from the current directory too, as `python -m` would."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
