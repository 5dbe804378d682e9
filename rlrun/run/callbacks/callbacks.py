"""All callbacks of a run together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlrun.run.callbacks.callback import Callback, hook_of
from rlrun.run.callbacks.checkpoint import Checkpoint
from rlrun.run.callbacks.evaluate import Evaluate
from rlrun.run.callbacks.log import Log
from rlrun.run.callbacks.ranks import Lead
from rlrun.run.callbacks.stop import StopWhenSolved
from rlrun.run.callbacks.summary import Summary
from rlrun.run.callbacks.video import Video
from rlrun.run.run import Run
from rlrun.state import Stateful
from rlrun.types import StateDict


class Callbacks(Stateful):
    """Who looks on while a run trains, in this order: the checkpoint saves what those before it did with a chunk.

    Args:
        log, stop, evaluate, video, checkpoint, summary: ours; `stop` where the run may be solved before its end,
            `video` where it is filmed.
        own: the user's, by number and name.
        figures: what else is drawn and written at the end, by name.
        lead: where there are other ranks, which wait until all of these are done.
    """

    def __init__(
        self,
        log: Log,
        stop: StopWhenSolved | None,
        evaluate: Evaluate,
        video: Video | None,
        own: Mapping[str, Callback],
        checkpoint: Checkpoint,
        summary: Summary,
        figures: Mapping[str, Callback],
        lead: Lead | None = None,
    ):
        self.log, self.stop, self.evaluate, self.checkpoint, self.summary = log, stop, evaluate, checkpoint, summary
        solved = {} if stop is None else {"stop": stop}
        filmed = {} if video is None else {"video": video}
        first: dict[str, Callback] = {"log": log, **solved, "evaluate": evaluate, **filmed, **own}
        last: dict[str, Callback] = {} if lead is None else {"ranks": lead}
        self._by_name = first | {"checkpoint": checkpoint, "summary": summary} | dict(figures) | last
        for callback in self._by_name.values():
            callback.tell = self.tell
        checkpoint.beside["callbacks"] = self

    def listeners(self, hook: str) -> list[Callable[..., None]]:
        """What is to be called at a hook; nothing of those that do nothing there."""
        found = (hook_of(callback, hook, name) for name, callback in self._by_name.items())
        return [listener for listener in found if listener is not None]

    def tell(self, run: Run, hook: str, *args: Any) -> None:
        """Call a hook of all.

        Raises:
            CallbackError: a callback of the user's failed.
        """
        for listener in self.listeners(hook):
            listener(run, *args)

    def state_dict(self) -> StateDict:
        return {name: callback.state_dict() for name, callback in self._by_name.items()}

    def load_state_dict(self, state: StateDict) -> None:
        for name, callback in self._by_name.items():
            callback.load_state_dict(state.get(name, {}))  # older ones know fewer, none of them with a state
