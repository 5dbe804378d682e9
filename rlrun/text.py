"""Text for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence


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
