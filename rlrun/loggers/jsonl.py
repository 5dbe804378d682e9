"""`metrics.jsonl`: one JSON object per log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlrun import files
from rlrun.loggers.records import RecordFile, lines
from rlrun.types import StateDict

BESIDE = ("env_steps", "time")  # what a row has besides metrics


class JsonlLogger:
    """Metrics as lines `{"env_steps": …, "time": seconds since 1970, metric: value, …}`.

    JSON knows neither NaN nor infinity: such a value is null here; metrics.csv keeps which of them it was.
    """

    def __init__(self, path: Path):
        self._file = RecordFile(path, lines, env_steps)

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        row: dict[str, float | None] = {"env_steps": env_steps, "time": time.time()}
        row |= {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.append(json.dumps(row, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        self._file.close()

    def state_dict(self) -> StateDict:
        return {"lines": self._file.count, "env_steps": self._file.last}

    def load_state_dict(self, state: StateDict) -> None:
        """Cut the file back to the lines it had when the state was taken."""
        self._file.go_on(state["lines"], state.get("env_steps"))
        self._file.cut()


def rows(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The env steps and finite metrics of all whole rows of a file; nothing where there is none."""
    try:
        content = files.read(path)
    except FileNotFoundError:
        return
    for line in lines(content):
        if (steps := env_steps(line)) is not None:
            row = json.loads(line)
            yield steps, {name: value for name, value in row.items() if name not in BESIDE and _is_number(value)}


def _is_number(value: Any) -> bool:
    """Whether a value of a file, which may be anybody's, is a metric."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def env_steps(line: bytes) -> int | None:
    """Of a line; None if it is damaged."""
    try:
        return int(json.loads(line)["env_steps"])
    except (ValueError, TypeError, KeyError):
        return None
