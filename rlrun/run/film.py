"""Filming episodes: mp4 files with the return in the name, or one picture of how an episode ends."""

from __future__ import annotations

import importlib.util
import io
import logging
import math
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rlrun import files
from rlrun.agents.agent import Agent
from rlrun.envs.display import without_display
from rlrun.envs.environments import Environments
from rlrun.envs.faults import described, is_ours, shortened
from rlrun.errors import Abandoned, ConfigError, Interrupted
from rlrun.run.evaluation import EvalResult, evaluate

if TYPE_CHECKING:
    import gymnasium as gym

    from rlrun.types import EnvSpec

log = logging.getLogger(__name__)

FPS = 30.0  # of a film whose environment gives no rate
GRAPHICS = ("opengl", "egl", "glfw", "osmesa", "mujoco_gl", "display")  # what a failing picture speaks of
EXTRA = "get it with `pip install 'rlrun[video]'`"


class Shown(NamedTuple):
    """An episode that was shown."""

    result: EvalResult
    file: Path | None = None  # the film or picture of it; None if it was shown in a window


def record(
    agent: Agent,
    envs: Environments,
    seed: int,
    path: Path,
    *,
    fps: float | None = None,
    ending: bool = False,
    **how: Any,
) -> Shown | None:
    """Film an episode: one picture before every step, as an mp4.

    A film is never worth a run: whatever goes wrong, a missing moviepy included, is a warning of one line.

    Args:
        agent, seed, how: as for `evaluate`.
        envs: makes the environment; the agent sees it through the same observation pipeline as in evaluation.
        path: the file, but for what its name gets behind it: `_return_487.mp4`.
        fps: pictures per second; by default the environment's own rate.
        ending: instead of a film a PNG of the last state alone.

    Returns:
        How the episode went and the file; None if there is none.
    """
    without_display()
    try:
        env = envs.render("rgb_array")
        if ending:
            from rlrun.envs.ending import Ending

            env = last = Ending(env)
            with closing(envs.watch(env)) as vector:
                result = evaluate(agent, vector, [seed], **how)
                picture = must_be_picture(env.render() if last.picture is None else last.picture)
            return Shown(result, write_png(named(path, result, ".png"), picture))
        with closing(envs.watch(env)) as vector, Film(path, fps or rate(env)) as film:
            result = evaluate(agent, vector, [seed], before_step=lambda: film.add(env.render()), **how)
            film.path = named(path, result, ".mp4")
        return Shown(result, film.path)
    except (Interrupted, Abandoned):
        raise
    except ImportError as error:
        log.warning("no film: %s is not installed; %s", str(error.name).split(".")[0], EXTRA)
    except BaseException as error:
        if is_ours(error):
            raise
        log.warning("no film: %s%s", shortened(described(error).split("\n")[0]), remedy(error))
    return None


def require(key: str, spec: EnvSpec) -> None:
    """ConfigError if an environment cannot be filmed, as far as can be told before: names the key that asks for it."""
    if importlib.util.find_spec("moviepy") is None:
        raise ConfigError(key, "films are made by moviepy, which is not installed", f"{EXTRA}, or write {key}=0")
    if "rgb_array" not in spec.render_modes:
        problem = f"{spec.id} draws no pictures: its render_modes have no rgb_array"
        raise ConfigError(key, problem, f"write {key}=0")


def named(path: Path, result: EvalResult, kind: str) -> Path:
    """A film's file, with the return of the episode in its name."""
    return path.with_name(f"{path.name}_return_{result.mean:g}{kind}")


def rate(env: gym.Env) -> float:
    """Pictures per second, as the environment says or as usual."""
    found = env.metadata.get("render_fps")
    return float(found) if isinstance(found, int | float) and 0 < found < math.inf else FPS


def remedy(error: BaseException) -> str:
    """What may help against a failure to draw; "" if nothing comes to mind."""
    text = f"{type(error).__name__} {described(error)}".lower()
    if "render_mode" in text or "rgb_array" in text or isinstance(error, NotImplementedError):
        return "\nthe environment has to draw pictures: render_modes with rgb_array in its metadata, and render()"
    if any(word in text for word in GRAPHICS):
        return "\nwithout a display MuJoCo draws with MUJOCO_GL=egl or MUJOCO_GL=osmesa before the command"
    return ""


def must_be_picture(picture: Any) -> Any:
    """A picture [height, width, 3] uint8; ValueError if it is none."""
    if np.ndim(picture) != 3:
        raise ValueError("the environment draws no pictures")
    return picture


def write_png(path: Path, picture: Any) -> Path:
    """A picture [height, width, 3] as a file."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.asarray(picture, np.uint8)).save(content, format="png")
    make_directory_of(path)
    files.replace(path, content.getvalue())
    return path


def make_directory_of(path: Path) -> None:
    """`videos/` of a run, if it is not there yet."""
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    files.make_directory(path.parent)


class Film:
    """An mp4 file, written picture by picture and put in its place when it is complete.

    Args:
        path: the file; its directory is made if needed. It may be given another name until the film is complete.
        fps: pictures per second.
    """

    def __init__(self, path: Path, fps: float):
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

        self.path, self._fps = path, fps
        self._unfinished = path.with_name(f".{path.name}.unfinished.mp4")
        self._make_writer = FFMPEG_VideoWriter
        self._writer: Any = None  # made with the first picture, which tells the size

    def add(self, picture: Any) -> None:
        """Append a picture [height, width, 3] uint8.

        Raises:
            ValueError: it is not one.
        """
        picture = even(must_be_picture(picture))
        if self._writer is None:
            make_directory_of(self.path)
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
        try:
            if kind is None:
                files.require(self.path, stat.S_ISREG)
                self._unfinished.replace(self.path)
        finally:
            self._unfinished.unlink(missing_ok=True)


def even(picture: Any) -> Any:
    """A picture whose sides are even numbers, as players want it: an odd one is one pixel longer, the last twice."""
    height, width, _ = picture.shape
    if height % 2 or width % 2:
        return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return picture
