"""What an actor does in a process of its own: it takes orders, and fills one slot after the other."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import struct
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType

import numpy as np

from rlrun import offspring
from rlrun.envs.faults import described, traced
from rlrun.errors import RlrunError
from rlrun.experience.actors.actor import Actor
from rlrun.experience.actors.crew import Order
from rlrun.experience.actors.shared import Shared
from rlrun.experience.actors.slots import Slots
from rlrun.experience.contracts import Blueprint
from rlrun.interrupt import Interrupt
from rlrun.types import Array

ORDER = struct.Struct("<qq")
READY, DONE, FAILED = b"r", b"d", b"f"  # it is built; a chunk is complete; a text follows, and it ends
ALARM = signal.SIGURG  # from the parent: say where you are, and end. Nobody else sends it


class Stalled(TimeoutError):
    """An environment takes longer than the learner has patience."""


class Left(Exception):
    """The parent wants the actor to end."""


@dataclass(frozen=True)
class Post:
    """All that an actor process is told when it starts."""

    blueprint: Blueprint
    stream: int  # what its agent explores by
    place: range  # its environments among those of the run
    num_envs: int  # E of the run
    seeds: Sequence[int]  # one for each of its environments
    slots: Slots
    first: int  # the slot that is filled first
    weights: Shared
    leave: Shared  # "now" [1] bool: set by a parent that wants its actors to end
    wire: Connection
    patience: float  # for messages


def work(post: Post) -> None:
    """The life of an actor process."""
    offspring.begin()

    def alarmed(signum: int, frame: FrameType | None) -> None:
        raise Stalled(f"there was no step for {post.patience:g} seconds")

    signal.signal(ALARM, alarmed)
    with contextlib.suppress(Left, EOFError, BrokenPipeError, ConnectionResetError):
        try:
            _work(post)
        except (Left, EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except BaseException as error:
            text = str(error) if isinstance(error, RlrunError) else described(error)
            post.wire.send_bytes(FAILED + json.dumps([text, traced(error)]).encode())


def _work(post: Post) -> None:
    from rlrun.experience.actors.weights import Weights  # needs torch as soon as it is imported

    environments, algo = post.blueprint(post.stream)
    weights = Weights(algo.published, post.weights)
    random.seed(post.seeds[0])  # an environment may draw from the global streams
    np.random.seed(post.seeds[0])
    slot, rows = post.first, post.slots.rows(post.first)
    pulse = Pulse(post.slots.swept, post.leave["now"])
    with closing(environments.train(len(post.place))) as envs:
        actor = Actor(algo, algo.agent, envs, post.place, post.num_envs, post.seeds, pulse, rows)
        pulse.actor = actor
        post.wire.send_bytes(READY)
        while True:
            order = Order(*ORDER.unpack(post.wire.recv_bytes()))
            actor.collect(order, weights.read(), post.slots.rows(slot))
            post.slots.put(slot, actor.deliver())
            pulse.settle(order.sweeps)
            post.wire.send_bytes(DONE)
            slot = (slot + 1) % post.slots.count


class Pulse(Interrupt):
    """Shows before every sweep how many were done, and hears whether the parent wants the actor to end."""

    actor: Actor

    def __init__(self, swept: Array, leave: Array):
        super().__init__()
        self.swept, self.leave, self.before = swept, leave, int(swept[0])

    def check(self) -> None:
        if self.leave[0]:
            raise Left
        self.swept[0] = self.before + self.actor.source.filled

    def settle(self, sweeps: int) -> None:
        """A chunk is complete."""
        self.before += sweeps
        self.swept[0] = self.before
