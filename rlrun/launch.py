"""Starting and continuing runs: taking possession of a directory, training, and recording how it ended."""

from __future__ import annotations

import logging
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from rlrun import checkpoint, compose, config, hints, memory, rundir, runs, warmstart
from rlrun.build import Parts, build, own_callbacks, parts
from rlrun.callbacks import Callback, Checkpoint, Evaluate
from rlrun.cautions import cautions
from rlrun.compose import Composed
from rlrun.config import RunConfig, literal
from rlrun.errors import CheckpointError, ConfigError, Interrupted
from rlrun.interrupt import Interrupt
from rlrun.lease import heartbeat
from rlrun.loggers import console
from rlrun.loggers.runlog import run_log
from rlrun.record import recorded
from rlrun.rundir import RunDir, command_line, to_json
from rlrun.runner import Run
from rlrun.runner import train as run_loop
from rlrun.seeding import Role, SeedTree
from rlrun.trust import change_config, read_config, signature
from rlrun.types import StateDict
from rlrun.unresolved import looked_up
from rlrun.words import assigned

log = logging.getLogger(__name__)

CHANGEABLE = ("total_timesteps", "logger", "eval", "checkpoint")  # from one attempt to the next


def train(words: Sequence[str], argv: Sequence[str]) -> int:
    """Train what the overrides describe, in a directory of its own; `argv` is what the user typed."""
    train_composed(compose.compose(words), argv)
    return 0


def train_composed(composed: Composed, argv: Sequence[str]) -> float:
    """Check, build and train one composed run.

    Args:
        argv: what the user typed.

    Returns:
        The mean return of the final evaluation.
    """
    with Interrupt(grace=0) as interrupt, made_for(composed, interrupt) as (cfg, made, own, begun):
        run_dir = _claim(composed, argv, made.seeds, begun | made.data)
        messages = [f"run: {run_dir.path}", composed.tuned(argv), *cautions(cfg, made.spec), *_weights(cfg)]
        return _attempt(run_dir, cfg, made, own, None, messages)


def check(words: Sequence[str]) -> int:
    """Everything that training with these words does before it takes possession of a directory; nothing is written."""
    composed = compose.compose(words)
    with Interrupt(grace=0) as interrupt, made_for(composed, interrupt) as (cfg, made, _, _):
        RunDir.check(composed.dir)
        for line in cautions(cfg, made.spec):
            print(line)
        print(f"all is well: {cfg.algo.name} on {made.spec.id}, {cfg.total_timesteps:,} env steps, seed {cfg.seed}")
    return 0


@contextmanager
def made_for(
    composed: Composed, interrupt: Interrupt
) -> Iterator[tuple[RunConfig, Parts, dict[str, Callback], dict[str, Any]]]:
    """The config, parts, callbacks and initial weights of a new run; nothing can refuse it any more."""
    cfg = config.validate(composed.data)  # nothing is begun that would be worth waiting for
    made = parts(cfg, interrupt)
    with closing(made.source):
        own = own_callbacks(cfg)
        begun = warmstart.start(made, cfg.algo.name, cfg.init_from)
        interrupt.check()
        interrupt.grace = cfg.checkpoint.grace
        yield cfg, made, own, begun


def resume(path: str, words: Sequence[str], trust: bool = False, force: bool = False) -> int:
    """Continue a run from its newest intact checkpoint, or from the beginning if it has none yet.

    Args:
        trust: obey its config even if it was made elsewhere.
        force: take it over from a process on another machine or in another container.
    """
    run_dir = runs.open_run(path)
    old = read_config(run_dir, trust)
    new = _changed(old, words)
    with Interrupt(grace=0) as interrupt:
        with run_dir.where_modules_are():
            cfg = config.validate(looked_up(new))
        status = run_dir.read_status()
        if cfg.total_timesteps < status["env_steps"] and new != old:
            raise ConfigError(
                "total_timesteps", f"the run is at {status['env_steps']:,} env steps already", "give more"
            )
        if status["state"] == "finished" and status["env_steps"] >= cfg.total_timesteps:
            print(
                f"{path} finished at {status['env_steps']:,} env steps; "
                "total_timesteps=N, greater than that, continues it"
            )
            return 0
        if not force:
            run_dir.must_be_free()
        found, state = _newest(run_dir)  # before anything is touched
        made = parts(cfg, interrupt)
        with closing(made.source):
            own = own_callbacks(cfg)
            made.must_show_data_of(run_dir)
            if state is None:
                begun = run_dir.read_meta().get("init_from", {})  # that very checkpoint, whatever is the last by now
                warmstart.start(made, cfg.algo.name, begun.get("checkpoint", cfg.init_from))
            interrupt.check()
            interrupt.grace = cfg.checkpoint.grace
            run_dir.begin_attempt(force)
            messages = [f"resumed from {found}", *_differences(old, new)]
            _attempt(run_dir, cfg, made, own, state, messages, config.to_yaml(new))
    return 0


