"""`rlrun` with a fuse: the process sends itself a signal at an exact moment.

    python scripts/fuse.py PHASE:COUNT:SIGNAL rlrun-arguments…
    python scripts/fuse.py count rlrun-arguments…

PHASE says what is counted:

    claim       what the file system is asked from the moment a directory is claimed until training begins
    probe       steps of environments before training, which find out whether their state can be saved
    sweep       steps of the training environments
    evaluation  steps of an evaluation
    save        files of a checkpoint that are written

When the fuse blows, the file that FUSE_LOG names is touched. `count` writes into it, as JSON, how far each phase counts
in a run that nothing happens to.
"""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium

from rlrun import cli
from rlrun.commands import resume, train
from rlrun.experience.rollouts import Rollouts
from rlrun.run.callbacks import evaluate as periodic
from rlrun.rundir import checkpoints

FILES = {"open", "shutil.rmtree", "fcntl.flock"} | {
    f"os.{call}" for call in ("mkdir", "rename", "link", "symlink", "remove", "rmdir", "chmod", "listdir", "scandir")
}


class Fuse:
    """Blows at the `count`-th call."""

    def __init__(self, count: float = math.inf, signum: int = signal.SIGKILL):
        self.count, self.signum = count, signum
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.count:
            Path(os.environ["FUSE_LOG"]).touch()
            os.kill(os.getpid(), self.signum)


class Stage:
    """Where a run is, as the phases before training have to know."""

    def __init__(self) -> None:
        self.claiming = self.probing = False

    def claim(self) -> None:
        self.claiming = self.probing = True

    def train(self) -> None:
        self.claiming = self.probing = False


def before(action: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with `action` before every call."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        action()
        return function(*args, **kwargs)

    return call


def install(fuses: dict[str, Fuse]) -> None:
    """Have the fuses count."""
    stage = Stage()
    never = Fuse()
    train._claim = before(stage.claim, train._claim)
    resume.resume = before(stage.claim, resume.resume)
    Rollouts._sweep = before(stage.train, before(fuses.get("sweep", never), Rollouts._sweep))  # type: ignore[method-assign]
    periodic.evaluate = before(stage.train, periodic.evaluate)
    periodic.evaluate = functools.partial(periodic.evaluate, before_step=fuses.get("evaluation", never))
    checkpoints._seal = before(fuses.get("save", never), checkpoints._seal)

    claim, probe = fuses.get("claim", never), fuses.get("probe", never)
    sys.addaudithook(lambda event, args: claim() if stage.claiming and event in FILES else None)
    make, patched = gymnasium.make, set()

    def counted(*args: Any, **kwargs: Any) -> gymnasium.Env:
        env = make(*args, **kwargs)
        kind = type(env.unwrapped)
        if kind not in patched:
            patched.add(kind)
            kind.step = before(lambda: probe() if stage.probing else None, kind.step)  # type: ignore[method-assign]
        return env

    gymnasium.make = counted


if __name__ == "__main__":
    if sys.argv[1] == "count":
        counts = {phase: Fuse() for phase in ("claim", "probe", "sweep", "evaluation", "save")}
        install(counts)
        code = cli.main(sys.argv[2:])
        Path(os.environ["FUSE_LOG"]).write_text(json.dumps({phase: fuse.calls for phase, fuse in counts.items()}))
    else:
        phase, count, name = sys.argv[1].split(":")
        install({phase: Fuse(int(count), signal.Signals[f"SIG{name}"])})
        code = cli.main(sys.argv[2:])
    sys.exit(code)
