"""All that is made before a directory is claimed: once it stands, nothing can refuse the run any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from rlrun.config.compose import Composed
from rlrun.config.schema import RunConfig
from rlrun.config.validate import validate
from rlrun.interrupt import Interrupt
from rlrun.run import warmstart
from rlrun.run.build import Parts, own_callbacks, parts
from rlrun.run.callbacks.callback import Callback


@contextmanager
def made_for(
    composed: Composed, interrupt: Interrupt
) -> Iterator[tuple[RunConfig, Parts, dict[str, Callback], dict[str, Any]]]:
    """The config, parts, callbacks and initial weights of a new run; nothing can refuse it any more."""
    cfg = validate(composed.data)  # nothing is begun that would be worth waiting for
    made = parts(cfg, interrupt)
    with closing(made.source):
        own = own_callbacks(cfg)
        begun = warmstart.start(made, cfg.algo.name, cfg.init_from)
        interrupt.check()
        interrupt.grace = cfg.checkpoint.grace
        yield cfg, made, own, begun
