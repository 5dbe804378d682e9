"""Stopping a run that has solved its environment."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from rlrun.run.callbacks.callback import Callback
from rlrun.state import Stateful
from rlrun.text import number
from rlrun.types import Chunk, EpisodeStat, Metrics

if TYPE_CHECKING:
    from rlrun.run.run import Run

log = logging.getLogger(__name__)


class StopWhenSolved(Callback):
    """Ends the run once the mean return of the last `window` training episodes reaches `mean_return`.

    Args:
        mean_return: the bound.
        window: episodes averaged; there is no verdict before there have been so many.
    """

    state = ("_episodes", "_solved")

    def __init__(self, mean_return: float, window: int = 100):
        self._bound = mean_return
        self._episodes = EpisodeWindow(window)
        self._solved = False

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        if chunk.episodes:
            self._episodes.add(chunk.episodes)
            self._solved = self._episodes.is_full and self._episodes.mean_return >= self._bound
        if self._solved and not run.should_stop:
            run.should_stop = True
            mean = number(self._episodes.mean_return)
            run.stop_reason = f"solved: mean return {mean} at env step {run.progress.env_steps:,}"
            log.info("%s", run.stop_reason)
            self.tell(run, "on_solved")


class EpisodeWindow(Stateful):
    """Returns and lengths of the last `size` episodes."""

    state = ("_returns", "_lengths")

    def __init__(self, size: int):
        self._returns: deque[float] = deque(maxlen=size)
        self._lengths: deque[int] = deque(maxlen=size)

    def add(self, episodes: Iterable[EpisodeStat]) -> None:
        for episode in episodes:
            self._returns.append(episode.episode_return)
            self._lengths.append(episode.length)

    @property
    def is_full(self) -> bool:
        return len(self._returns) == self._returns.maxlen

    @property
    def mean_return(self) -> float:
        return float(np.mean(self._returns))

    def metrics(self) -> dict[str, float]:
        """Means over the window; nothing before the first episode has ended."""
        if not self._returns:
            return {}
        return {
            "rollout/ep_rew_mean": self.mean_return,
            "rollout/ep_rew_std": float(np.std(self._returns)),
            "rollout/ep_len_mean": float(np.mean(self._lengths)),
        }
