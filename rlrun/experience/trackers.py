"""Books of a loop of one's own: returns of episodes, and means of what is logged too often to be looked at.

The writer is TensorBoard's `SummaryWriter`, or whatever has its `add_scalar(name, value, step)` and `close()`.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import Any

import numpy as np


class RewardTracker:
    """Tells how the last 100 episodes went: to a writer, on the console, and to the loop that wants to stop.

        with RewardTracker(SummaryWriter()) as tracker:
            ...
            for reward in source.pop_total_rewards():
                mean = tracker.reward(reward, step, selector.epsilon)

    Args:
        writer: gets `reward`, `reward_100`, `epsilon` and `speed`; None for the console alone.
        min_ts_diff: seconds from one line on the console to the next.
    """

    WINDOW, ENOUGH = 100, 30  # episodes that the mean is taken of; that are too few for one

    def __init__(self, writer: Any = None, min_ts_diff: float = 1.0):
        self.writer, self.min_ts_diff = writer, min_ts_diff
        self.episodes = 0
        self._last: deque[float] = deque(maxlen=self.WINDOW)
        self._told = time.perf_counter(), 0  # when, and at which frame

    def __enter__(self) -> RewardTracker:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.writer is not None:
            self.writer.close()

    @property
    def mean(self) -> float:
        """Mean return of the last 100 episodes; NaN before the first."""
        return float(np.mean(self._last)) if self._last else float("nan")

    def reward(self, reward: float, frame: int, epsilon: float | None = None) -> float | None:
        """An episode brought `reward` and ended at step `frame`.

        Returns:
            the mean return of the last 100 episodes; None while there are no more than 30 to judge by.
        """
        self.episodes += 1
        self._last.append(float(reward))
        scalars = {"reward": reward, "reward_100": self.mean} | ({} if epsilon is None else {"epsilon": epsilon})
        now, (then, frames) = time.perf_counter(), self._told
        if now - then > self.min_ts_diff:
            self._told = now, frame
            scalars["speed"] = (frame - frames) / (now - then)
            chance = "" if epsilon is None else f", eps {epsilon:.2f}"
            said = f"mean reward {self.mean:.3f}, speed {scalars['speed']:.2f} f/s{chance}"
            print(f"{frame}: done {self.episodes} episodes, {said}", flush=True)
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, frame)
        return self.mean if self.episodes > self.ENOUGH else None


class TBMeanTracker:
    """Means of `batch_size` values each, one number for a writer instead of so many; at the end of what is left, too.

    with TBMeanTracker(SummaryWriter(), batch_size=100) as tracker:
        ...
        tracker.track("loss", loss, step)
    """

    def __init__(self, writer: Any, batch_size: int):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.writer, self.batch_size = writer, batch_size
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._index: dict[str, int] = {}

    def __enter__(self) -> TBMeanTracker:
        return self

    def __exit__(self, *exc: object) -> None:
        for name in list(self._values):
            self._write(name)
        self.writer.close()

    def track(self, param_name: str, value: Any, iter_index: int) -> None:
        """A number, or an array or tensor whose mean it is."""
        values = self._values[param_name]
        values.append(float(value.detach().float().mean()) if hasattr(value, "detach") else float(np.mean(value)))
        self._index[param_name] = iter_index
        if len(values) >= self.batch_size:
            self._write(param_name)

    def _write(self, name: str) -> None:
        if values := self._values.pop(name):
            self.writer.add_scalar(name, float(np.mean(values)), self._index[name])
