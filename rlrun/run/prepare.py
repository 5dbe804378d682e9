"""All that is made before a directory is claimed: once it stands, nothing can refuse the run any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from rlrun.compute.spread import Alone
from rlrun.config.schema import RunConfig
from rlrun.interrupt import Interrupt
from rlrun.loggers import tracking
from rlrun.run import build, film, warmstart
from rlrun.run.callbacks.callback import Callback
from rlrun.run.parts import Parts


@dataclass
class Prepared:
    """What an attempt takes."""

    parts: Parts
    own: dict[str, Callback]  # the user's callbacks
    begun: dict[str, Any]  # whose weights it begins with, for meta.json


@contextmanager
def prepared(
    cfg: RunConfig, interrupt: Interrupt, weights: str | None, group: Alone | None = None
) -> Iterator[Prepared]:
    """The parts of a run at its beginning, its callbacks and its initial weights.

    Args:
        weights: where they come from, as `init_from` has it; None for fresh ones.
        group: the ranks of the run; on all of them when this returns.

    Raises:
        ConfigError: something that the config asks for cannot be had.
    """
    if tracker := getattr(cfg.logger, "tracker", None):
        tracking.require(tracker)
    with closing(build.parts(cfg, interrupt, group)) as parts:
        if getattr(cfg.eval, "video_freq", 0):
            film.require("eval.video_freq", parts.spec)
        own = build.own_callbacks(cfg) if parts.group.leads else {}
        begun = warmstart.start(parts, weights)
        interrupt.check()
        parts.group.meet()
        interrupt.grace = cfg.checkpoint.grace
        yield Prepared(parts, own, begun)
