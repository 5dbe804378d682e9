"""Progress as plain lines: a table that reads well in a file, in a pipe and on any terminal."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping

from rlrun.text import clock, mean_and_std, number, percent, speed, time_left

ROWS = logging.getLogger("rlrun.rows")  # a logger of their own: a live panel makes them superfluous on the console
HEADER_EVERY = 25
SHOWN_EVERY = 1.0  # seconds of the run between two lines at least
# column -> its width; 80 together at most
PROGRESS = {"steps": 11, "%": 5}
EPISODES = {"episodes": 10, "return": 9, "length": 8, "loss": 9}
BANDIT = {"reward": 9, "regret/step": 13, "regret": 8, "optimal": 8}
PACE = {"steps/s": 9, "elapsed": 9, "left": 9}


def mode(wanted: str) -> str:
    """What `logger.console` comes to on this terminal: auto is rich if it can show a live panel, otherwise plain."""
    if wanted != "auto":
        return wanted
    if not sys.stdout.isatty():
        return "plain"
    from rich.console import Console

    console = Console()
    return "rich" if console.is_terminal and not console.is_dumb_terminal else "plain"


class TableLogger:
    """Rows as lines, and a line per evaluation, as messages of the logger `rlrun.rows`.

    Rows that follow each other within a second of the run are not all shown: the first is, and the last before an
    evaluation or the end.

    Args:
        total_timesteps: env steps of the whole run.
    """

    def __init__(self, total_timesteps: int):
        self._total = total_timesteps
        self._lines = 0
        self._shown_at = -math.inf  # seconds of the run at the last line
        self._waiting: tuple[Mapping[str, float], int] | None = None

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        if "eval/mean_reward" in metrics:
            self._show_waiting()
            ROWS.info("evaluation at %s steps: %s", f"{env_steps:,}", evaluation(metrics))
        elif 0 <= metrics.get("time/elapsed", math.nan) - self._shown_at < SHOWN_EVERY:
            self._waiting = metrics, env_steps
        else:
            self._show(metrics, env_steps)

    def close(self) -> None:
        self._show_waiting()

    def _show_waiting(self) -> None:
        if self._waiting is not None:
            self._show(*self._waiting)

    def _show(self, metrics: Mapping[str, float], env_steps: int) -> None:
        elapsed = metrics.get("time/elapsed", math.nan)
        self._waiting, self._shown_at = None, elapsed
        cells = {"steps": f"{env_steps:,}", "%": percent(env_steps, self._total), **achieved(metrics)}
        if "bandit/regret" not in metrics:
            cells["loss"] = number(loss(metrics))
        cells |= pace(metrics, elapsed, env_steps, self._total)
        if self._lines % HEADER_EVERY == 0:
            ROWS.info(aligned({name: name for name in cells}))
        self._lines += 1
        ROWS.info(aligned(cells))


def aligned(cells: Mapping[str, str]) -> str:
    """Cells side by side, each in its column; one that is too wide for it keeps a space before it."""
    widths = PROGRESS | EPISODES | BANDIT | PACE
    return "".join(
        text.rjust(widths[name]) if name == "steps" else f" {text}".rjust(widths[name]) for name, text in cells.items()
    )


def achieved(metrics: Mapping[str, float]) -> dict[str, str]:
    """What the agent has achieved: return and length of episodes, or a bandit's rewards and regret."""
    get = metrics.get
    if "bandit/regret" in metrics:
        return {
            "reward": number(get("bandit/reward")),
            "regret/step": number(get("bandit/regret")),
            "regret": number(get("bandit/cumulative_regret")),
            "optimal": f"{100 * get('bandit/optimal_share', math.nan):.0f}%",
        }
    return {
        "episodes": f"{get('rollout/episodes', 0):,.0f}",
        "return": number(get("rollout/ep_rew_mean")),
        "length": number(get("rollout/ep_len_mean")),
    }


def pace(metrics: Mapping[str, float], elapsed: float, env_steps: int, total: int) -> dict[str, str]:
    """How fast a run goes, how long it has taken and will take."""
    return {
        "steps/s": speed(metrics.get("time/fps")),
        "elapsed": clock(elapsed),
        "left": clock(time_left(env_steps, total, elapsed)),
    }


def evaluation(metrics: Mapping[str, float]) -> str:
    """The last evaluation in a few words."""
    words = mean_and_std(metrics["eval/mean_reward"], metrics.get("eval/std_reward"))
    return words + (f", best {number(metrics['eval/best_mean_reward'])}" if "eval/best_mean_reward" in metrics else "")


def loss(metrics: Mapping[str, float]) -> float | None:
    """`train/loss`, or the first of several losses."""
    names = [name for name in metrics if name.startswith("train/") and name.endswith("loss")]
    return metrics.get("train/loss", metrics[names[0]] if names else None)
