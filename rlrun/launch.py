"""Starting and continuing runs: taking possession of a directory, training, and recording how it ended."""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from rlrun import checkpoint, compose, config, hints, memory, runs
from rlrun.build import Parts, build
from rlrun.callbacks import Checkpoint, Evaluate, Summary
from rlrun.compose import Composed
from rlrun.config import RunConfig, literal
from rlrun.errors import CheckpointError, ConfigError, Diverged, Interrupted, RlrunError
from rlrun.interrupt import Interrupt
from rlrun.loggers import console
from rlrun.loggers.runlog import run_log
from rlrun.rundir import RunDir, command_line
from rlrun.runner import Run
from rlrun.runner import train as run_loop
from rlrun.seeding import Role
from rlrun.types import StateDict

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
    cfg = config.validate(composed.data)
    with Interrupt() as interrupt:
        run = build(cfg, lambda parts: _claim(composed, argv, parts, cfg), interrupt)
        return _attempt(run, None, [f"run: {run.dir.path}", *_tuned(composed, argv)])


def resume(path: str, words: Sequence[str]) -> int:
    """Continue a run from its newest intact checkpoint, or from the beginning if it has none yet."""
    run_dir = runs.open_run(path)
    old = config.read(run_dir.config)
    new = _changed(old, words)
    cfg = config.validate(new)
    status = run_dir.read_status()
    if cfg.total_timesteps < status["env_steps"] and new != old:
        raise ConfigError("total_timesteps", f"the run is at {status['env_steps']:,} env steps already", "give more")
    if status["state"] == "finished" and status["env_steps"] >= cfg.total_timesteps:
        print(
            f"{path} finished at {status['env_steps']:,} env steps; total_timesteps=N, greater than that, continues it"
        )
        return 0
    with Interrupt() as interrupt:
        found, state = _newest(run_dir)  # before anything is touched
        run = build(cfg, lambda _: _continue(run_dir), interrupt)
        _attempt(run, state, [f"resumed from {found}", *_differences(old, new)], config.to_yaml(new))
    return 0


def _attempt(run: Run, state: StateDict | None, messages: Sequence[str], changed: str = "") -> float:
    """Train a run to its end, from a saved state or the beginning, and record what became of it.

    Args:
        changed: a new `config.yaml`, written once the state has been found to fit it.

    Raises:
        RlrunError: the run stopped before its end; status.json says why, run.log how.
    """
    with run_log(run.dir.log, console.mode(run.cfg.logger.console)), _recorded(run):
        for message in [*messages, *memory.notice(memory.of_run(run.cfg, run.spec))]:
            log.info("%s", message)
        run.interrupt.check()  # a signal that came while the run was built: there is nothing to save yet
        if state is not None:
            with checkpoint.must_fit(run.dir.checkpoints):
                run.load_state_dict(state)
        if changed:
            run.dir.write_text(run.dir.config, changed)
        try:
            run_loop(run)
        except Interrupted:
            cast(Checkpoint, run.callbacks["checkpoint"]).save(run)
            log.info(
                "saved at %s env steps; continue with: rlrun resume %s", f"{run.progress.env_steps:,}", run.dir.path
            )
            raise
        finally:
            run.close()
    final = cast(Evaluate, run.callbacks["evaluate"]).final
    return final["mean"] if final else math.nan


@contextmanager
def _recorded(run: Run) -> Iterator[None]:
    """Keep status.json and summary.json true whatever happens inside."""
    state, reason = "failed", ""
    try:
        yield
        state = "finished"
    except Interrupted as error:
        state, reason = "preempted", str(error)
        raise
    except Diverged as error:
        state, reason = "diverged", str(error)
        raise
    except RlrunError as error:
        reason = str(error)
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        with run.dir.log.open("a", encoding="utf-8") as file:  # the console shows one line
            traceback.print_exception(error, file=file)
        raise
    finally:
        run.dir.set_status(state, env_steps=run.progress.env_steps, reason=reason)
        cast(Summary, run.callbacks["summary"]).write(run, state)


def _claim(composed: Composed, argv: Sequence[str], parts: Parts, cfg: RunConfig) -> RunDir:
    """Take possession of a new run's directory and write down what was asked for."""
    run_dir = RunDir.create(composed.dir)
    overrides = config.to_yaml(composed.overrides)
    run_dir.write_text(run_dir.config, config.to_yaml(composed.data))
    run_dir.write_text(run_dir.overrides, overrides)
    run_dir.write_text(run_dir.command, command_line(argv) + "\n")
    folder = run_dir.path / ".hydra"
    folder.mkdir(exist_ok=True)
    hydra = config.to_yaml({"hydra": composed.hydra})
    for name, text in (("config", composed.written), ("overrides", overrides), ("hydra", hydra)):
        run_dir.write_text(folder / f"{name}.yaml", text)
    run_dir.write_meta(
        seed=parts.seeds.seed,
        seeds={role.name.lower(): parts.seeds.integer(role) for role in Role},
        provenance=composed.provenance,
        resume="not known yet",
    )
    run_dir.begin_attempt()
    return run_dir


def _continue(run_dir: RunDir) -> RunDir:
    """Take possession of a run that exists."""
    run_dir.begin_attempt()
    return run_dir


def _newest(run_dir: RunDir) -> tuple[Path | str, StateDict | None]:
    """Where to go on from, and the state there."""
    if not any(run_dir.checkpoints.glob("step_*")):
        if steps := run_dir.read_status()["env_steps"]:
            raise CheckpointError(
                f"{run_dir.checkpoints}: the checkpoints are gone, the run had reached {steps:,} env steps"
            )
        return "the beginning", None
    return checkpoint.load_latest(run_dir.checkpoints, lambda text: print(text, file=sys.stderr))


def _changed(data: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A run's config with those things changed that do not change what it computes."""
    known = config.flat(data)
    for word in words:
        key = word.partition("=")[0]
        if key not in known:
            raise hints.unknown_key(key, known)
        if key.split(".")[0] not in CHANGEABLE:
            hint = "these can: total_timesteps, logger.*, eval.*, checkpoint.*"
            raise ConfigError(key, "cannot change when a run is resumed, it would be another run", hint)
    return config.merged(data, words)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for every value that is not what it was."""
    before, after = config.flat(old), config.flat(new)
    changed = [key for key, value in after.items() if before[key] != value and not isinstance(value, dict)]
    lines = [f"{key}: {literal(before[key])} -> {literal(after[key])}" for key in changed]
    if "total_timesteps" in changed:
        lines.append("schedules over a share of the run (learning rate, epsilon) now span the new total")
    return lines


def _tuned(composed: Composed, argv: Sequence[str]) -> list[str]:
    """A line on the tuned values in use, if there are any."""
    if "~tuned" in composed.overrides and "~tuned" not in argv:
        return ["tuned values were left out: they are for another network or buffer"]
    files = [source for source in composed.provenance.values() if source.startswith("tuned/")]
    return [f"tuned: {files[0]} ({len(files)} values; '~tuned' leaves them out)"] if files else []
