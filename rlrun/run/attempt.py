"""One attempt at a run: from its beginning or a saved state to its end, and the record of what became of it."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, cast

from rlrun.config import memory
from rlrun.config.schema import RunConfig
from rlrun.errors import Interrupted
from rlrun.loggers import console
from rlrun.loggers.runlog import run_log
from rlrun.run.build import Parts, build
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.checkpoint import Checkpoint
from rlrun.run.callbacks.evaluate import Evaluate
from rlrun.run.loop import train as run_loop
from rlrun.run.record import recorded
from rlrun.run.run import Run
from rlrun.rundir import checkpoints
from rlrun.rundir.layout import RunDir
from rlrun.rundir.lease import heartbeat
from rlrun.rundir.trust import change_config
from rlrun.seeding import Role, SeedTree
from rlrun.text import clock, mean_and_std
from rlrun.types import StateDict

log = logging.getLogger(__name__)


def attempt(
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
        run_dir.amend_meta(**roots(made.seeds))
        run = record.run = build(cfg, made, own, run_dir)
        with closing(run.logger), closing(run.evaluation_envs):
            made.interrupt.check()  # a signal that came while the run was built: there is nothing to save yet
            if state is not None:
                with checkpoints.must_fit(run_dir.checkpoints):
                    checkpoints.must_resemble(state, run.state_dict())
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
    line = f"{how} after {progress.env_steps:,} env steps in {clock(progress.wall_seconds)}"
    if final is not None:
        line += f": mean {mean_and_std(final['mean'], final['std'])} over {final['episodes']} episodes"
    if not run.cfg.checkpoint.enabled:
        return [line]
    can_be_seen = {"human", "rgb_array"} & set(run.spec.render_modes)
    return [line, f"next: rlrun {'play' if can_be_seen else 'eval'} {path}"]


def roots(seeds: SeedTree) -> dict[str, Any]:
    """The seed, and the seeds of each role that grow from it."""
    return {"seed": seeds.seed, "seeds": {role.name.lower(): seeds.integer(role) for role in Role}}
