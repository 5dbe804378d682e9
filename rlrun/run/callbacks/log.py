"""Rows of metrics while a run trains."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlrun.errors import Diverged
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.stop import EpisodeWindow
from rlrun.schedules import Every
from rlrun.types import Chunk, Metrics, Progress, StateDict

if TYPE_CHECKING:
    from rlrun.run.run import Run

log = logging.getLogger(__name__)

MAX_PENDING = 4096  # chunks whose metrics are kept as they came


class Log(Callback):
    """Writes a row of metrics every `freq` env steps, and a last one at the end.

    What the algorithm says (`train/…`) and what its agent says (`rollout/…`) is averaged over the chunks since the
    last row. This is the only place where tensors become numbers.

    Args:
        freq: env steps between two rows; 0 = only the last.
        window: training episodes that the rollout means look back on.
        info_keys: of the environments' `info`; one that never came is told at the end.

    Raises:
        Diverged: a `train/` metric is not finite. Its row is written first.
    """

    state = ("_every", "_episodes", "_means", "_steps", "_seconds")

    def __init__(self, freq: int, window: int = 100, info_keys: Sequence[str] = ()):
        self._every = Every(freq)
        self._episodes = EpisodeWindow(window)
        self._info_keys = info_keys
        self._means = Means()
        self._steps, self._seconds = 0, 0.0  # at the last row

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        progress = run.progress
        if chunk.episodes:
            self._episodes.add(chunk.episodes)
        if chunk.env_steps:
            self._means.add(metrics, run.algo.agent.metrics(progress.env_steps))
        if self._every.due(progress.env_steps):
            self._write(run)
        run.logger.tick(progress.env_steps, progress.wall_seconds)

    def on_end(self, run: Run) -> None:
        if run.progress.env_steps > self._steps:
            self._write(run)
        for key in self._info_keys:
            if f"rollout/info/{key}" not in run.logger.last:
                log.warning("logger.info_keys: no step had a number called %r in its info", key)

    def _write(self, run: Run) -> None:
        progress = run.progress
        own = {name: float(value) for name, value in run.source.metrics().items()}
        row = {**self._time(progress), **self._rollout(progress), **self._means.take(), **own}
        if run.buffer is not None:
            row["train/buffer_size"] = len(run.buffer) * run.group.size
        self._every.consume(progress.env_steps)
        self._steps, self._seconds = progress.env_steps, progress.wall_seconds
        run.logger.log(row, progress.env_steps)
        for name, value in row.items():
            if name.startswith("train/") and not math.isfinite(value):
                raise Diverged(f"{name} is {value} at env step {progress.env_steps:,}")

    def _time(self, progress: Progress) -> dict[str, float]:
        seconds = progress.wall_seconds - self._seconds
        fps = (progress.env_steps - self._steps) / seconds if seconds else math.nan
        return {"time/fps": fps, "time/elapsed": progress.wall_seconds}

    def _rollout(self, progress: Progress) -> dict[str, float]:
        updates = {"train/n_updates": progress.gradient_steps} if progress.gradient_steps else {}
        return {**self._episodes.metrics(), "rollout/episodes": progress.episodes, **updates}


class Means:
    """Means of metrics over the chunks that had them.

    Taking a chunk in costs an append: tensors stay where they are, without waiting for the device, until a mean is
    asked for. Sums are taken one after the other in the order of the chunks, and what was learned comes before what was
    done, so it makes no difference to any digit or place when that is or whether a checkpoint lies in between.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Metrics, Metrics]] = []
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, learned: Metrics, acted: Metrics) -> None:
        """Take in what learner and agent say of a chunk: `train/…` and `rollout/…`, unless a name has its own group."""
        self._pending.append((learned, acted))
        if len(self._pending) == MAX_PENDING:
            self._settle()

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        self._settle()
        names = sorted(self._sums, key=lambda name: (name.startswith("rollout/"), not name.startswith("train/")))
        means = {name: self._sums[name] / self._counts[name] for name in names}
        self._sums, self._counts = {}, {}
        return means

    def _settle(self) -> None:
        for group, column in (("train/", 0), ("rollout/", 1)):
            told = [pair[column] for pair in self._pending if pair[column]]
            for plain in dict.fromkeys(itertools.chain.from_iterable(told)):
                values = [metrics[plain] for metrics in told if plain in metrics]
                name = plain if "/" in plain else group + plain
                total = self._sums.get(name, 0.0)
                for value in numbers(values):
                    total += value
                self._sums[name] = total
                self._counts[name] = self._counts.get(name, 0) + len(values)
        self._pending.clear()

    def state_dict(self) -> StateDict:
        self._settle()
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: StateDict) -> None:
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


def numbers(values: list[Any]) -> list[float]:
    """Floats of numbers or 0-d tensors; tensors on a device are fetched in one go."""
    if all(getattr(value, "is_cuda", False) for value in values):
        import torch

        return torch.stack(values).tolist()
    return [float(value) for value in values]
