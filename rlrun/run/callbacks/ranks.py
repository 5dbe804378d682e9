"""What keeps the ranks of a run together while the callbacks of rank 0 are at work: that one leads, the others follow.

At every hook the others wait for what rank 0 says: to go on, to save what is theirs, or that all has been saved and the
run is stopped. What is theirs (environments, replay, streams; and the learner, which is the same on all) lies in
`ranks/N/checkpoints/`, under the steps of the checkpoint that it goes with. It is there before that one, and stays
until after it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.errors import Interrupted
from rlrun.run.callbacks.callback import Callback
from rlrun.rundir import checkpoints
from rlrun.types import Chunk, Metrics

if TYPE_CHECKING:
    from rlrun.compute.spread import Alone
    from rlrun.run.run import Run


class Order(enum.IntEnum):
    """What rank 0 says, each with a number."""

    GO_ON = 0  # 1: the run stops here
    SAVE = 1  # 1: it is the best so far
    PRUNE = 2  # the checkpoint stands; older ones may go
    STOP = 3  # the signal that has stopped all


def say(group: Alone, order: Order, number: int = 0) -> None:
    """On rank 0."""
    group.led(np.array([order, number]))


class Stopped(Interrupted):
    """Rank 0 has said that the run is stopped, and that all is saved."""


class Lead(Callback):
    """The last callback of rank 0: the others go on."""

    def on_start(self, run: Run) -> None:
        self._go_on(run)

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        self._go_on(run)

    def on_end(self, run: Run) -> None:
        self._go_on(run)

    def _go_on(self, run: Run) -> None:
        say(run.group, Order.GO_ON, int(run.should_stop))


class Follow:
    """In place of the callbacks, on the other ranks."""

    def listeners(self, hook: str) -> Sequence[Callable[..., None]]:
        return {"on_start": [self.begin], "on_chunk": [self.obey], "on_end": [self.obey]}.get(hook, [])

    def tell(self, run: Run, hook: str, *args: Any) -> None:
        for listener in self.listeners(hook):
            listener(run, *args)

    def begin(self, run: Run) -> None:
        if run.cfg.checkpoint.enabled and run.cfg.checkpoint.env_state == "auto":
            run.source.prove()
        self.obey(run)

    def obey(self, run: Run, *_: Any) -> None:
        """Do what rank 0 says until all go on."""
        cfg, root, env_steps = run.cfg.checkpoint, run.dir.checkpoints, run.progress.env_steps
        while True:
            with run.interrupt.finishing():  # rank 0 may evaluate for hours, and answers signals itself
                order, number = run.group.led(np.zeros(2, np.int64)).tolist()
            match Order(order):
                case Order.GO_ON:
                    run.should_stop = bool(number)
                    return
                case Order.STOP:
                    raise Stopped(number)
                case Order.SAVE:
                    with run.interrupt.finishing():
                        checkpoints.save(root, run.state_dict(), env_steps, best=bool(number), keep_last=0)
                        run.group.meet()
                case Order.PRUNE:
                    checkpoints.prune(root, env_steps, cfg.keep_last)
