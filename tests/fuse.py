"""`rlrun` with a fuse: the process sends itself a signal at an exact moment.

    python tests/fuse.py PHASE:COUNT:SIGNAL rlrun-arguments…

PHASE says what is counted: `sweep` (steps of the training environments), `evaluation` (steps of an evaluation) or
`save` (files of a checkpoint that are written). When the fuse blows, the file that FUSE_LOG names is touched.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlrun import callbacks, checkpoint, cli
from rlrun.experience.trajectories import Rollouts


class Fuse:
    """Blows at the `count`-th call."""

    def __init__(self, count: int, signum: int):
        self.left, self.signum = count, signum

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            Path(os.environ["FUSE_LOG"]).touch()
            os.kill(os.getpid(), self.signum)

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self()
            return function(*args, **kwargs)

        return call


def install(phase: str, fuse: Fuse) -> None:
    if phase == "sweep":
        Rollouts._sweep = fuse.before(Rollouts._sweep)  # type: ignore[method-assign]
    elif phase == "evaluation":
        callbacks.evaluate = functools.partial(callbacks.evaluate, before_step=fuse)
    elif phase == "save":
        checkpoint._seal = fuse.before(checkpoint._seal)
    else:
        raise ValueError(phase)


if __name__ == "__main__":
    phase, count, name = sys.argv[1].split(":")
    install(phase, Fuse(int(count), signal.Signals[f"SIG{name}"]))
    sys.exit(cli.main(sys.argv[2:]))
