"""Text for a terminal."""

from __future__ import annotations

import math
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

WIDEST, NARROWEST = 100, 40  # longer lines are hard to read, shorter ones cannot be made


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
    """Prose as wide as the screen; what is indented keeps its lines, but for those that are too long."""
    blocks = prose.split("\n\n")
    return "\n\n".join(
        "\n".join(map(_fitting, block.split("\n"))) if "\n " in f"\n{block}" else textwrap.fill(block, screen())
        for block in blocks
    )


def _fitting(line: str) -> str:
    """A line; the rest of it stands below its text if it is too long: behind its indent and a term that begins it."""
    if len(line) <= screen():
        return line
    (head,) = re.findall(r"^ *(?:\S+ {2,})?", line)
    return textwrap.fill(line, screen(), subsequent_indent=" " * len(head))


def screen() -> int:
    """How wide lines may be."""
    return max(min(shutil.get_terminal_size().columns, WIDEST), NARROWEST)


def number(value: float | None) -> str:
    """Four significant digits, thousands separated, no exponent unless tiny; `-` for nothing."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 999.95:
        return f"{value:,.0f}" if size < 1e9 else f"{value:.3e}"
    return f"{value:#.4g}" if size >= 1e-3 else f"{value:.1e}" if value else "0"


def counted(number: int, noun: str) -> str:
    """'1 episode', '1,000 episodes'."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def mean_and_std(mean: float | None, std: float | None) -> str:
    """`187.3 ± 64.2`: the spread as exact as the mean."""
    text = number(mean)
    decimals = 4 if "e" in text or (text == "0" and std) else len(text.partition(".")[2])
    return text if std is None else f"{text} ± {std:,.{decimals}f}"


def speed(steps_per_second: float | None) -> str:
    """Whole steps per second, unless they are few."""
    return f"{steps_per_second:,.0f}" if steps_per_second and steps_per_second >= 100 else number(steps_per_second)


def percent(env_steps: int, total: int) -> str:
    return f"{min(100 * env_steps // total, 100)}%"


def time_left(env_steps: int, total: int, elapsed: float) -> float:
    """Seconds to the end at the average speed so far, evaluations and pauses for saving included; NaN if unknown."""
    return elapsed / env_steps * max(total - env_steps, 0) if env_steps else math.nan


def clock(seconds: float) -> str:
    """`h:mm:ss`, from 100 hours on days."""
    if not math.isfinite(seconds):
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours < 100 else f"{seconds / 86400:.1f}d"


def size(count: float) -> str:
    """Bytes in words: `93.9 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} PiB" if math.isfinite(count) else "more than enough"
