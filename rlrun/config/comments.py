"""The comment behind a field of a config dataclass is its help; where the line is too long, that above it."""

from __future__ import annotations

import ast
import functools
import inspect
import io
import itertools
import sys
import textwrap
import tokenize
from collections.abc import Mapping
from dataclasses import is_dataclass


@functools.cache
def field_comments(schema: type) -> Mapping[str, str]:
    """The comment of each field of a dataclass, inherited fields included."""
    comments: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if is_dataclass(base):
            comments |= _comments(base)
    return comments


def _comments(schema: type) -> dict[str, str]:
    """Field name -> the last comment on its lines, or the lines of comment above; nothing where there is no source."""
    lines, classes = _module(schema.__module__)
    comments: dict[str, str] = {}
    for node in classes[schema.__qualname__].body if schema.__qualname__ in classes else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = itertools.takewhile(lambda line: line.startswith("#"), map(str.strip, lines[node.lineno - 2 :: -1]))
            said = " ".join(line.lstrip("# ") for line in reversed([*above]))
            source = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            for token in tokenize.generate_tokens(io.StringIO(source).readline):
                if token.type == tokenize.COMMENT:
                    said = token.string.lstrip("# ")
            comments |= {node.target.id: said} if said else {}
    return comments


@functools.cache
def _module(name: str) -> tuple[list[str], dict[str, ast.ClassDef]]:
    """The lines of a module's source, and its classes."""
    try:
        source = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):
        return [], {}
    return source.splitlines(), {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
