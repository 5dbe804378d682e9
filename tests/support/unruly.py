"""An environment that does what a test tells it to, once, at the moment that the test names.

    rlrun imports=[unruly] env.id=Unruly-v0 env.kwargs.what=hang env.kwargs.when=30

WHAT happens in WHERE (`init`, `reset`, `step` or `close`) as soon as the run in the directory `disturbed` has saved its
checkpoint of WHEN env steps: 0 is at once, -1 never. It happens once: then there is the file `happened`. With `pid`
that process gets SIGTERM at the same moment; -1 is this one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np


class Unruly(gym.Env[np.ndarray, int]):
    """Three random numbers; episodes of 20 steps, each worth 1."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, what: str = "nothing", where: str = "step", when: int = 0, pid: int = 0):
        self.what, self.where, self.when, self.pid = what, where, when, pid
        self.length = 0
        self.misbehave("init")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.length = 0
        self.misbehave("reset")
        return self.observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.length += 1
        self.misbehave("step")
        return self.observation(), 1.0, False, self.length == 20, {}

    def close(self) -> None:
        self.misbehave("close")

    def observation(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def misbehave(self, where: str) -> None:
        saved = not self.when or Path(f"disturbed/checkpoints/step_{self.when:09d}").exists()
        if where == self.where and saved and not Path("happened").exists():
            Path("happened").touch()
            if self.pid:
                os.kill(os.getpid() if self.pid < 0 else self.pid, signal.SIGTERM)
            getattr(self, self.what)()

    def nothing(self) -> None:
        pass

    def talk(self) -> None:
        print("±" * 100_000, flush=True)

    def hang(self) -> None:
        time.sleep(100)

    def spin(self) -> None:
        while True:
            pass

    def swallow(self) -> None:
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(100)

    def crash(self) -> None:
        raise ValueError("bang")

    def leave(self) -> None:
        sys.exit(0)

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def close_generator(self) -> None:
        raise GeneratorExit

    def babble(self) -> None:
        raise BaseException("\x1b[2J" + "b" * 1_000_000)


gym.register("Unruly-v0", entry_point="unruly:Unruly")
