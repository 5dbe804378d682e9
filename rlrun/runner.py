"""The one training loop: a source yields chunks, the algorithm learns from them, callbacks look on.

It serves tabular, bandit, replay, rollout and actor-learner families alike; they differ in source, `rollout_steps` and
`learn`, none of which is visible here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rlrun.callbacks import Callback, listeners, tell
from rlrun.evaluation import Kept
from rlrun.interrupt import Interrupt
from rlrun.loggers import Loggers
from rlrun.rundir import RunDir
from rlrun.seeding import SeedTree
from rlrun.types import Algorithm, Buffer, Chunk, EnvSpec, Progress, Source, StateDict

NOTHING = Chunk(0, [], None)


@dataclass
class Run:
    """Everything a run consists of; `state_dict` is what a checkpoint holds."""

    cfg: Any  # config.RunConfig, read-only
    dir: RunDir
    spec: EnvSpec
    seeds: SeedTree
    algo: Algorithm
    buffer: Buffer | None
    source: Source
    logger: Loggers
    callbacks: dict[str, Callback]
    progress: Progress
    evaluation_envs: Kept
    caveats: Sequence[str] = ()  # in what a resumed run differs, the environments aside
    interrupt: Interrupt = field(default_factory=Interrupt)
    should_stop: bool = False
    stop_reason: str = ""  # of one that stops before its end

    @property
    def promise(self) -> str:
        """What a resumed run will be: "exact", or in what it will differ from an undisturbed one."""
        if not self.cfg.checkpoint.enabled:
            return "nothing is saved: it would begin anew"
        return "; ".join(filter(None, [self.source.caveat, *self.caveats])) or "exact"

    def state_dict(self) -> StateDict:
        return {
            "progress": self.progress.state_dict(),
            "algo": self.algo.state_dict(),
            "buffer": self.buffer.state_dict(contents=self.cfg.checkpoint.replay) if self.buffer is not None else {},
            "source": self.source.state_dict(),
            "logger": self.logger.state_dict(),
            "callbacks": {name: callback.state_dict() for name, callback in self.callbacks.items()},
            "stop": {
                "should_stop": self.should_stop,
                "reason": self.stop_reason,
                "total_timesteps": self.progress.total_timesteps,
            },
            "random": {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Put every part back. The global random streams come last, so that nothing restored before can move them."""
        self.progress.load_state_dict(state["progress"])
        self.algo.load_state_dict(state["algo"])
        if self.buffer is not None:
            self.buffer.load_state_dict(state["buffer"])
        self.source.load_state_dict(state["source"])
        self.logger.load_state_dict(state["logger"])
        for name, callback in self.callbacks.items():
            callback.load_state_dict(
                state["callbacks"].get(name, {})
            )  # older ones know fewer, none of them with a state
        stop = state.get("stop", {})  # a run that was stopped before its end stays so, unless it is given more to do
        if self.progress.total_timesteps <= stop.get("total_timesteps", 0):
            self.should_stop, self.stop_reason = stop["should_stop"], stop["reason"]
        torch.set_rng_state(state["random"]["torch"])
        np.random.set_state(state["random"]["numpy"])
        random.setstate(state["random"]["python"])

    def close(self) -> None:
        self.source.close()
        self.logger.close()


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
