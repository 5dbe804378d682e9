"""Showing episodes: in a window, or filmed where there is no display."""

from __future__ import annotations

import logging
import math
import os
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import files
from rlrun.agents.agent import Agent
from rlrun.envs.environments import Environments
from rlrun.envs.faults import described, is_ours, shortened
from rlrun.errors import Abandoned, Interrupted
from rlrun.run.evaluation import EvalResult, evaluate

if TYPE_CHECKING:
    import gymnasium as gym

log = logging.getLogger(__name__)

FPS = 30.0  # of a film whose environment gives no rate
GRAPHICS = ("opengl", "egl", "glfw", "osmesa", "mujoco_gl", "display")  # what a failing picture speaks of


def play(agent: Agent, envs: Environments, seed: int, path: Path, **how: Any) -> EvalResult | None:
    """Show an episode in a window, or film it where there is no display.

    Args:
        agent, seed, how: as for `evaluate`.
        envs: makes the environment; the agent sees it through the same observation pipeline as in evaluation.
        path: the film's file.

    Returns:
        How the episode went; None if it was to be filmed and could not be.
    """
    if not has_display():
        return record(agent, envs, seed, path, **how)
    with closing(envs.watch(envs.render("human"))) as vector:
        return evaluate(agent, vector, [seed], **how)


def record(agent: Agent, envs: Environments, seed: int, path: Path, **how: Any) -> EvalResult | None:
    """Film an episode: one picture before every step, as an mp4 at `path`.

    A film is never worth a run: whatever goes wrong, a missing moviepy included, is a warning of one line.

    Args:
        agent, envs, seed, how: as for `play`.

    Returns:
        How the episode went; None if there is no film.
    """
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame opens a display even to draw into memory
    try:
        env = envs.render("rgb_array")
        with closing(envs.watch(env)) as vector, Film(path, fps(env)) as film:
            return evaluate(agent, vector, [seed], before_step=lambda: film.add(env.render()), **how)
    except (Interrupted, Abandoned):
        raise
    except ImportError as error:
        log.warning(
            "no film: %s is not installed; get it with `pip install 'rlrun[video]'`", str(error.name).split(".")[0]
        )
    except BaseException as error:
        if is_ours(error):
            raise
        log.warning("no film: %s%s", shortened(described(error).split("\n")[0]), remedy(error))
    return None


def fps(env: gym.Env) -> float:
    """Pictures per second, as the environment says or as usual."""
    rate = env.metadata.get("render_fps")
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else FPS


def remedy(error: BaseException) -> str:
    """What may help against a failure to draw; "" if nothing comes to mind."""
    text = f"{type(error).__name__} {described(error)}".lower()
    if "render_mode" in text or "rgb_array" in text or isinstance(error, NotImplementedError):
        return "\nthe environment has to draw pictures: render_modes with rgb_array in its metadata, and render()"
    if any(word in text for word in GRAPHICS):
        return "\nwithout a display MuJoCo draws with MUJOCO_GL=egl or MUJOCO_GL=osmesa before the command"
    return ""


def has_display() -> bool:
    """Whether a window can be opened here."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


class Film:
    """An mp4 file, written picture by picture and put in its place when it is complete.

    Args:
        path: the file; its directory is made if needed.
        fps: pictures per second.
    """

    def __init__(self, path: Path, fps: float):
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

        self._path, self._fps = path, fps
        self._unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
        self._make_writer = FFMPEG_VideoWriter
        self._writer: Any = None  # made with the first picture, which tells the size

    def add(self, picture: Any) -> None:
        """Append a picture [height, width, 3] uint8.

        Raises:
            ValueError: it is not one.
        """
        if np.ndim(picture) != 3:
            raise ValueError("the environment draws no pictures")
        if self._writer is None:
            self._path.parent.parent.mkdir(parents=True, exist_ok=True)
            files.make_directory(self._path.parent)
            files.require(self._path, stat.S_ISREG)
            self._unfinished.unlink(missing_ok=True)  # whatever it is, nothing is written through it
            height, width, _ = picture.shape
            self._writer = self._make_writer(str(self._unfinished), (width, height), self._fps)
        self._writer.write_frame(picture)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if kind is None:
            self._unfinished.replace(self._path)
        else:
            self._unfinished.unlink(missing_ok=True)
