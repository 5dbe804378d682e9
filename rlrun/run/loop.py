"""The one training loop: a source yields chunks, the algorithm learns from them, callbacks look on.

It serves tabular, bandit, replay, rollout and actor-learner families alike; they differ in source, `rollout_steps` and
`learn`, none of which is visible here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from rlrun.loggers.runlog import speaker
from rlrun.run.run import Run
from rlrun.types import Chunk

NOTHING = Chunk(0, [], None)


class Listeners(Protocol):
    """Who looks on: callbacks, or what stands for them (see callbacks/ranks.py)."""

    def listeners(self, hook: str) -> Sequence[Callable[..., None]]: ...
    def tell(self, run: Run, hook: str, *args: Any) -> None: ...


def loop(run: Run, callbacks: Listeners) -> Iterator[Chunk]:
    """Train until the budget is spent or a callback stops the run; yields every chunk when all is done with it.

    What its caller does in between, such as taking another run a chunk further, is none of this run's time, and what is
    said there none of its log.

    Raises:
        Interrupted: a signal came; the state is whole and can be saved.
        Diverged: a number is not finite.
    """
    progress = run.progress
    of_episodes, of_chunks = callbacks.listeners("on_episode_end"), callbacks.listeners("on_chunk")
    clock, outside = time.monotonic() - progress.wall_seconds, speaker.get()
    inside = outside if outside == run.dir.log else run.dir.log  # by one name, which is quickly compared
    speaker.set(inside)
    try:
        callbacks.tell(run, "on_start")
        if progress.env_steps:  # resumed: work that the interruption cut off, such as an evaluation, is still due
            callbacks.tell(run, "on_chunk", NOTHING, {})
        if not (progress.done or run.should_stop):
            for chunk in run.source:
                progress.advance(chunk)
                metrics = run.algo.learn(chunk.data, progress)
                run.source.publish(run.algo.agent)
                progress.wall_seconds = time.monotonic() - clock
                for episode in chunk.episodes if of_episodes else ():
                    for listener in of_episodes:
                        listener(run, episode)
                for listener in of_chunks:
                    listener(run, chunk, metrics)
                left = time.monotonic()
                if outside is not inside:
                    speaker.set(outside)
                yield chunk
                outside, clock = speaker.get(), clock + time.monotonic() - left
                if outside is not inside:
                    speaker.set(inside)
                if progress.done or run.should_stop:
                    break
        callbacks.tell(run, "on_end")
    finally:
        speaker.set(outside)
