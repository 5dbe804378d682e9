"""What a table has learned, as text and as a picture."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlrun import files
from rlrun.envs.gridworlds import Grid
from rlrun.types import Array

log = logging.getLogger(__name__)

WIDTH = 80  # columns of text
FEW = 20  # states of which each gets a line


@dataclass(frozen=True)
class Table:
    """A policy and what it expects."""

    q: Array  # [S, A] action values
    greedy: Array  # [S] the action that is played
    decided: Array  # [S] bool: whether it is preferred to others, rather than taken for want of a better

    @property
    def value(self) -> Array:
        """Values [S] of the actions that are played."""
        return self.q[np.arange(len(self.q)), self.greedy]


def text(table: Table, grid: Grid | None) -> str:
    """A table in at most 80 columns: two maps of a grid world, few states one by one, or an overview of many."""
    if grid is not None:
        return f"policy\n\n{policy_map(table, grid)}\n\nvalue\n\n{value_map(table, grid)}"
    states, actions = table.q.shape
    return listing(table) if states <= FEW and 7 + 11 * actions <= WIDTH else overview(table)


def policy_map(table: Table, grid: Grid) -> str:
    """An arrow per cell, a dot where no action is preferred, and letters where nobody acts."""
    return "\n".join("  " + " ".join(row) for row in symbols(table, grid))


def value_map(table: Table, grid: Grid) -> str:
    """A number per cell, with as many decimals as fit."""
    width = min(8, (WIDTH - 1) // grid.cells.shape[1])
    acting = np.vectorize(grid.is_passable)(grid.cells)
    values = table.value.reshape(grid.cells.shape)
    for decimals in (4, 3, 2, 1, 0):
        shown = np.where(acting, np.vectorize(lambda v, d=decimals: f"{v:.{d}f}")(values), grid.cells)
        if max(map(len, shown.flat)) < width:
            return "\n".join("".join(f"{cell:>{width}}" for cell in row) for row in shown)
    return "  (the map is too wide for numbers)"


def symbols(table: Table, grid: Grid) -> Array:
    """What stands for the policy in each cell [rows, columns]."""
    arrows = np.array([*grid.arrows])[table.greedy]
    acting = np.vectorize(grid.is_passable)(grid.cells)
    return np.where(acting, np.where(table.decided, arrows, "·").reshape(grid.cells.shape), grid.cells)


def listing(table: Table) -> str:
    """A line per state with all its action values; a star marks the action that is played."""
    lines = ["  state" + "".join(f"{f'action {a}':>10} " for a in range(table.q.shape[1]))]
    for s, row in enumerate(table.q.tolist()):
        stars = ["*" if a == table.greedy[s] and table.decided[s] else " " for a in range(len(row))]
        lines.append(f"{s:>7}" + "".join(f"{value:>10.3g}{star}" for value, star in zip(row, stars, strict=True)))
    return "\n".join(line.rstrip() for line in lines)


def overview(table: Table) -> str:
    """Counts and ranges over all states."""
    states, actions = table.q.shape
    decided = table.value[table.decided]
    lines = [f"  {states} states, {actions} actions; {len(decided)} states prefer an action"]
    if not len(decided):
        return lines[0]
    lines += [f"  their values: {decided.min():.4g} to {decided.max():.4g}, mean {decided.mean():.4g}", ""]
    lines += ["  action    played in    value there"]
    for a in range(actions):
        there = table.value[table.decided & (table.greedy == a)]
        mean = f"{there.mean():.4g}" if len(there) else "-"
        lines.append(f"{a:>8}{len(there):>13}{mean:>15}")
    return "\n".join(lines)


def draw(path: Path, title: str, table: Table, grid: Grid) -> bool:
    """Write a heat map of the values with the policy in it. False, with a line in the log, if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no picture: matplotlib is not installed; get it with `pip install 'rlrun[plot]'`")
        return False
    rows, columns = grid.cells.shape
    acting = np.vectorize(grid.is_passable)(grid.cells)
    figure = Figure(figsize=(max(6, 2 + 0.6 * columns), 1 + 0.6 * rows), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xticks=[], yticks=[], facecolor="0.8")
    image = axes.imshow(np.ma.masked_array(table.value.reshape(rows, columns), ~acting))
    figure.colorbar(image, label="value")
    outline = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.6}
    for (row, column), symbol in np.ndenumerate(symbols(table, grid)):
        axes.text(column, row, symbol, ha="center", va="center", bbox=outline)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    try:
        files.make_directory(path.parent)
        files.replace(path, picture.getvalue(), root=path.parent.parent)
    except files.DiskError as error:
        log.warning("no picture: %s", error)
        return False
    return True
