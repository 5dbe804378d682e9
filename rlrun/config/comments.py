"""The comment behind a field of a config dataclass is its help; where the line is too long, that above it."""

from __future__ import annotations

import ast
import functools
import inspect
import io
import itertools
import re
import sys
import textwrap
import tokenize
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass

PRAGMA = re.compile(r"#\s*(type: ignore|noqa)[^#]*")  # is for tools, not for a reader


@functools.cache
def field_comments(schema: type) -> Mapping[str, str]:
    """The comment of each field of a dataclass, inherited fields included."""
    comments: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if is_dataclass(base):
            comments |= _comments(base)
    return comments


@functools.cache
def _comments(schema: type) -> Mapping[str, str]:
    """Field name -> the last comment on its lines, or the lines of comment above; nothing where there is no source."""
    lines, statements = _body(schema)
    comments: dict[str, str] = {}
    for node in statements:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = itertools.takewhile(lambda line: line.startswith("#"), map(str.strip, lines[node.lineno - 2 :: -1]))
            said = " ".join(line.lstrip("# ") for line in reversed([*above]))
            source = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            for token in tokenize.generate_tokens(io.StringIO(source).readline):
                if token.type == tokenize.COMMENT:
                    said = PRAGMA.sub("", token.string).lstrip("# ") or said
            comments |= {node.target.id: said} if said else {}
    return comments


def _body(schema: type) -> tuple[list[str], list[ast.stmt]]:
    """The lines of a class and its statements; of its module, where it cannot be read without that."""
    source = _source(schema.__module__)
    start = rf"^class {re.escape(schema.__qualname__)}\b"
    found = re.search(rf"{start}.*?(?=^[^\s)#]|\Z)", source, re.MULTILINE | re.DOTALL)  # to the next line not indented
    for text in (found[0], source) if found else ():
        with suppress(SyntaxError):
            nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
            return text.splitlines(), next(node.body for node in nodes if node.name == schema.__qualname__)
    return [], []


@functools.cache
def _source(module: str) -> str:
    try:
        return inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return ""
