"""How good an agent is: a fixed list of episodes in environments of their own, and a film of one."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlrun.errors import Interrupted
from rlrun.interrupt import Interrupt
from rlrun.loggers.console import mean_and_std
from rlrun.types import Agent, Array, VectorEnv

if TYPE_CHECKING:
    import gymnasium as gym

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalResult:
    """Raw, undiscounted returns and lengths of N episodes, in the order of their seeds."""

    returns: Array  # [N] float64
    lengths: Array  # [N] int64

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Population standard deviation over the episodes."""
        return float(self.returns.std())

    @property
    def mean_length(self) -> float:
        return float(self.lengths.mean())

    def to_dict(self) -> dict[str, float]:
        return {
            "mean": self.mean,
            "std": self.std,
            "min": float(self.returns.min()),
            "max": float(self.returns.max()),
            "mean_length": self.mean_length,
            "episodes": len(self.returns),
        }

    def __str__(self) -> str:
        return f"mean {mean_and_std(self.mean, self.std)} over {len(self.returns)} episodes"


def evaluate(
    agent: Agent,
    envs: VectorEnv,
    seeds: Sequence[int],
    *,
    explore: bool = False,
    env_steps: int = 0,
    max_steps: int | None = None,
    interrupt: Interrupt | None = None,
    before_step: Callable[[], None] | None = None,
) -> EvalResult:
    """Play one episode from each seed.

    An environment takes the next seed when its episode ends. So exactly these episodes are played, none is preferred
    for being short, and a greedy agent's results do not depend on the number of environments.

    Args:
        agent: acts; hand over `agent.fork(rng)` to leave the random stream of training alone.
        envs: with raw rewards and frozen normalisation.
        seeds: one per episode.
        explore: sample as in training instead of taking the best action.
        env_steps: the age that exploration schedules see.
        max_steps: cut an episode after so many steps; by default only the environment does.
        interrupt: checked before every step.
        before_step: called before every step.

    Raises:
        Interrupted: a signal came.
    """
    check = (interrupt or Interrupt()).check
    episodes = iter(range(len(seeds)))
    playing = dict(zip(range(envs.num_envs), episodes, strict=False))  # env -> episode; an env without one idles
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    reward, steps = np.zeros(envs.num_envs), np.zeros(envs.num_envs, np.int64)  # of the episodes being played
    obs = envs.reset([seeds[playing.get(e, 0)] for e in range(envs.num_envs)])
    state = agent.initial_state(envs.num_envs)
    while playing:
        check()
        if before_step is not None:
            before_step()
        action, state, _ = agent.act(obs, state, explore=explore, env_steps=env_steps)
        step = envs.step(action)
        obs = step.obs
        ended = {stat.env: (stat.episode_return, stat.length) for stat in step.episodes}
        if max_steps is not None:
            reward += step.reward
            steps += 1
            ended = {e: (reward[e], max_steps) for e in np.flatnonzero(steps == max_steps).tolist()} | ended
        for e in sorted(ended.keys() & playing.keys()):
            episode = playing.pop(e)
            returns[episode], lengths[episode] = ended[e]
            reward[e], steps[e] = 0.0, 0
            following = next(episodes, None)
            if following is not None:
                playing[e] = following
                obs[e] = envs.reset_one(e, seeds[following])
    return EvalResult(returns, lengths)


class Viewable(Protocol):
    """Environments that can be looked at, such as `rlrun.envs.make.GymEnvs`."""

    def render(self, mode: str) -> gym.Env: ...
    def watch(self, env: gym.Env, train: VectorEnv | None = None) -> VectorEnv: ...


def play(
    agent: Agent, envs: Viewable, seed: int, path: Path, *, train: VectorEnv | None = None, **how: Any
) -> EvalResult | None:
    """Show an episode in a window, or film it where there is no display.

    Args:
        agent, seed, how: as for `evaluate`.
        envs: makes the environment; the agent sees it through the same observation pipeline as in evaluation.
        path: the film's file.
        train: whose normalisation statistics to use.

    Returns:
        How the episode went; None if it was to be filmed and could not be.
    """
    if not has_display():
        return record(agent, envs, seed, path, train=train, **how)
    with closing(envs.watch(envs.render("human"), train)) as vector:
        return evaluate(agent, vector, [seed], **how)


def record(
    agent: Agent, envs: Viewable, seed: int, path: Path, *, train: VectorEnv | None = None, **how: Any
) -> EvalResult | None:
    """Film an episode: one picture before every step, as an mp4 at `path`.

    A film is never worth a run: whatever goes wrong, a missing moviepy included, is a warning of one line.

    Args:
        agent, envs, seed, train, how: as for `play`.

    Returns:
        How the episode went; None if there is no film.
    """
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame opens a display even to draw into memory
    try:
        env = envs.render("rgb_array")
        with closing(envs.watch(env, train)) as vector, Film(path, env.metadata.get("render_fps", 30)) as film:
            return evaluate(agent, vector, [seed], before_step=lambda: film.add(env.render()), **how)
    except Interrupted:
        raise
    except ImportError as error:
        log.warning(
            "no film: %s is not installed; get it with `pip install 'rlrun[video]'`", str(error.name).split(".")[0]
        )
    except Exception as error:
        log.warning("no film: %s: %s", type(error).__name__, str(error).split("\n")[0])
    return None


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
            self._path.parent.mkdir(parents=True, exist_ok=True)
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