def _attempt(
    run_dir: RunDir,
    cfg: RunConfig,
    made: Parts,
    own: dict[str, Callback],
    state: StateDict | None,
    messages: Sequence[str],
    changed: str = "",
) -> float:
    """Train a run to its end, from a saved state or the beginning, and record what became of it.

    Args:
        changed: a new `config.yaml`, written once the state has been found to fit it.

    Returns:
        The mean return of the final evaluation; NaN if there is none.

    Raises:
        RlrunError: the run stopped before its end; status.json says why, run.log how.
    """
    with (
        run_log(run_dir.log, console.mode(cfg.logger.console)),
        heartbeat(run_dir.status),
        recorded(run_dir, made.interrupt) as record,
    ):
        for message in [*messages, *memory.notice(memory.of_run(cfg, made.spec))]:
            log.info("%s", message)
        run_dir.amend_meta(**_roots(made.seeds))
        run = record.run = build(cfg, made, own, run_dir)
        with closing(run.logger), closing(run.evaluation_envs):
            made.interrupt.check()  # a signal that came while the run was built: there is nothing to save yet
            if state is not None:
                with checkpoint.must_fit(run_dir.checkpoints):
                    checkpoint.must_resemble(state, run.state_dict())
                    run.load_state_dict(state)
            if changed:
                change_config(run_dir, changed)
            _train(run)
        final = cast(Evaluate, run.callbacks["evaluate"]).final
        for line in _last_lines(run, final):
            log.info("%s", line)
        return final["mean"] if final else math.nan


def _train(run: Run) -> None:
    """Train; save the state when a signal asks to stop."""
    try:
        run_loop(run)
    except Interrupted:
        if not cast(Checkpoint, run.callbacks["checkpoint"]).save(run):
            steps = f"{run.progress.env_steps:,}"
            log.warning("stopped at %s env steps, and nothing was saved (checkpoint.enabled=false)", steps)
        raise


def _last_lines(run: Run, final: Mapping[str, float] | None) -> list[str]:
    """What has become of a run that is at its end, and a command to go on with."""
    progress, path = run.progress, shlex.quote(str(run.dir.path))
    how = "stopped early" if run.should_stop and not progress.done else "finished"
    line = f"{how} after {progress.env_steps:,} env steps in {console.clock(progress.wall_seconds)}"
    if final is not None:
        line += f": mean {console.mean_and_std(final['mean'], final['std'])} over {final['episodes']} episodes"
    if not run.cfg.checkpoint.enabled:
        return [line]
    can_be_seen = {"human", "rgb_array"} & set(run.spec.render_modes)
    return [line, f"next: rlrun {'play' if can_be_seen else 'eval'} {path}"]


def _claim(composed: Composed, argv: Sequence[str], seeds: SeedTree, facts: dict[str, Any]) -> RunDir:
    """Take possession of a new run's directory, which says from its first moment on what was asked for."""
    overrides, written = config.to_yaml(composed.overrides), config.to_yaml(composed.record)
    content = {
        "config.yaml": written,
        **signature(written),
        "overrides.yaml": overrides,
        "command.txt": command_line(argv) + "\n",
        ".hydra/config.yaml": composed.written,
        ".hydra/overrides.yaml": overrides,
        ".hydra/hydra.yaml": config.to_yaml({"hydra": composed.hydra}),
        "meta.json": to_json(rundir.surroundings() | _roots(seeds) | facts | {"provenance": composed.provenance}),
    }
    return RunDir.create(composed.dir, content)


def _roots(seeds: SeedTree) -> dict[str, Any]:
    """The seed, and the seeds of each role that grow from it."""
    return {"seed": seeds.seed, "seeds": {role.name.lower(): seeds.integer(role) for role in Role}}


def _newest(run_dir: RunDir) -> tuple[Path | str, StateDict | None]:
    """Where to go on from, and the state there."""
    if not any(run_dir.checkpoints.glob("step_*")):
        if steps := run_dir.saved_steps():
            raise CheckpointError(
                f"{run_dir.checkpoints}: the checkpoints are gone, the run had reached {steps:,} env steps"
            )
        return "the beginning", None
    return checkpoint.load_latest(run_dir.checkpoints, lambda text: print(text, file=sys.stderr))


def _changed(data: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A run's config with those things changed that do not change what it computes."""
    known = config.keys(data)
    for key in assigned(words, data):
        if key.split(".")[0] not in CHANGEABLE and key.split(".")[0] in known:
            hint = "these can: total_timesteps, logger.*, eval.*, checkpoint.*"
            raise ConfigError(key, "cannot change when a run is resumed, it would be another run", hint)
        if key not in known:
            raise hints.unknown_key(key, {name for name in known if name.split(".")[0] in CHANGEABLE})
    return config.in_types(config.merged(data, words))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for every value that is not what it was."""
    before, after = config.flat(old), config.flat(new)
    changed = [key for key, value in after.items() if before[key] != value and not isinstance(value, dict)]
    lines = [f"{key}: {literal(before[key])} -> {literal(after[key])}" for key in changed]
    if "total_timesteps" in changed:
        lines.append("schedules over a share of the run (learning rate, epsilon) now span the new total")
    return lines


def _weights(cfg: RunConfig) -> list[str]:
    """A line on the weights that a run starts with, if they are not its own."""
    return [f"weights: those of {cfg.init_from}; all else begins anew"] if cfg.init_from else []
