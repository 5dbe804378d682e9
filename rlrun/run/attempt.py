"""One attempt at a run: from its beginning or a saved state to its end, and the record of what became of it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from rlrun.config import memory
from rlrun.errors import Interrupted, RanksLost, described, printable
from rlrun.loggers import console
from rlrun.loggers.runlog import UNSAID, run_log
from rlrun.run import build
from rlrun.run.callbacks.callbacks import Callbacks
from rlrun.run.callbacks.ranks import Follow, Order, Stopped, say
from rlrun.run.loop import loop
from rlrun.run.parts import Parts
from rlrun.run.prepare import Prepared
from rlrun.run.record import recorded
from rlrun.run.run import Run
from rlrun.rundir import checkpoints
from rlrun.rundir.layout import RunDir
from rlrun.rundir.lease import heartbeat
from rlrun.rundir.trust import change_config
from rlrun.seeding import Role, SeedTree
from rlrun.text import clock, counted, mean_and_std
from rlrun.types import StateDict

log = logging.getLogger(__name__)


def attempt(
    made: Prepared, run_dir: RunDir, messages: Sequence[str], state: StateDict | None = None, changed: str = ""
) -> None:
    """Train a run to its end, from a saved state or the beginning, and record what became of it.

    Args:
        messages: the first lines of what it says.
        state: what a checkpoint holds of it.
        changed: a new `config.yaml`, written once the state has been found to fit it.

    Raises:
        RlrunError: the run stopped before its end; status.json says why, run.log how.
    """
    parts, group = made.parts, made.parts.group
    if not group.leads:
        _assist(parts, run_dir.of_rank(group.rank), state)
        return
    with (
        run_log(run_dir.log, console.mode(parts.cfg.logger.console)),
        heartbeat(run_dir.status),
        recorded(run_dir, parts.interrupt) as record,
        group.together(),
    ):
        needs = memory.of_run(parts.cfg, parts.spec) + memory.of_source(parts.cfg, parts.environments, parts.algo)
        for message in [*messages, *memory.notice(needs, group.size)]:
            log.info("%s", message)
        run_dir.amend_meta(**roots(parts.seeds), **parts.known)
        run = build.begin(parts, run_dir)
        callbacks = build.callbacks(parts.cfg, run_dir, made.own, leads=group.size > 1)
        record.run, record.summary = run, callbacks.summary
        with closing(run.logger), closing(run.evaluation_envs):
            run.interrupt.check()  # a signal that came while the run was built: there is nothing to save yet
            if state is not None:
                with checkpoints.must_fit(run_dir.checkpoints):
                    checkpoints.must_resemble(state, run.state_dict() | {"callbacks": callbacks.state_dict()})
                    callbacks.load_state_dict(state["callbacks"])
                    run.load_state_dict(state)
            if changed:
                change_config(run_dir, changed)
            _train(run, callbacks)
        final = callbacks.evaluate.final
        if final is not None and final["env_steps"] != run.progress.env_steps:
            final = None  # that of an earlier end, and there is none of this one
        for line in _last_lines(run, final):
            log.info("%s", line)


def _train(run: Run, callbacks: Callbacks) -> None:
    """Train; save the state when a signal asks to stop."""
    try:
        for _ in loop(run, callbacks):
            pass
    except Interrupted as stopped:
        if not callbacks.checkpoint.save(run):
            steps = f"{run.progress.env_steps:,}"
            log.warning("stopped at %s env steps, and nothing was saved (checkpoint.enabled=false)", steps)
        say(run.group, Order.STOP, stopped.signum)
        raise


def _assist(parts: Parts, own: RunDir, state: StateDict | None) -> None:
    """The same on a rank that does not lead: it collects and learns with the others, and does what rank 0 says.

    Args:
        own: where it saves what is its own, and says what goes wrong here.
        state: what it has saved there.
    """
    group, interrupt, follow = parts.group, parts.interrupt, Follow()
    interrupt.last_words = lambda error, where: group.leave_word(error)
    with run_log(own.log, "off"), group.together():
        run = build.begin(parts, own)
        with closing(run.evaluation_envs):
            try:
                if state is not None:
                    with checkpoints.must_fit(own.checkpoints):
                        checkpoints.must_resemble(state, run.state_dict())
                        run.load_state_dict(state)
                for _ in loop(run, follow):
                    pass
            except (Stopped, RanksLost):
                raise
            except Interrupted:  # all have heard of it where they meet; now rank 0 saves, and then says so
                follow.obey(run)
            except Exception as error:
                UNSAID.error("%s", printable(described(error)), exc_info=error)
                raise


def _last_lines(run: Run, final: Mapping[str, float] | None) -> list[str]:
    """What has become of a run that is at its end, and a command to go on with."""
    progress, path = run.progress, shlex.quote(str(run.dir.path))
    how = "stopped early" if run.should_stop and not progress.done else "finished"
    line = f"{how} after {progress.env_steps:,} env steps in {clock(progress.wall_seconds)}"
    if final is not None:
        line += f": mean {mean_and_std(final['mean'], final['std'])} over {counted(int(final['episodes']), 'episode')}"
    if not run.cfg.checkpoint.enabled:
        return [line]
    can_be_seen = {"human", "rgb_array"} & set(run.spec.render_modes)
    return [line, f"next: rlrun {'play' if can_be_seen else 'eval'} {path}"]


def roots(seeds: SeedTree) -> dict[str, Any]:
    """The seed, and the seeds of each role that grow from it."""
    return {"seed": seeds.seed, "seeds": {role.name.lower(): seeds.integer(role) for role in Role}}
