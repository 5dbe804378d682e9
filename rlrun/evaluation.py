"""How good an agent is: a fixed list of episodes in environments of their own, and a film of one."""

from __future__ import annotations

import logging
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlrun import files
from rlrun.agents import EpsilonAgent
from rlrun.envs.faults import described, is_ours, shortened
from rlrun.errors import Abandoned, Interrupted
from rlrun.interrupt import Interrupt
from rlrun.loggers.console import mean_and_std
from rlrun.types import Agent, Array, EnvSpec, VectorEnv

if TYPE_CHECKING:
    import gymnasium as gym

log = logging.getLogger(__name__)

FPS = 30.0  # of a film whose environment gives no rate
GRAPHICS = ("opengl", "egl", "glfw", "osmesa", "mujoco_gl", "display")  # what a failing picture speaks of
UNLIMITED = 10_000  # steps after which an evaluation cuts an episode that nothing else limits


@dataclass(frozen=True)
class EvalResult:
    """Raw, undiscounted returns and lengths of N episodes, in the order of their seeds."""

    returns: Array  # [N] float64
    lengths: Array  # [N] int64
    cut: int = 0  # how many were ended by the evaluation, not by the environment
    max_steps: int | None = None  # steps after which that was done

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
            "cut": self.cut,
        }

    @property
    def cuts(self) -> str:
        """How many episodes were cut, in words; empty if none was."""
        if not self.cut:
            return ""
        were = "episodes were" if self.cut > 1 else "episodes was"
        return f"{self.cut} of {len(self.returns)} {were} cut at {self.max_steps:,} steps"

    def __str__(self) -> str:
        text = f"mean {mean_and_std(self.mean, self.std)} over {len(self.returns)} episodes"
        return f"{text}; {self.cuts}" if self.cut else text


def step_limit(max_steps: int | None, spec: EnvSpec) -> int | None:
    """The steps after which an evaluation cuts an episode; None where the environment's own limit is enough."""
    return UNLIMITED if max_steps is None and spec.max_episode_steps is None else max_steps


class Kept:
    """Environments for evaluation, opened when they are first asked for and kept for the next time.

    Every evaluation starts them from its own seeds, so it depends on nothing but these and the weights. Only where an
    environment remembers something over a seeded reset does it matter whether it has been used before.

    Args:
        make: opens them.
    """

    def __init__(self, make: Callable[[], VectorEnv]):
        self._make = make
        self._envs: VectorEnv | None = None

    def __call__(self) -> VectorEnv:
        if self._envs is None:
            self._envs = self._make()
        return self._envs

    def close(self) -> None:
        if self._envs is not None:
            self._envs.close()
            self._envs = None


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
    say: Callable[[str], None] = log.info,
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
        max_steps: cut an episode after so many steps; by default only an environment's own limit does, or UNLIMITED
            steps where it has none.
        interrupt: checked before every step.
        before_step: called before every step.
        say: told how far it is where it takes long.

    Raises:
        Interrupted: a signal came.
    """
    max_steps, cut = step_limit(max_steps, envs.spec), 0
    patience = Patience(say)
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
            late = {e: (reward[e], max_steps) for e in np.flatnonzero(steps == max_steps).tolist() if e not in ended}
            cut += len(late.keys() & playing.keys())
            ended |= late
        for e in sorted(ended.keys() & playing.keys()):
            episode = playing.pop(e)
            returns[episode], lengths[episode] = ended[e]
            reward[e], steps[e] = 0.0, 0
            following = next(episodes, None)
            if following is not None:
                playing[e] = following
                obs[e] = envs.reset_one(e, seeds[following])
        patience.tick(len(seeds), lengths)
    return EvalResult(returns, lengths, cut, max_steps)


def player(agent: Agent, rng: np.random.Generator, epsilon: float | None, spec: EnvSpec) -> Agent:
    """An agent as it is evaluated: with a random stream of its own, and random actions where they are asked for."""
    own = agent.fork(rng)
    return EpsilonAgent(own, epsilon, spec.num_actions, rng) if epsilon else own


class Patience:
    """Says how far a long evaluation is: after ten seconds, then each time it has taken twice as long."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._begun = time.monotonic()
        self._next, self._sweeps = 10.0, 0

    def tick(self, episodes: int, lengths: Array) -> None:
        """After every sweep over the environments; `lengths` [N] are 0 for episodes that are not over."""
        self._sweeps += 1
        seconds = time.monotonic() - self._begun
        if seconds >= self._next:
            self._next *= 2
            done = np.count_nonzero(lengths)
            self._say(f"evaluating: {done} of {episodes} episodes after {seconds:.0f} s, at step {self._sweeps:,}")


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
        with closing(envs.watch(env, train)) as vector, Film(path, fps(env)) as film:
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
