"""`rlrun option=value …`: trains what the words describe, in a directory of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rlrun.compute.spread import Alone, joined
from rlrun.config import compose
from rlrun.config.cautions import cautions
from rlrun.config.compose import Composed
from rlrun.config.ranks import shares
from rlrun.config.schema import RunConfig
from rlrun.config.validate import validate
from rlrun.config.values import to_yaml
from rlrun.errors import ConfigError, RlrunError
from rlrun.interrupt import Interrupt
from rlrun.ranks import place
from rlrun.run.attempt import attempt, roots
from rlrun.run.prepare import Prepared, prepared
from rlrun.rundir.layout import RunDir, to_json
from rlrun.rundir.meta import surroundings
from rlrun.rundir.trust import signature
from rlrun.seeding import SeedTree


def train(words: Sequence[str], argv: Sequence[str]) -> int:
    """Train what the overrides describe, in a directory of its own; `argv` is what the user typed."""
    train_composed(compose.compose(words), argv)
    return 0


def train_composed(composed: Composed, argv: Sequence[str]) -> Path:
    """Check, build and train one composed run.

    Args:
        argv: what the user typed.

    Returns:
        Its directory, absolute.
    """
    with joined(place()) as group, _made(composed, group) as made:
        parts = made.parts
        facts = made.begun | parts.data | parts.known | ({"ranks": group.size} if group.size > 1 else {})
        run_dir = _claim(composed, argv, parts.seeds, facts) if group.leads else RunDir("")
        path = Path(group.same(str(run_dir.path.absolute())))
        if not group.leads:
            run_dir = _shared(path)
        messages = [f"run: {run_dir.path}", composed.tuned(argv), *cautions(parts.cfg, parts.spec)]
        attempt(made, run_dir, [*messages, *_weights(parts.cfg), *shares(parts.cfg, group.size)])
    return path


def _shared(path: Path) -> RunDir:
    """The directory that rank 0 has claimed, as another rank finds it; RlrunError if it does not."""
    run_dir = RunDir(path)
    if not run_dir.exists:
        raise RlrunError(f"{path}: there is no such directory here, and all ranks save what is theirs in it")
    return run_dir


def check(words: Sequence[str]) -> int:
    """Everything that training with these words does before it takes possession of a directory; nothing is written."""
    composed = compose.compose(words)
    with _made(composed, Alone()) as made:
        cfg, spec = made.parts.cfg, made.parts.spec
        RunDir.check(composed.dir)
        for line in cautions(cfg, spec):
            print(line)
        print(f"all is well: {composed.algo} on {spec.id}, {cfg.total_timesteps:,} env steps, seed {cfg.seed}")
    return 0


@contextmanager
def _made(composed: Composed, group: Alone) -> Iterator[Prepared]:
    """All of a run but its directory. A signal ends it at once: nothing is begun that would be worth waiting for."""
    with Interrupt(grace=0) as interrupt, ExitStack() as stack:
        with _explained(composed):
            cfg = validate(composed.data, new=True)
            made = stack.enter_context(prepared(cfg, interrupt, cfg.init_from, group))
        yield made


@contextmanager
def _explained(composed: Composed) -> Iterator[None]:
    """A ConfigError on what was not typed says where it comes from: a value's file, the choice behind an algorithm."""
    try:
        yield
    except ConfigError as error:
        source, problem, hint = composed.provenance.get(error.key, compose.COMMAND_LINE), error.problem, error.hint
        if source != compose.COMMAND_LINE:
            hint = f"{hint}\n{error.key} is set by {source}".lstrip()
        elif error.key == "algo" and composed.component:
            chosen = composed.hydra.runtime.choices.algo
            problem = f"{chosen} is {composed.component} with options of its own, and {problem}"
        else:
            raise
        raise ConfigError(error.key, problem, hint) from error


def _claim(composed: Composed, argv: Sequence[str], seeds: SeedTree, facts: dict[str, Any]) -> RunDir:
    """Take possession of a new run's directory, which says from its first moment on what was asked for."""
    overrides, written = to_yaml(composed.overrides), to_yaml(composed.record)
    content = {
        "config.yaml": written,
        **signature(written),
        "overrides.yaml": overrides,
        "command.txt": command_line(argv) + "\n",
        ".hydra/config.yaml": composed.written,
        ".hydra/overrides.yaml": overrides,
        ".hydra/hydra.yaml": to_yaml({"hydra": composed.hydra}),
        "meta.json": to_json(surroundings() | roots(seeds) | facts | {"provenance": composed.provenance}),
    }
    return RunDir.create(composed.dir, content)


def _weights(cfg: RunConfig) -> list[str]:
    """A line on the weights that a run starts with, if they are not its own."""
    return [f"weights: those of {cfg.init_from}; all else begins anew"] if cfg.init_from else []


def command_line(argv: Sequence[str]) -> str:
    """The arguments of the command as one line that a shell takes back."""
    return shlex.join(["rlrun", *argv])
