"""`rlrun inspect RUN`: shows what a tabular run has learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlrun import registry
from rlrun.algos.algorithm import Algorithm
from rlrun.config.values import from_words
from rlrun.errors import ConfigError
from rlrun.report.learned import Table, draw, text
from rlrun.run.restore import restore
from rlrun.rundir import find


@dataclass
class InspectOptions:
    """Show what a tabular run has learned: the policy and its values; of a grid world, draw a heat map as well."""

    ckpt: str = "last"  # best | last | env steps of a checkpoint
    picture: bool = True  # draw the heat map


def inspect(path: str, words: Sequence[str], trust: bool = False) -> int:
    """Print the table of a run, and draw it."""
    options = from_words(InspectOptions, words)
    run_dir = find.open_run(path)
    run = restore(run_dir, options.ckpt, trust)
    table, grid = read(run.algo, run.cfg.algo.name), run.setting.environments.grid()
    title = f"{run.cfg.algo.name} on {run.setting.spec.id} after {run.env_steps:,} steps"
    print(title, text(table, grid), sep="\n\n")
    if grid is not None and options.picture:
        picture = run_dir.path / "figures" / f"{run.checkpoint.name}_values.png"
        if draw(picture, title, table, grid):
            print(f"\n{picture}")
    return 0


def read(algo: Algorithm, name: str) -> Table:
    """The table that an algorithm plays from; ConfigError if it has none."""
    table = algo.table()
    if table is None:
        factories = ((name, registry.get("algo", name).factory) for name in registry.names("algo"))
        shown = [name for name, factory in factories if getattr(factory, "table", None) is not Algorithm.table]
        raise ConfigError("inspect", f"{name} keeps no table to show", f"these do: {', '.join(shown)}")
    q, preferences = table
    return Table(q, preferences.argmax(axis=1), np.ptp(preferences, axis=1) > 0)
