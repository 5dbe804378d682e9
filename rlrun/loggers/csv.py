"""`metrics.csv`: a row per log, a column per metric, both growing as the run goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrun.loggers.records import RecordFile, lines
from rlrun.types import StateDict


class CsvTable:
    """A CSV file that takes new columns at any time and can be cut back to its first rows.

    Floats are written so that reading them gives the same number; a value that a row lacks is empty. Columns stand in
    the order in which they first came, so a run that was interrupted ends with the same file as one that was not.

    Args:
        path: the file.
        columns: the columns to begin with.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        self.columns = list(columns)
        self._file = RecordFile(path, lines, self._env_steps)  # the header and the rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row, of names and plain values."""
        new = [name for name in row if name not in self.columns]
        if new or not self._file.count:
            self.columns += new
            self._reshape()
        self._file.append(_line(row.get(name, "") for name in self.columns))

    def close(self) -> None:
        self._file.close()

    def state_dict(self) -> StateDict:
        return {"lines": self._file.count, "env_steps": self._file.last, "columns": list(self.columns)}

    def load_state_dict(self, state: StateDict) -> None:
        """Cut the file back to the rows and columns it had when the state was taken."""
        self.columns = [str(name) for name in state["columns"]]
        self._file.go_on(state["lines"], state.get("env_steps"))
        self._reshape()

    def _reshape(self) -> None:
        """Every row with as many cells as there are columns now, below their names."""
        width = len(self.columns)
        rows = [cells for cells in map(_cells, self._file.first()) if cells[:1] != self.columns[:1]]
        padded = ([*row, *[""] * width][:width] for row in rows)
        self._file.rewrite([_line(self.columns), *map(_line, padded)])

    def _env_steps(self, line: bytes) -> int | None:
        """The first cell of a row, 0 of the header, None of a line that is neither."""
        cells = _cells(line)
        if cells[:1] == self.columns[:1]:
            return 0
        return int(cells[0]) if cells and cells[0].isdecimal() else None


class CsvLogger:
    """Metrics as the rows of a CSV file; the first column is `env_steps`."""

    def __init__(self, path: Path):
        self._table = CsvTable(path, ["env_steps"])
        self.close = self._table.close
        self.state_dict = self._table.state_dict
        self.load_state_dict = self._table.load_state_dict

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        self._table.append({"env_steps": env_steps, **metrics})


def _cells(line: bytes) -> list[str]:
    return next(csv.reader([line.decode(errors="replace")]), [])


def _line(values: Iterable[Any]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode()
