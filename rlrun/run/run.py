"""A run: what it is made of, where it is recorded, and what a checkpoint holds of it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch

from rlrun import registry
from rlrun.loggers import Loggers
from rlrun.run.evaluation import Kept
from rlrun.run.parts import Parts
from rlrun.rundir.layout import RunDir
from rlrun.types import Progress, StateDict, VectorEnv


@dataclass
class Run(Parts):
    """Parts that compute, and a directory; `state_dict` is what a checkpoint holds of them."""

    dir: RunDir
    logger: Loggers
    should_stop: bool = False
    stop_reason: str = ""  # of one that stops before its end

    def __post_init__(self) -> None:
        self.progress = Progress(self.cfg.total_timesteps)
        self.evaluation_envs = Kept(self._for_evaluation)

    @property
    def promise(self) -> str:
        """What a resumed run will be: "exact", or in what it will differ from an undisturbed one."""
        if not self.cfg.checkpoint.enabled:
            return "nothing is saved: it would begin anew"
        caveats = [self.source.caveat]
        replays = registry.get("algo", self.cfg.algo.name).needs.memory == "replay"
        if replays and not self.cfg.checkpoint.replay:
            caveats.append("replay is collected anew")
        if not self.device.is_cpu:
            caveats.append("a GPU may round differently")
        return "; ".join(filter(None, caveats)) or "exact"

    def state_dict(self) -> StateDict:
        return {
            "progress": self.progress.state_dict(),
            "environments": self.environments.state_dict(),
            "algo": self.algo.state_dict(),
            "buffer": self.buffer.state_dict(contents=self.cfg.checkpoint.replay) if self.buffer is not None else {},
            "source": self.source.state_dict(),
            "logger": self.logger.state_dict(),
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
        self.environments.load_state_dict(state["environments"])  # before the source, whose observations they shape
        self.algo.load_state_dict(state["algo"])
        if self.buffer is not None:
            self.buffer.load_state_dict(state["buffer"])
        self.source.load_state_dict(state["source"])
        self.logger.load_state_dict(state["logger"])
        stop = state.get("stop", {})  # a run that was stopped before its end stays so, unless it is given more to do
        if self.progress.total_timesteps <= stop.get("total_timesteps", 0):
            self.should_stop, self.stop_reason = stop["should_stop"], stop["reason"]
        torch.set_rng_state(state["random"]["torch"])
        np.random.set_state(state["random"]["numpy"])
        random.setstate(state["random"]["python"])

    def close(self) -> None:
        super().close()
        self.evaluation_envs.close()
        self.logger.close()

    def _for_evaluation(self) -> VectorEnv:
        return self.environments.evaluation(min(self.cfg.eval.num_envs, self.cfg.eval.episodes))
