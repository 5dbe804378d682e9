"""Watching episodes in a window, at the rate that the environment is made for."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrun.agents.agent import Agent
from rlrun.envs.display import has_display
from rlrun.envs.environments import Environments
from rlrun.errors import EnvError
from rlrun.run.evaluation import evaluate
from rlrun.run.film import Shown, rate, record

if TYPE_CHECKING:
    import gymnasium as gym

log = logging.getLogger(__name__)

UNSEEN = ("dummy", "offscreen")  # drivers of SDL, which pygame draws with, that show nothing


class NoWindow(Exception):
    """Nothing of what is drawn can be seen."""


def play(
    agent: Agent, envs: Environments, seed: int, path: Path, *, fps: float | None = None, **how: Any
) -> Shown | None:
    """Show an episode in a window, or film it where none can be opened.

    Args:
        agent, envs, seed, path, how: as for `record`.
        fps: steps shown per second; by default as many as the environment is made for.

    Returns:
        How the episode went; None if it was to be filmed and could not be.

    Raises:
        EnvError: the environment fails.
    """
    if not has_display():
        return record(agent, envs, seed, path, fps=fps, **how)
    try:
        env = envs.render("human")
        with closing(envs.watch(env)) as vector:
            return Shown(evaluate(agent, vector, [seed], before_step=Pace(env, fps), **how))
    except NoWindow:
        log.warning("no window can be opened on this display: it is filmed")
        return record(agent, envs, seed, path, fps=fps, **how)
    except EnvError as error:
        raise EnvError(f"{error}\nwhere no window can be opened, record=true films it") from error


def unseen(agent: Agent, envs: Environments, seed: int, path: Path, **how: Any) -> Shown:
    """Play an episode that nobody looks at."""
    with closing(envs.evaluation(1)) as vector:
        return Shown(evaluate(agent, vector, [seed], **how))


class Pace:
    """Waits before every step until it is due, if the environment has not done so itself.

    Args:
        env: draws into a window.
        fps: steps per second; an environment of Gymnasium's, which waits by itself, is told so, too.
    """

    def __init__(self, env: gym.Env, fps: float | None = None):
        self._seconds = 1 / (fps or rate(env))
        self._due: float | None = None  # when the next step may be taken
        if fps is not None:
            env.unwrapped.metadata = {**env.unwrapped.metadata, "render_fps": fps}  # of this one, not of its class

    def __call__(self) -> None:
        """NoWindow if there is nothing to be seen."""
        if self._due is None:
            must_be_seen()
        now = time.monotonic()
        if self._due is not None and now < self._due:
            time.sleep(self._due - now)
        self._due = max(now, self._due or now) + self._seconds


def must_be_seen() -> None:
    """NoWindow if pygame draws where nobody looks: so it does, without a word, where it cannot open a window."""
    pygame = sys.modules.get("pygame")
    if pygame is not None and pygame.display.get_init() and pygame.display.get_driver() in UNSEEN:
        raise NoWindow
