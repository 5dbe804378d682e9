"""Every component by kind and name: what it builds, its config dataclass, what it needs and what it is able to do.

    @register("algo", DQNConfig, needs=Needs(action={"discrete"}, memory="replay"), network="mlp")
    class DQN(ReplayLearner): ...

The name is the config's, and a registration is a choice: `algo=dqn` composes with the network and the buffer that are
declared here. What is declared is plain data. `config.fit` reads it to say what fits before anything is built; no
other code asks what class a component has.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlrun.errors import UnknownName

T = TypeVar("T")

ANY_SPACE = frozenset(("discrete", "box", "multi_discrete", "multi_binary", "dict"))
PLAIN_SPACE = frozenset(("discrete", "box"))


@dataclass(frozen=True)
class Needs:
    """What an algorithm asks of the run that it is part of."""

    action: Set[str] = PLAIN_SPACE  # kinds of action space that it can take
    obs: Set[str] = PLAIN_SPACE  # kinds of observation space that it can read
    masks: bool = False  # obeys masks of its actions; without, it is shown none
    memory: str | None = None  # what it learns from: "replay", or nothing that is kept
    model: bool = False  # plans on the environment's model
    one_step: bool = False  # is for bandits, whose episodes are one step
    recurrent: bool = False  # can learn with a network that remembers, from sequences of steps
    statistics: Set[str] = frozenset()  # running statistics of its networks that it gathers: of "obs", of a "batch"
    ranks: bool = False  # can learn on several ranks: its updates alone change weights, and every rank makes as many

    def __post_init__(self) -> None:
        for kind in (*self.action, *self.obs):
            if kind not in ANY_SPACE:
                raise ValueError(f"there is no space of kind {kind!r}; {did_you_mean(kind, ANY_SPACE)}")
        if self.memory not in ("replay", None):
            raise ValueError(f"there is no memory {self.memory!r}: it is 'replay' or None")


@dataclass(frozen=True)
class Entry:
    """One registered component; `register` says what the declarations mean."""

    kind: str
    name: str
    factory: Callable[..., Any]
    config: type | None
    needs: Needs = Needs()
    network: str | None = None
    smoke: Mapping[str, Any] = field(default_factory=dict)
    footprint: Any = None
    weights: Sequence[str] = ()
    remembers: Callable[..., int] | None = None

    @property
    def ours(self) -> bool:
        """Whether it is this package's own."""
        return _origin(self.factory)[0].partition(".")[0] == __package__

    @property
    def path(self) -> str:
        """Where it is to be imported from, dotted."""
        return ".".join(_origin(self.factory))

    @property
    def summary(self) -> str:
        """First line of the factory's docstring."""
        return (self.factory.__doc__ or "").strip().split("\n")[0]


_ENTRIES: dict[str, dict[str, Entry]] = {}
_ON_DEMAND: dict[str, Callable[[str | None], object]] = {}


def register(
    kind: str,
    config: type | None = None,
    /,
    *,
    name: str = "",
    needs: Needs = Needs(),
    network: str | None = None,
    smoke: Mapping[str, Any] | None = None,
    footprint: Any = None,
    weights: Sequence[str] = (),
    remembers: Callable[..., int] | None = None,
    **other: Any,
) -> Callable[[T], T]:
    """Decorator: make a class or function available as `kind=name`.

    Args:
        kind: config group: algo, network, buffer, env, experience, ...
        config: dataclass that types and documents the options; its field `name` is what the user types.
        name: that, for a kind without options, such as "callback".
        needs: algo: what it asks of the environment and of the run.
        network: algo: the choice of network that it is composed with; None if it builds none.
        smoke: values of options that a smoke run puts in place of all others; a class attribute `smoke` of a base comes
            first.
        footprint: the memory it will allocate, see footprint.py.
        weights: algo: the entries of its state that `init_from` takes over, as dotted paths.
        remembers: network: it has memory, so that only algorithms which learn from sequences can use it; how many
            numbers that is for each environment, see footprint.py.

    Raises:
        TypeError: a declaration that does not exist.
        ValueError: the name is taken by another component of this kind.
    """
    if isinstance(config, str) or other:
        raise TypeError(_misused(kind, config, other))
    known_as = name or getattr(config, "name", "")
    if not isinstance(known_as, str) or not known_as:
        raise TypeError(f'register("{kind}", …): its config has no field `name` with the name as its default')

    def add(factory: T) -> T:
        if _origin(factory)[0].partition(".")[0] != __package__:
            has(kind, known_as)  # one of ours of that name is found out now, not when it is imported
        known = _ENTRIES.get(kind, {}).get(known_as)
        if known is not None and _origin(known.factory) != _origin(factory):
            raise ValueError(f"{kind} {known_as!r} is already registered by {'.'.join(_origin(known.factory))}")
        shrunk = {**getattr(factory, "smoke", {}), **(smoke or {})}
        build: Any = factory
        _ENTRIES.setdefault(kind, {})[known_as] = Entry(
            kind, known_as, build, config, needs, network, shrunk, footprint, weights, remembers
        )
        return factory

    return add


def _misused(kind: str, config: Any, other: Mapping[str, Any]) -> str:
    """What is wrong with a registration in an earlier form, or with a word that does not exist."""
    if not isinstance(config, str):
        wrong = next(iter(other))
        if wrong in Needs.__dataclass_fields__:
            return f"register has no {wrong!r}: write needs=Needs({wrong}=…)"
        return f"register has no {wrong!r}: {did_you_mean(wrong, register.__kwdefaults__ or ())}"
    if "config" not in other:
        return f'register("{kind}", "{config}") is written register("{kind}", name="{config}")'
    written = [f'"{kind}"', getattr(other["config"], "__name__", "ItsConfig")]
    asked = [f"{key}={value!r}" for key, value in other.items() if key in Needs.__dataclass_fields__ and value]
    written += [f"needs=Needs({', '.join(asked)})"] if asked else []
    now = f"register({', '.join(written)}): the name is the config's"
    return f'register("{kind}", "{config}", config=…) is written {now}'


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
    near = difflib.get_close_matches(word.lower(), choices, n=5, cutoff=0.6)
    if not near:
        return f"choose one of: {', '.join(choices)}"
    likeness = {name: difflib.SequenceMatcher(None, name, word.lower()).ratio() for name in near}
    best = max(near, key=lambda name: (likeness[name], name[:1] == word[:1].lower()))  # few mistype the first letter
    return f"did you mean {best!r}?"
