"""Every component by kind and name: what it builds, its config dataclass, what it is able to do.

    @register("algo", "dqn", config=DQNConfig, action={"discrete"}, memory="replay")
    class DQN: ...

Capabilities are plain data. `config.validate` reads them to say what fits before anything is built; no other code asks
what class a component has.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rlrun.errors import UnknownName

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One registered component."""

    kind: str
    name: str
    factory: Callable[..., Any]
    config: type | None
    capabilities: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """Whether it is this package's own."""
        return _origin(self.factory)[0].partition(".")[0] == __package__

    @property
    def summary(self) -> str:
        """First line of the factory's docstring."""
        return (self.factory.__doc__ or "").strip().split("\n")[0]


_ENTRIES: dict[str, dict[str, Entry]] = {}
_ON_DEMAND: dict[str, Callable[[str | None], object]] = {}


def register(kind: str, name: str, *, config: type | None = None, **capabilities: Any) -> Callable[[T], T]:
    """Decorator: make a class or function available as `kind=name`.

    Args:
        kind: config group: algo, network, buffer, env, experience, ...
        name: what the user types.
        config: dataclass that types and documents the options.
        capabilities: declared facts, such as `action={"discrete"}` or `memory="replay"`.

    Raises:
        ValueError: the name is taken by another component of this kind.
    """

    def add(factory: T) -> T:
        if _origin(factory)[0].partition(".")[0] != __package__:
            has(kind, name)  # one of ours of that name is found out now, not when it is imported
        known = _ENTRIES.get(kind, {}).get(name)
        if known is not None and _origin(known.factory) != _origin(factory):
            raise ValueError(f"{kind} {name!r} is already registered by {'.'.join(_origin(known.factory))}")
        _ENTRIES.setdefault(kind, {})[name] = Entry(kind, name, factory, config, capabilities)  # type: ignore[arg-type]
        return factory

    return add


def _origin(factory: Any) -> tuple[str, str]:
    """Module and name: the same after a reload, different for two components."""
    return factory.__module__, factory.__qualname__


def on_demand(kind: str, load: Callable[[str | None], object]) -> None:
    """Components of this kind are imported when they are asked for.

    Args:
        load: imports what registers a name, if there is such a module, or everything of this kind if it is None.
    """
    _ON_DEMAND[kind] = load


def has(kind: str, name: str) -> bool:
    """Whether there is a component `kind=name`."""
    if not knows(kind, name) and kind in _ON_DEMAND:
        _ON_DEMAND[kind](name)
    return knows(kind, name)


def knows(kind: str, name: str) -> bool:
    """Whether a component has been registered so far."""
    return name in _ENTRIES.get(kind, {})


def foreign(kind: str) -> list[str]:
    """The components that others than this package registered, sorted."""
    return sorted(name for name, entry in _ENTRIES.get(kind, {}).items() if not entry.ours)


def get(kind: str, name: str) -> Entry:
    """The entry of `kind=name`; UnknownName with the nearest names otherwise."""
    if not has(kind, name):
        raise UnknownName(kind, f"there is no {kind} named {name!r}", did_you_mean(name, names(kind)))
    return _ENTRIES[kind][name]


def names(kind: str) -> list[str]:
    """All names registered for a kind, sorted."""
    if kind in _ON_DEMAND:
        _ON_DEMAND[kind](None)
    return sorted(_ENTRIES.get(kind, {}))


def kinds() -> list[str]:
    """All kinds that have at least one component, sorted."""
    return sorted({*_ENTRIES, *_ON_DEMAND})


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """'did you mean X?' for a near miss, otherwise the list of choices."""
    choices = sorted(choices)
    near = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(choices)}"
