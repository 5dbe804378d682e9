"""`rlrun list`: what there is to choose from, and all that is to be said of one choice."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun import text
from rlrun.commands import help
from rlrun.config import compose, folders, plugins
from rlrun.config.folders import GROUPS
from rlrun.config.schema import KINDS
from rlrun.config.values import flat, from_words, literal
from rlrun.errors import ConfigError
from rlrun.registry import Entry, did_you_mean


@dataclass
class ListOptions:
    """List what there is to choose from, or tell of one choice: `rlrun list algo dqn`."""

    json: bool = False  # print one JSON object


def show(words: Sequence[str]) -> int:
    """The choices of the groups that are named, or of all; more on one choice behind its group."""
    for group, equals, choice in (word.partition("=") for word in words):
        if equals and group in GROUPS:
            raise ConfigError(group, "is a group of choices", f"write rlrun list {group} {choice}".rstrip())
    options = from_words(ListOptions, [word for word in words if "=" in word])
    wanted = named([word for word in words if "=" not in word])
    if options.json:
        print(json.dumps({group: as_data(group, names) for group, names in wanted.items()}, default=str))
    elif any(wanted.values()):
        print("\n\n".join(page(group, name) for group, names in wanted.items() for name in names))
    else:
        print("\n\n".join(block for group in wanted for block in blocks(group, brief=len(wanted) > 1)))
    return 0


def named(words: Sequence[str]) -> dict[str, list[str]]:
    """Group -> the choices that are named behind it; all groups if there are no words."""
    wanted: dict[str, list[str]] = {}
    for word in words:
        if word in GROUPS:
            wanted.setdefault(word, [])
        elif not wanted:
            group = next((group for group in GROUPS if word in folders.options(group)), None)
            hint = f"write rlrun list {group} {word}" if group else did_you_mean(word, GROUPS)
            raise ConfigError(word, "is not a group of choices", hint)
        else:
            group = list(wanted)[-1]
            known = folders.options(group)
            if word not in known:
                raise ConfigError(group, f"there is no {group} named {word!r}", did_you_mean(word, known))
            wanted[group].append(word)
    return wanted or {group: [] for group in GROUPS}


def blocks(group: str, brief: bool) -> Iterator[str]:
    """A group's choices with what they are; algorithms by family."""
    described = dict(folders.described(group))
    if group == "tuned" and brief:
        yield f"tuned (found by itself; '~tuned' leaves it out)\n{text.table(pairs())}"
    elif group == "algo":
        for family, names in folders.families().items():
            yield f"algo, {family}\n{text.table((name, described[name]) for name in names)}"
    elif described:
        yield f"{group}\n{text.table(described.items())}"


def pairs() -> Iterator[tuple[str, str]]:
    """Algorithm -> the environments for which it has tuned values."""
    found: dict[str, list[str]] = {}
    for name in folders.options("tuned"):
        algo, dash, env = name.partition("-")
        if dash:  # the others are what pairs with the same environment share
            found.setdefault(algo, []).append(env)
    return ((algo, " ".join(envs)) for algo, envs in found.items())


def page(group: str, name: str) -> str:
    """All that is to be said of one choice."""
    file = folders.files(group).get(name)
    if group not in KINDS:
        return f"{group}={name}: {file}\n\n{file.read_text(errors='replace').rstrip() if file else ''}"
    entry, values = component(group, name)
    summary = dict(folders.described(group))[name]
    parts = [
        text.paragraphs(f"{group}={name}: {summary}\n\n{about(entry)}"),
        text.table(help.rows(entry.config, values, group)),
    ]
    if file and group == "algo" and (others := beside(name)):
        parts.append(text.paragraphs(f"It also sets: {' '.join(others)}"))
    if group == "algo" and (envs := dict(pairs()).get(name)):
        parts.append(f"Tuned for: {envs}")
    return "\n\n".join(part for part in [*parts, f"File: {file}" if file else ""] if part)


def about(entry: Entry) -> str:
    """The docstring of a component: of its module where that is about nothing else, of itself otherwise."""
    module = sys.modules[entry.factory.__module__]
    own = module.__doc__ if entry.kind == "algo" else entry.factory.__doc__
    return inspect.cleandoc(own or entry.factory.__doc__ or "")


def component(group: str, name: str) -> tuple[Entry, dict[str, Any]]:
    """The component that a choice stands for, and the values of its options."""
    node: dict[str, Any] = compose.compose([f"{group}={name}", "~tuned"]).data[group]
    return plugins.entry_of(group, node), {key: value for key, value in node.items() if key not in ("name", "_target_")}


def beside(algo: str) -> list[str]:
    """Words for what the file of an algorithm says of the rest of a run."""
    composed = compose.compose([f"algo={algo}", "~tuned"])
    plain, chosen = compose.compose(["~tuned"]).hydra.runtime.choices, composed.hydra.runtime.choices
    others = [kind for kind in KINDS if kind != "algo" and chosen[kind] not in (None, plain[kind])]
    values, said = flat(composed.data), f"algo/{algo}.yaml"
    keys = [key for key, source in composed.provenance.items() if source == said and not key.startswith("algo.")]
    return [f"{kind}={chosen[kind]}" for kind in others] + [f"{key}={literal(values[key])}" for key in keys]


def as_data(group: str, names: Sequence[str]) -> dict[str, Any]:
    """Choice -> what it is; more on those that are named."""
    described = dict(folders.described(group))
    return {name: detail(group, name, described[name]) for name in names} if names else described


def detail(group: str, name: str, summary: str) -> dict[str, Any]:
    """What `page` says, as data."""
    file: Path | None = folders.files(group).get(name)
    found: dict[str, Any] = {"summary": summary, "file": str(file) if file else None}
    if group in KINDS:
        entry, values = component(group, name)
        found |= {"about": about(entry), "options": values}
    if group == "algo":
        found["family"] = next(family for family, names in folders.families().items() if name in names)
        found["tuned"] = dict(pairs()).get(name, "").split()
    return found
