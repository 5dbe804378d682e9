"""`rlrun resume RUN`: goes on from the newest intact checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlrun.compute.spread import Alone, joined
from rlrun.config import dialects, values
from rlrun.config.ranks import shares
from rlrun.config.unresolved import looked_up
from rlrun.config.validate import validate
from rlrun.config.values import flat, literal, to_yaml
from rlrun.config.words import assigned
from rlrun.errors import CheckpointError, ConfigError
from rlrun.interrupt import Interrupt
from rlrun.ranks import place
from rlrun.run.attempt import attempt
from rlrun.run.prepare import prepared
from rlrun.run.record import resuming
from rlrun.rundir import checkpoints, find, older
from rlrun.rundir.layout import RunDir
from rlrun.rundir.trust import read_config
from rlrun.types import StateDict

CHANGEABLE = ("total_timesteps", "logger", "eval", "checkpoint")  # from one attempt to the next


def resume(path: str, words: Sequence[str], trust: bool = False, force: bool = False) -> int:
    """Continue a run from its newest intact checkpoint, or from the beginning if it has none yet.

    Args:
        trust: obey its config even if it was made elsewhere.
        force: take it over from a process on another machine or in another container.
    """
    with joined(place()) as group:
        if group.size > 1:  # what a word such as `last` means may change while they look
            path = group.same(str(find.find(path)) if group.leads else "")
        return _resume(path, words, trust, force, group)


def _resume(path: str, words: Sequence[str], trust: bool, force: bool, group: Alone) -> int:
    run_dir, ckpt = find.open_checkpoint(path, "last", usual="last")
    _must_be_newest(run_dir, ckpt)
    _must_have_as_many(run_dir, group.size)
    old = read_config(run_dir, trust)
    new = _changed(old, words)
    with Interrupt(grace=0) as interrupt:
        with run_dir.where_modules_are():
            cfg = validate(looked_up(new))
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
        found, state = _newest(run_dir, group)  # before anything is touched
        begun = run_dir.read_meta().get("init_from", {})  # that very checkpoint, whatever is the last by now
        weights = begun.get("checkpoint", cfg.init_from) if state is None else None
        with ExitStack() as stack:
            with run_dir.where_modules_are():
                made = stack.enter_context(prepared(cfg, interrupt, weights, group))
            made.parts.must_show_data_of(run_dir)
            if group.leads:
                run_dir.begin_attempt(force)
            messages = [f"resumed from {found}", *_differences(old, new), *shares(made.parts.cfg, group.size)]
            attempt(made, run_dir, messages, state, to_yaml(new))
    return 0


def _must_be_newest(run_dir: RunDir, ckpt: str) -> None:
    """Raise ConfigError if a checkpoint is named that a resumed run would not go on from."""
    if ckpt == "last":
        return
    named = checkpoints.find(run_dir.checkpoints, int(ckpt) if ckpt.isdigit() else ckpt)
    if named != (newest := checkpoints.find(run_dir.checkpoints)):
        hint = f"a new run may begin with the weights of an older one: init_from={run_dir.path}@{ckpt}"
        raise ConfigError("resume", f"goes on from the newest checkpoint, {newest.name}, not from {named.name}", hint)


def _must_have_as_many(run_dir: RunDir, ranks: int) -> None:
    """Raise ConfigError if a run was not begun by so many ranks, each of which has a state of its own."""
    begun = run_dir.begun_by
    if begun != ranks:
        problem = (
            f"number of processes: {begun} have begun the run, each with a state of its own, here there are {ranks}"
        )
        raise ConfigError("resume", problem, resuming(run_dir.path, begun))


def _newest(run_dir: RunDir, group: Alone) -> tuple[Path | str, StateDict | None]:
    """Where to go on from, and the state there: of a rank that does not lead, what it saved with that of rank 0."""
    if group.leads:
        found, state = _newest_of_all(run_dir)
        group.same(found.name if isinstance(found, Path) else None)
        return found, state
    name = group.same(None)
    if name is None:
        return "the beginning", None
    own = run_dir.of_rank(group.rank).checkpoints / name
    return own, older.completed(checkpoints.load(own))


def _newest_of_all(run_dir: RunDir) -> tuple[Path | str, StateDict | None]:
    if not any(run_dir.checkpoints.glob("step_*")):
        if steps := run_dir.saved_steps():
            raise CheckpointError(
                f"{run_dir.checkpoints}: the checkpoints are gone, the run had reached {steps:,} env steps"
            )
        return "the beginning", None
    found, state = checkpoints.load_latest(run_dir.checkpoints, lambda text: print(text, file=sys.stderr))
    return found, older.completed(state)


def _changed(data: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A run's config with those things changed that do not change what it computes."""
    known = values.keys(data)
    for key in assigned(words, data):
        if key.split(".")[0] not in CHANGEABLE and key.split(".")[0] in known:
            hint = "these can: total_timesteps, logger.*, eval.*, checkpoint.*"
            raise ConfigError(key, "cannot change when a run is resumed, it would be another run", hint)
        if key not in known:
            raise dialects.unknown_key(key, {name for name in known if name.split(".")[0] in CHANGEABLE})
    return values.in_types(values.merged(data, words))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for every value that is not what it was."""
    before, after = flat(old), flat(new)
    changed = [key for key, value in after.items() if before.get(key) != value and not isinstance(value, dict)]
    known = {
        key: literal(before[key]) if key in before else "(not known then)" for key in changed
    }  # to an older version
    lines = [f"{key}: {known[key]} -> {literal(after[key])}" for key in changed]
    if "total_timesteps" in changed:
        lines.append("schedules over a share of the run (learning rate, epsilon) now span the new total")
    return lines
