"""A run: everything it consists of, and what a checkpoint holds of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rlrun.algos.algorithm import Algorithm
from rlrun.interrupt import Interrupt
from rlrun.loggers import Loggers
from rlrun.run.callbacks.callback import Callback
from rlrun.run.evaluation import Kept
from rlrun.rundir.layout import RunDir
from rlrun.seeding import SeedTree
from rlrun.types import Buffer, EnvSpec, Progress, Source, StateDict


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
