"""Training from Python, as the command does it, and what has come of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun import files
from rlrun.commands.train import train_composed
from rlrun.config import compose
from rlrun.errors import ConfigError
from rlrun.report.table import Table, runs
from rlrun.run.policy import Policy, load
from rlrun.rundir.layout import LIMIT, RunDir


@dataclass(frozen=True)
class TrainedRun:
    """A run that has come to its end."""

    path: Path  # its directory, absolute, which every command takes

    @property
    def results(self) -> dict[str, Any]:
        """What is in its summary: the last value of every metric, `final_eval`, `best_eval`, `env_steps`, `state`."""
        found: dict[str, Any] = json.loads(files.read(RunDir(self.path).summary, LIMIT))
        return found

    @property
    def metrics(self) -> Table:
        """Every number that was logged, as NumPy columns by name; `to_pandas()` makes a data frame of it."""
        return runs(self.path).metrics

    def load(self, checkpoint: str | int = "best") -> Policy:
        """Its policy, as `rlrun.load` gives it."""
        return load(self.path, checkpoint)


def train(words: Sequence[str] | str, *, config_dirs: Sequence[str] = ()) -> TrainedRun:
    """Train one run to its end, as the command does with these words.

    Args:
        words: overrides such as `["algo=ppo", "env=cartpole", "seed=3"]`, or a line of them.
        config_dirs: folders with YAML files of your own, as `--config-dir` has them.

    Raises:
        ConfigError: the words do not describe a run.
        RlrunError: the run stopped before its end; its directory says why, and `rlrun resume` continues it.
    """
    given = shlex.split(words) if isinstance(words, str) else [*words]
    if flag := next((word for word in given if word.startswith("-")), None):
        raise ConfigError(flag, "is a flag of the command, and no override", "write KEY=VALUE")
    compose.set_up(given, config_dirs)
    if compose.is_sweep(given):
        raise ConfigError("hydra.mode", "a sweep is many runs", "train them one by one, or use the command: rlrun -m")
    compose.refuse_options_of_sweeps(given)
    composed = compose.compose(given)
    return TrainedRun(train_composed(composed, given))  # absolute, wherever the notebook goes afterwards
