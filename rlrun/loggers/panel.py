"""Progress as a live panel on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain, islice, zip_longest

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlrun.loggers.console import clock, mean_and_std, number, percent, speed, time_left

REFRESH = 0.5  # seconds between two pictures, each of which costs a few milliseconds
WIDTH = 100  # columns at most
TRAIN_ROWS = 4  # metrics of the algorithm
NAME = 16  # columns for the name of one


class PanelLogger:
    """Keeps the last value of every metric in view, with progress, speed and what is left.

    There is no thread: the panel is redrawn by `tick`, at most twice a second.

    Args:
        title: what is being run.
        subtitle: where it is written.
        total_timesteps: env steps of the whole run.
        console: where to draw; by default the terminal on stdout.
    """

    def __init__(self, title: str, subtitle: str, total_timesteps: int, console: Console | None = None):
        self._title, self._subtitle, self._total = title, subtitle, total_timesteps
        self._console = console or Console(force_terminal=True)
        self._live = Live(console=self._console, auto_refresh=False)
        self._metrics: dict[str, float] = {}
        self._env_steps, self._elapsed = 0, math.nan
        self._evaluated_at = 0
        self._next = 0.0

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        self._metrics.update(metrics)
        if "eval/mean_reward" in metrics:
            self._evaluated_at = env_steps

    def tick(self, env_steps: int, elapsed: float) -> None:
        """Called after every chunk: draws if it is time to."""
        self._env_steps, self._elapsed = env_steps, elapsed
        if elapsed >= self._next:
            self._next = elapsed + REFRESH
            self._live.start()
            self._live.update(self.render(), refresh=True)

    def close(self) -> None:
        """Draw the last state and leave it on the screen."""
        if self._live.is_started:
            self._live.update(self.render())
            self._live.stop()

    def render(self) -> Panel:
        width = min(self._console.width, WIDTH)
        rows = Table.grid(expand=True)
        rows.add_row(self._progress())
        rows.add_row()
        rows.add_row(self._columns())
        if self._evaluated_at:
            rows.add_row()
            rows.add_row(self._evaluation())
        return Panel(
            rows,
            title=Text(self._title, "bold"),
            title_align="left",
            subtitle=Text(shorten(self._subtitle, width - 8), "dim"),
            subtitle_align="right",
            border_style="cyan",
            padding=(0, 1),
            width=width,
        )

    def _progress(self) -> Table:
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(
            ProgressBar(self._total, self._env_steps, complete_style="cyan", finished_style="green"),
            f"{percent(self._env_steps, self._total)}  {self._env_steps:,} / {self._total:,} steps",
        )
        return bar

    def _columns(self) -> Table:
        """Three pairs of columns: what the agent achieves, how the learner does, how fast it goes."""
        get = self._metrics.get
        achieved = {
            "return": mean_and_std(get("rollout/ep_rew_mean"), get("rollout/ep_rew_std")),
            "length": number(get("rollout/ep_len_mean")),
            "episodes": f"{get('rollout/episodes', 0):,.0f}",
        }
        pace = {
            "steps/s": speed(get("time/fps")),
            "elapsed": clock(self._elapsed),
            "left": clock(time_left(self._env_steps, self._total, self._elapsed)),
        }
        grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
        for ratio in (3, 2, None):
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(ratio=ratio, min_width=8, no_wrap=True)
        groups = (achieved.items(), self._learner().items(), pace.items())
        for row in zip_longest(*groups, fillvalue=("", "")):
            grid.add_row(*chain.from_iterable(row))
        return grid

    def _learner(self) -> dict[str, str]:
        """Exploration, then the first few of the algorithm's own metrics in its order."""
        shown = {name.removeprefix("train/"): value for name, value in self._metrics.items() if name[:6] == "train/"}
        if "rollout/exploration_rate" in self._metrics:
            shown = {"epsilon": self._metrics["rollout/exploration_rate"], **shown}
        return {clip(name, NAME): number(value) for name, value in islice(shown.items(), TRAIN_ROWS)}

    def _evaluation(self) -> Text:
        get = self._metrics.get
        return Text.assemble(
            ("evaluation  ", "dim"),
            (mean_and_std(get("eval/mean_reward"), get("eval/std_reward")), "bold"),
            (f" at {self._evaluated_at:,} steps", "dim"),
            ("     best  ", "dim"),
            (number(get("eval/best_mean_reward")), "bold"),
        )


def clip(text: str, width: int) -> str:
    """The beginning of a text that is too wide."""
    return text if len(text) <= width else text[: width - 1] + "…"


def shorten(path: str, width: int) -> str:
    """The end of a path, which is what tells runs apart."""
    return path if len(path) <= width else "…" + path[1 - width :]
