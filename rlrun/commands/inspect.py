"""`rlrun inspect RUN` shows what a tabular run has learned, `rlrun inspect env=…` what an agent sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun import registry
from rlrun.algos.algorithm import Algorithm
from rlrun.checks import Bounded, Within
from rlrun.commands.look import look
from rlrun.commands.table import is_option
from rlrun.config.values import from_words
from rlrun.errors import ConfigError
from rlrun.report.learned import Table, draw, text
from rlrun.run.restore import restore
from rlrun.rundir import find

OF_RUNS, OF_ENVIRONMENTS = {"ckpt", "picture"}, {"steps", "file"}


@dataclass
class InspectOptions(Bounded):
    """Of a tabular run, show the policy that it has learned and its values; of a grid world, draw a heat map as well.

    Of an environment (env=…, and whatever else of env.* a run takes), draw what an agent sees: stacked frames side by
    side, numbers as curves over the steps of random play, and the environment's own pictures beside them.
    """

    ckpt: str = "last"  # of a run: best | last | env steps of a checkpoint
    picture: bool = True  # of a run: draw the heat map
    steps: Annotated[int, Within(1, 1000)] = 100  # of an environment: steps of random play
    file: str | None = None  # of an environment: where the picture goes; null = outputs/ENV/seen.png


def inspect(words: Sequence[str], trust: bool = False) -> int:
    """Show what a run has learned, or what there is to be seen in an environment.

    Raises:
        ConfigError: neither is named.
    """
    given = {word.partition("=")[0] for word in words}
    if words and not is_option(words[0]):
        if wrong := OF_ENVIRONMENTS & given:
            raise ConfigError(wrong.pop(), "is of inspect env=…", f"of a run there are {' and '.join(sorted(OF_RUNS))}")
        return learned(words[0], words[1:], trust)
    if not {"env", "env.id"} & given:
        raise ConfigError(
            "inspect", "needs the directory of a run, or an environment", "rlrun inspect outputs/… or env=…"
        )
    if wrong := OF_RUNS & given:
        hint = f"of an environment there are {' and '.join(sorted(OF_ENVIRONMENTS))}"
        raise ConfigError(wrong.pop(), "is of inspect RUN", hint)
    own = [word for word in words if word.partition("=")[0] in OF_ENVIRONMENTS]
    options = from_words(InspectOptions, own)
    return look([word for word in words if word not in own], options.steps, options.file)


def learned(path: str, words: Sequence[str], trust: bool) -> int:
    """Print the table of a run, and draw it."""
    options = from_words(InspectOptions, words)
    run_dir, ckpt = find.open_checkpoint(path, options.ckpt, usual="last")
    run = restore(run_dir, ckpt, trust)
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
