"""What a crew of actors does for the source, wherever its actors are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from rlrun.types import Chunk, Metrics, StateDict


class Order(NamedTuple):
    """What an actor is asked for: one chunk."""

    sweeps: int  # T
    env_steps: int  # that the run will have taken when the chunk begins, as far as that is known


class Delivery(NamedTuple):
    """A chunk, and the version of the weights that it was acted by."""

    chunk: Chunk  # of the actor's environments alone, but episodes tell their indices in the run
    version: int


class Lost(Exception):
    """An actor that will not deliver any more; the text says what became of it.

    Args:
        actor: its index.
        trace: its own traceback, if it left one.
    """

    def __init__(self, actor: int, why: str, trace: str = ""):
        self.actor, self.trace = actor, trace
        super().__init__(why)


class Crew(Protocol):
    """N actors. Chunks of one actor come in the order in which they were asked for."""

    size: int  # N
    mortal: bool  # whether actors can be lost; what they had not delivered is lost then, and where a run is resumed
    lost_steps: int  # env steps that were taken and never delivered

    @property
    def caveat(self) -> str:
        """In what a resumed crew differs from this one; "" if in nothing."""
        ...

    def prove(self, check: Callable[[], None] | None = None) -> None:
        """Find out what `caveat` is, where that takes trying; `check` is called in between and may raise."""
        ...

    def publish(self, version: int) -> None:
        """The learner's weights are new: chunks that are begun from now on are acted by these, or by newer ones."""
        ...

    def submit(self, actor: int, order: Order) -> None:
        """Ask for one more chunk; what was taken last from this actor may be overwritten now."""
        ...

    def wait(self, seconds: float) -> Sequence[int]:
        """Wait for something to take, not for much longer than this. Returns whose it is, each as often as it has some.

        Raises:
            Lost: one of the actors will not deliver any more, but for what was named already.
        """
        ...

    def take(self, actor: int) -> Delivery:
        """The next chunk of one that `wait` named. Its arrays stay as they are until more is asked of the actor."""
        ...

    def restart(self, actor: int) -> None:
        """Put another one in the place of one that was lost, with new episodes. It has been asked for nothing yet."""
        ...

    def metrics(self) -> Metrics:
        """What the environments report of themselves."""
        ...

    def state_dict(self) -> StateDict: ...
    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a state; whatever chunks had been asked for are asked for again."""
        ...

    def close(self) -> None: ...
