"""What may look on while a run trains: the hooks, and who is called at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlrun.errors import CallbackError, RlrunError
from rlrun.run.evaluation import EvalResult
from rlrun.state import Stateful
from rlrun.types import Chunk, EpisodeStat, Metrics

if TYPE_CHECKING:
    from rlrun.run.run import Run


def nobody(*_: Any) -> None:
    """Whom a callback tells that stands alone."""


class Callback(Stateful):
    """Does nothing; a callback overrides what it needs.

    It looks at the run and may set `run.should_stop`; the rest of the run is not its to change. What it remembers from
    one call to the next belongs into its `state`, or a resumed run forgets it.
    """

    tell: Callable[..., None] = staticmethod(nobody)  # tell(run, hook, ...) calls a hook of all callbacks of the run

    def on_start(self, run: Run) -> None:
        """Before the first chunk of every attempt; a resumed run stands at its checkpoint."""

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        """After every chunk, and once with an empty one after a resume: work that was cut off is done then."""

    def on_episode_end(self, run: Run, episode: EpisodeStat) -> None:
        """For every training episode that ended in a chunk, before `on_chunk`."""

    def on_evaluation(self, run: Run, result: EvalResult, kind: str) -> None:
        """After an evaluation; `kind` is "periodic" or "final"."""

    def on_best(self, run: Run, result: EvalResult) -> None:
        """After an evaluation whose mean return is the highest so far, the first included."""

    def on_solved(self, run: Run) -> None:
        """Once the mean training return has reached `stop.mean_return`."""

    def on_end(self, run: Run) -> None:
        """After the last chunk, before the last checkpoint; not where a run is interrupted or fails."""


def hook_of(callback: Callback, hook: str, name: str) -> Callable[..., None] | None:
    """A hook of a callback, None if it does nothing there; the failure of a user's says whose it is."""
    nothing = getattr(Callback, hook)
    if getattr(type(callback), hook, nothing) is nothing:
        return None
    call: Callable[..., None] = getattr(callback, hook)
    if type(callback).__module__.startswith("rlrun."):
        return call

    def guarded(*args: Any) -> None:
        try:
            call(*args)
        except RlrunError:
            raise
        except Exception as error:
            raise CallbackError(f"callback {name}: {hook}() failed: {type(error).__name__}: {error}") from error

    return guarded
