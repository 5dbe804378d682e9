"""Progress as a live panel on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import islice, zip_longest

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlrun.loggers.console import achieved, pace
from rlrun.text import mean_and_std, number, percent

REFRESH = 0.5  # seconds between two pictures, each of which costs a few milliseconds
WIDTH = 120  # columns at most
TRAIN_ROWS = 4  # metrics of the algorithm
FRAME = 4  # columns of the frame and the space inside it
COUNTS = {"n_updates", "buffer_size"}  # metrics that are whole numbers
GAP = 2  # columns between two cells
NAME, VALUE = 14, 8  # columns for the name of one of the algorithm's metrics, and for any value, at least


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
        for line in self._columns(width - FRAME):
            rows.add_row(line)
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

    def _columns(self, width: int) -> list[Text]:
        """What the agent achieves, how the learner does, how fast it goes: side by side.

        The learner's names get the space that is left, and where that is too little, lines of their own.
        """
        won, learner = self._achieved(), self._learner()
        rest = pace(self._metrics, self._elapsed, self._env_steps, self._total)
        left = width - _width(won) - _width(rest) - 2 * GAP - _width(learner) + _widest(learner)
        if left >= min(_widest(learner), NAME):
            return _beside(width, won, _clipped(learner, left), rest)
        if width >= _width(won) + GAP + _width(rest):
            return [*_beside(width, won, rest), *_beside(width, learner)]
        return [line for group in (won, rest, learner) for line in _beside(width, group)]

    def _achieved(self) -> dict[str, str]:
        shown = achieved(self._metrics)
        if "return" in shown:
            get = self._metrics.get
            shown["return"] = mean_and_std(get("rollout/ep_rew_mean"), get("rollout/ep_rew_std"))
        return shown

    def _learner(self) -> dict[str, str]:
        """Exploration, then the first few of the algorithm's own metrics in its order."""
        shown = {name.removeprefix("train/"): value for name, value in self._metrics.items() if name[:6] == "train/"}
        if "rollout/exploration_rate" in self._metrics:
            shown = {"epsilon": self._metrics["rollout/exploration_rate"], **shown}
        return {
            name: f"{value:,.0f}" if name in COUNTS else number(value)
            for name, value in islice(shown.items(), TRAIN_ROWS)
        }

    def _evaluation(self) -> Text:
        get = self._metrics.get
        return Text.assemble(
            ("evaluation  ", "dim"),
            (mean_and_std(get("eval/mean_reward"), get("eval/std_reward")), "bold"),
            (f" at {self._evaluated_at:,} steps", "dim"),
            ("     best  ", "dim"),
            (number(get("eval/best_mean_reward")), "bold"),
        )


def _beside(width: int, *groups: Mapping[str, str]) -> list[Text]:
    """Groups of names and values side by side; what is left of the width is shared out between them."""
    spare = (width - sum(map(_width, groups)) - GAP * (len(groups) - 1)) // max(len(groups) - 1, 1)
    lines = []
    for row in zip_longest(*(group.items() for group in groups), fillvalue=("", "")):
        line = Text(no_wrap=True)
        for group, (name, value) in zip(groups, row, strict=True):
            line.append(" " * (GAP + max(spare, 0)) if group is not groups[0] else "")
            line.append(name.ljust(_widest(group)) + " " * GAP, "dim")
            line.append(value.ljust(_value_width(group)))
        lines.append(line)
    return lines


def _width(group: Mapping[str, str]) -> int:
    return _widest(group) + GAP + _value_width(group)


def _value_width(group: Mapping[str, str]) -> int:
    return max(VALUE, _widest(group.values()))


def _widest(words: Iterable[str]) -> int:
    return max(map(len, words), default=0)


def _clipped(group: Mapping[str, str], width: int) -> dict[str, str]:
    """The same with names of at most that width."""
    return {clip(name, width): value for name, value in group.items()}


def clip(text: str, width: int) -> str:
    """The beginning of a text that is too wide."""
    return text if len(text) <= width else text[: width - 1] + "…"


def shorten(path: str, width: int) -> str:
    """The end of a path, which is what tells runs apart."""
    return path if len(path) <= width else "…" + path[1 - width :]
