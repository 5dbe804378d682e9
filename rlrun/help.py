"""What `--help` and `list` print.

The help of an option is the comment behind its field, that of a choice the first comment of its YAML file.
"""

from __future__ import annotations

import functools
import inspect
import io
import shlex
import shutil
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from rlrun import choices, compose, plugins
from rlrun.choices import GROUPS
from rlrun.config import KINDS, RunConfig, literal
from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean


def show_help(usage: str, words: Sequence[str]) -> int:
    """Usage, the choices, and every key of the run that the words describe."""
    composed = compose.compose(words)
    print(usage)
    print("Choices (group=choice)\n")
    found = [(kind, *row) if n == 0 else ("", *row) for kind in GROUPS for n, row in enumerate(choices.described(kind))]
    print(table(found))
    print(f"\nOptions of rlrun {shlex.join(words)} (key=value)".replace(" rlrun  ", " this run "))
    for title, keys in options(composed.data, composed.hydra.runtime.choices):
        print("\n".join(["", title, *([table(keys)] if keys else [])]))
    return 0


def show_list(kinds: Sequence[str]) -> int:
    """The choices of some groups, or of all."""
    for kind in kinds:
        if kind not in GROUPS:
            raise ConfigError(kind, "is not a group of choices", did_you_mean(kind, GROUPS))
    compose.set_up([])
    print("\n\n".join(f"{kind}\n{table(choices.described(kind))}" for kind in kinds or GROUPS))
    return 0


@functools.cache
def field_comments(schema: type) -> Mapping[str, str]:
    """The comment behind each field of a dataclass, inherited fields included."""
    comments: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if is_dataclass(base):
            comments |= _comments(textwrap.dedent(inspect.getsource(base)))
    return comments


def options(data: Mapping[str, Any], choices: Mapping[str, str]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """The keys of a composed config: per node its title and rows of key, value and help.

    Args:
        data: nested plain data with the keys of RunConfig.
        choices: group -> option.
    """
    top = field_comments(RunConfig)
    plain = {key: value for key, value in data.items() if key not in KINDS}
    yield "run", list(rows(RunConfig, plain, ""))
    for kind in KINDS:
        node = data.get(kind)
        if node:
            schema = plugins.entry_of(kind, node).config
            fields = {key: value for key, value in node.items() if key not in ("name", "_target_")}
            yield f"{kind}={choices[kind]}: {top[kind]}", list(rows(schema, fields, kind))


def table(rows: Iterable[Sequence[str]], indent: int = 2, width: int | None = None) -> str:
    """Rows as aligned columns; the last column wraps inside itself."""
    rows = [list(row) for row in rows]
    width = width or min(shutil.get_terminal_size().columns, 120)
    columns = [min(max(map(len, column)), 38) for column in zip(*(row[:-1] for row in rows), strict=True)]
    left = indent + sum(columns) + 2 * len(columns)
    lines = []
    for row in rows:
        head = " " * indent + "".join(f"{cell:<{size}}  " for cell, size in zip(row[:-1], columns, strict=True))
        text = textwrap.wrap(row[-1], max(width - left, 24)) or [""]
        if len(head) > left:  # a long cell has its line to itself
            lines.append(head.rstrip())
            head = " " * left
        lines.append((head + text[0]).rstrip())
        lines += [" " * left + line for line in text[1:]]
    return "\n".join(lines)


def rows(schema: Any, values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, value and help of the fields of a config dataclass."""
    comments, types = field_comments(schema), get_type_hints(schema)
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        if is_dataclass(types.get(name)) and isinstance(value, Mapping):
            yield from rows(types[name], value, key)
        else:
            yield key, literal(value), comments.get(name, "")


def _comments(source: str) -> dict[str, str]:
    """Field name -> comment on its line, or behind the last of its lines."""
    comments: dict[str, str] = {}
    name = ""
    fresh = True  # at the first token of a logical line
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            name, fresh = "", True
        elif token.type == tokenize.COMMENT and name:
            comments[name] = token.string.lstrip("# ")
        elif fresh and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT):
            name, fresh = token.string if token.type == tokenize.NAME else "", False
    return comments
