"""The one training loop: a source yields chunks, the algorithm learns from them, callbacks look on.

It serves tabular, bandit, replay, rollout and actor-learner families alike; they differ in source, `rollout_steps` and
`learn`, none of which is visible here.
"""

from __future__ import annotations

import time

from rlrun.run.callbacks.callback import listeners, tell
from rlrun.run.run import Run
from rlrun.types import Chunk

NOTHING = Chunk(0, [], None)


def train(run: Run) -> None:
    """Train until the budget is spent or a callback stops the run.

    Raises:
        Interrupted: a signal came; the state is whole and can be saved.
        Diverged: a number is not finite.
    """
    progress = run.progress
    of_episodes, of_chunks = listeners(run, "on_episode_end"), listeners(run, "on_chunk")
    clock = time.monotonic() - progress.wall_seconds
    tell(run, "on_start")
    if progress.env_steps:  # resumed: work that the interruption cut off, such as an evaluation, is still due
        tell(run, "on_chunk", NOTHING, {})
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
            if progress.done or run.should_stop:
                break
    tell(run, "on_end")
