"""YAML from strangers: plain data or a refusal, in time and memory that the file's size bounds.

Aliases, by which nine lines become a billion values, tags, which name types, and keys that are given twice are not
read, and nesting has an end. Numbers are as in our other YAML: `1e-3` is one.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Any, ClassVar

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

DEPTH = 50  # mappings and lists in one another
LONG = 400  # digits of a number at most
Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """The data of a YAML text.

    Raises:
        ValueError: the text is not YAML, or not plain; says how, in a line.
    """
    try:
        _check(text)
        loader = Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error


def _check(text: str) -> None:
    """What can be seen before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=Base):
        where = f"line {event.start_mark.line + 1 if event.start_mark else '?'}"
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            raise ValueError(f"{where} uses an anchor (& or *), which no such file has")
        if isinstance(event, (CollectionStartEvent, ScalarEvent)) and event.tag is not None:
            raise ValueError(f"{where} uses the tag {event.tag[:40]}, which no such file has")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEPTH:
            raise ValueError(f"{where} is nested more than {DEPTH} deep")


class Loader(Base):
    """Knows null, truth, numbers and text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, Any]]]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} begins a mapping that has a key twice")
        return found


def _resolve(tag: str, pattern: str, first: Iterable[str]) -> None:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), [*first])


_resolve("null", "~|null|Null|NULL|", ["~", "n", "N", ""])
_resolve("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO")
_resolve("int", rf"[-+]?(?:0b[01_]{{1,{LONG}}}|0x[0-9a-fA-F_]{{1,{LONG}}}|[0-9][0-9_]{{0,{LONG}}})", "-+0123456789")
_resolve(
    "float",
    rf"[-+]?(?:[0-9][0-9_]{{0,{LONG}}}\.[0-9_]{{0,{LONG}}}|\.[0-9][0-9_]{{0,{LONG}}})(?:[eE][-+]?[0-9]{{1,{LONG}}})?"
    rf"|[-+]?[0-9][0-9_]{{0,{LONG}}}[eE][-+]?[0-9]{{1,{LONG}}}"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "-+0123456789.",
)
