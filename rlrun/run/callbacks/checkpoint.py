"""Checkpoints while a run trains, and at its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rlrun.checks import Bounded, Natural, OneOf, Within
from rlrun.errors import Diverged
from rlrun.registry import register
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.ranks import Order, say
from rlrun.rundir import checkpoints
from rlrun.schedules import Every
from rlrun.state import Stateful
from rlrun.types import Chunk, Metrics

if TYPE_CHECKING:
    from rlrun.run.run import Run

log = logging.getLogger(__name__)


@dataclass
class CheckpointConfig(Bounded):
    """What is saved, and when."""

    name: str = "default"  # registered name
    enabled: bool = True  # false: save nothing; such a run cannot be resumed, evaluated or played
    freq: Natural = 10_000  # env steps between two checkpoints; 0 = only at the end
    at_start: bool = False  # save one before the first step as well; it counts in keep_last
    keep_last: Natural = 3  # how many of the newest stay; 0 = all
    keep_best: bool = True  # keep one more: that of the best evaluation
    replay: bool = True  # save what a replay buffer holds; without it a resumed run has to collect anew
    # seconds from a signal to the end; what takes longer is given up for the last checkpoint
    grace: Annotated[float, Within(0, 86_400)] = 5.0
    # auto (try on two more environments if it can be saved) | off (new episodes at resume)
    env_state: Annotated[str, OneOf("auto", "off")] = "auto"


@register("checkpoint", CheckpointConfig)
class Checkpoint(Callback):
    """Saves the whole run every `freq` env steps, after a best evaluation, and at the end.

    What a resumed run will be is said in `meta.json`, and in the log where it is not exact or no longer so.
    """

    state = ("_every", "_is_best")

    def __init__(self, cfg: CheckpointConfig):
        self.cfg = cfg
        self.beside: dict[str, Stateful] = {}  # what is saved with a run and is no part of it, by name
        self._promised = ""  # what was said last
        self._every = Every(cfg.freq)
        self._is_best = False

    def mark_best(self) -> None:
        """The next checkpoint, due with this chunk, is the best so far."""
        self._is_best = self.cfg.keep_best

    def on_start(self, run: Run) -> None:
        if self.cfg.enabled and self.cfg.env_state == "auto":
            run.source.prove(run.interrupt.check)
        self._promise(run, log.info)
        if self.cfg.at_start and not run.progress.env_steps:
            self.save(run)

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        ends = run.progress.done or run.should_stop  # then it is saved after the final evaluation
        if not ends and (self._is_best or self._every.due(run.progress.env_steps)):
            self.save(run)

    def on_end(self, run: Run) -> None:
        self.save(run)

    def save(self, run: Run) -> bool:
        """Save now, if anything is to be saved; returns whether it is. The saved state already says that it was."""
        if not self.cfg.enabled:
            return False
        env_steps, best = run.progress.env_steps, self._is_best
        self._every.consume(env_steps)
        self._is_best = False
        state = run.state_dict() | {name: part.state_dict() for name, part in self.beside.items()}
        self._promise(run, log.warning)
        if _has_nan(state.get("algo")):  # it would push out the checkpoints from before it diverged
            raise Diverged(f"what was learned is not a number at env step {env_steps:,}; it was not saved")
        group = run.group
        with run.interrupt.finishing():
            run.dir.must_be_ours()
            say(group, Order.SAVE, int(best))
            group.meet()
            checkpoints.save(run.dir.checkpoints, state, env_steps, best=best, keep_last=self.cfg.keep_last)
            say(group, Order.PRUNE)
        run.dir.set_status("running", env_steps=env_steps, saved=env_steps)
        return True

    def _promise(self, run: Run, say: Callable[[str, str], None]) -> None:
        """Say what a resumed run will be, if that is not what was said before."""
        if run.promise == self._promised:
            return
        self._promised = run.promise
        run.dir.amend_meta(resume=run.promise)
        if self.cfg.enabled and run.source.caveat:
            say("a resumed run will not be exact: %s", run.source.caveat)


def _has_nan(node: Any) -> bool:
    """Whether a state holds a NaN anywhere in its arrays and tensors."""
    if isinstance(node, Mapping):
        return any(_has_nan(value) for value in node.values())
    if isinstance(node, list | tuple):
        return any(_has_nan(value) for value in node)
    return hasattr(node, "shape") and bool((node != node).any())
