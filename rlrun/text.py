"""Text for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

WIDEST = 100  # longer lines are hard to read


def table(rows: Iterable[tuple[str, str]], indent: int = 2, share: float = 0.4) -> str:
    """Names and what they mean, side by side; a meaning that would take three lines there stands below its name.

    Args:
        share: of the screen that names may take.
    """
    rows = list(rows)
    width = screen()
    left = indent + min(max((len(name) for name, _ in rows), default=0), int(width * share)) + 2
    lines = []
    for name, meaning in rows:
        head = " " * indent + name
        text = textwrap.wrap(meaning, width - left)
        if len(head) + 2 > left or len(text) > 2:
            below = " " * (indent + 4)
            lines += [head, *textwrap.wrap(meaning, width, initial_indent=below, subsequent_indent=below)]
        else:
            lines += [head.ljust(left) + (text[0] if text else ""), *(" " * left + line for line in text[1:])]
    return "\n".join(line.rstrip() for line in lines)


def words(names: Sequence[str], indent: int) -> str:
    """Names one after the other, in as few lines as they need; the first line is not indented."""
    lines = textwrap.wrap(" ".join(names), screen() - indent, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * indent).join(lines)


def paragraphs(prose: str) -> str:
    """Prose as wide as the screen; what is indented is left as it is."""
    blocks = prose.split("\n\n")
    return "\n\n".join(block if "\n " in f"\n{block}" else textwrap.fill(block, screen()) for block in blocks)


def screen() -> int:
    """How wide lines may be."""
    return min(shutil.get_terminal_size().columns, WIDEST)
