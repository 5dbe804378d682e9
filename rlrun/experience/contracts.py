"""What the runner asks of a source of experience, and what a source whose actors are processes asks of the runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from rlrun.agents.agent import Agent
    from rlrun.algos.algorithm import Algorithm
    from rlrun.envs.environments import Environments
    from rlrun.types import Chunk, Metrics, StateDict


class Source(Protocol):
    """Context manager and endless iterator of chunks."""

    @property
    def caveat(self) -> str:
        """In what a source that is restored from its state may differ from this one; "" if in nothing."""
        ...

    def prove(self, check: Callable[[], None] | None = None) -> None:
        """Find out what `caveat` is, where that takes trying; `check` is called in between and may raise."""
        ...

    def __iter__(self) -> Iterator[Chunk]: ...
    def publish(self, agent: Agent) -> None: ...
    def metrics(self) -> Metrics: ...
    def state_dict(self) -> StateDict: ...
    def load_state_dict(self, state: StateDict) -> None: ...
    def close(self) -> None: ...


class Blueprint(Protocol):
    """How environments and the learner with its agent are made in another process; it can be sent there."""

    def stream(self, index: int) -> np.random.Generator:
        """What an agent explores by: 0 is the stream of the learner's own."""
        ...

    def __call__(self, stream: int) -> tuple[Environments, Algorithm]:
        """Made anew, on the CPU with one thread, and without memory for what only learning fills.

        Args:
            stream: what the agent explores by.
        """
        ...
