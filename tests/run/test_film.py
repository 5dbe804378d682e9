"""Films and windows: what is shown, what it is called, and what is said where nothing can be."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from cartpoles import CartPoles, LeanRight, cartpole_length
from conftest import Rlrun

from rlrun.envs.display import has_display
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig, NormalizeConfig
from rlrun.errors import EnvError, Interrupted
from rlrun.interrupt import Interrupt
from rlrun.run import film
from rlrun.run.evaluation import evaluate
from rlrun.run.film import Film, even, record
from rlrun.run.watch import Pace, play
from rlrun.seeding import SeedTree


def test_a_film_has_one_picture_per_step(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    from imageio_ffmpeg import count_frames_and_secs

    file = tmp_path / "videos" / "film_return_25.mp4"
    shown = record(LeanRight(), CartPoles(), 11, tmp_path / "videos" / "film", max_steps=25)
    assert shown is not None and shown.result.lengths.tolist() == [25] and shown.file == file
    assert count_frames_and_secs(str(file)) == (25, 25 / 50)  # CartPole's render_fps is 50
    assert os.listdir(tmp_path / "videos") == [file.name]
    assert record(LeanRight(), CartPoles(), 11, tmp_path / "videos" / "film", fps=5, max_steps=25) is not None
    assert count_frames_and_secs(str(file)) == (25, 25 / 5)


def test_a_film_shows_what_an_evaluation_counts(tmp_path: Path) -> None:
    """Through the same normalisation: leaning is then measured against the mean angle of the training."""
    pytest.importorskip("moviepy")
    envs = GymEnvs(EnvConfig(id="CartPole-v1", normalize=NormalizeConfig(obs=True)), SeedTree(0))
    train = envs.train(1)
    train.reset([0])
    for _ in range(5):
        train.step(np.array([1]))  # pushed to the right, the pole falls to the left
    counted = evaluate(LeanRight(), envs.evaluation(1), [11])
    shown = record(LeanRight(), envs, 11, tmp_path / "film")
    assert shown is not None and shown.result.lengths.tolist() == counted.lengths.tolist() != [cartpole_length(11)]


def test_without_moviepy_there_is_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "moviepy.video.io.ffmpeg_writer", None)
    assert record(LeanRight(), CartPoles(), 11, tmp_path / "film") is None
    assert caplog.messages == ["no film: moviepy is not installed; get it with `pip install 'rlrun[video]'`"]


class Broken(gym.Wrapper):
    """Draws nothing, or fails in its second picture."""

    def __init__(self, fails: bool):
        super().__init__(gym.make("CartPole-v1", render_mode="rgb_array"))
        self.fails, self.pictures = fails, 0

    def render(self) -> Any:
        self.pictures += 1
        if self.fails and self.pictures == 2:
            raise RuntimeError("GL is gone\nand more")
        return super().render() if self.fails else None


@pytest.mark.parametrize(
    ("fails", "reason"), [(True, "RuntimeError: GL is gone"), (False, "ValueError: the environment draws no pictures")]
)
def test_a_film_that_fails_is_one_line_and_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: bool, reason: str
) -> None:
    pytest.importorskip("moviepy")
    assert record(LeanRight(), CartPoles(Broken(fails)), 11, tmp_path / "film") is None
    assert caplog.messages == [f"no film: {reason}"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeError("an OpenGL platform library has not been loaded"), "MUJOCO_GL=egl"),
        (NotImplementedError(), "render_modes with rgb_array"),
        (SystemExit(0), ""),
        (RuntimeError("no paint"), ""),
    ],
)
def test_a_film_that_fails_says_what_may_help(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException, remedy: str
) -> None:
    pytest.importorskip("moviepy")
    env = Broken(fails=True)
    env.render = lambda: (_ for _ in ()).throw(error)  # type: ignore[method-assign]
    assert record(LeanRight(), CartPoles(env), 11, tmp_path / "film") is None
    assert remedy in caplog.messages[0]
    assert ("\n" in caplog.messages[0]) == bool(remedy)


@pytest.mark.parametrize(("rate", "expected"), [(50, 50.0), (None, 30.0), (0, 30.0), ("fast", 30.0), (math.nan, 30.0)])
def test_a_film_has_a_rate_whatever_the_environment_says(rate: Any, expected: float) -> None:
    env = gym.make("CartPole-v1")
    env.metadata = {"render_fps": rate}
    assert film.rate(env) == expected


def test_a_film_can_be_interrupted(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    interrupt = Interrupt()
    interrupt.signum = signal.SIGTERM
    with pytest.raises(Interrupted):
        record(LeanRight(), CartPoles(), 11, tmp_path / "film", interrupt=interrupt)
    assert os.listdir(tmp_path) == []


def test_an_empty_film_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    with Film(tmp_path / "film.mp4", 30):
        pass
    assert os.listdir(tmp_path) == []


def test_play_opens_a_window_where_there_is_a_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = CartPoles()
    monkeypatch.setenv("DISPLAY", ":0")
    shown = play(LeanRight(), envs, 12, tmp_path / "film", fps=1e4)
    assert shown is not None and shown.file is None and shown.result.lengths.tolist() == [cartpole_length(12)]
    assert envs.modes == ["human"] and os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there always is a display")
def test_play_films_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moviepy")
    envs = CartPoles()
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    assert play(LeanRight(), envs, 12, tmp_path / "film", max_steps=5) is not None
    assert envs.modes == ["rgb_array"] and os.listdir(tmp_path) == ["film_return_5.mp4"]
    assert os.environ["SDL_VIDEODRIVER"] == "dummy", "pygame looks for a display even where it needs none"


def test_a_picture_of_how_an_episode_ends(tmp_path: Path) -> None:
    """The last state, not the one that the reset behind it begins with."""
    from PIL import Image

    shown = record(LeanRight(), CartPoles(), 11, tmp_path / "end", ending=True)
    assert shown is not None and shown.file == tmp_path / f"end_return_{cartpole_length(11)}.png"
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    obs, _ = env.reset(seed=11)
    over = False
    while not over:
        obs, _, over, _, _ = env.step(int(obs[2] > 0))
    assert np.array_equal(np.asarray(Image.open(shown.file)), env.render())
    cut = record(LeanRight(), CartPoles(), 11, tmp_path / "end", ending=True, max_steps=3)
    assert cut is not None and cut.file == tmp_path / "end_return_3.png"


def test_sides_are_even_as_players_want_them() -> None:
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert even(picture).shape == (2, 4, 3)
    assert (even(picture)[:, 3] == picture[:, 2]).all()
    assert even(picture[:, :2]) is not None and even(picture[:, :2]).shape == (2, 2, 3)


def test_a_window_is_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for what the environment has left of a step's time; one that is late does not hurry afterwards."""
    now, waited = [100.0], []

    def sleep(seconds: float) -> None:
        waited.append(round(seconds, 6))
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    env = gym.make("CartPole-v1")
    pace = Pace(env, 10.0)
    for spent in (0.0, 0.03, 0.1, 0.5, 0.04):
        now[0] += spent
        pace()
    assert waited == [0.07, 0.06]
    assert env.unwrapped.metadata["render_fps"] == 10.0  # for those that wait by themselves
    assert gym.make("CartPole-v1").unwrapped.metadata["render_fps"] == 50  # and no others


def test_what_cannot_be_seen_is_filmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """pygame draws on without a word where it cannot open a window; here it is told to."""
    pytest.importorskip("moviepy")
    envs = CartPoles()
    envs.render = lambda mode: gym.make("CartPole-v1", render_mode=mode)  # type: ignore[method-assign]
    monkeypatch.setenv("DISPLAY", ":0")
    shown = play(LeanRight(), envs, 12, tmp_path / "film", max_steps=3)
    assert shown is not None and shown.file == tmp_path / "film_return_3.mp4"
    assert caplog.messages == ["no window can be opened on this display: it is filmed"]


def test_an_environment_that_finds_no_display_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(gym.Wrapper):
        def reset(self, **_: Any) -> Any:
            raise RuntimeError("cannot connect to display")

    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(EnvError, match="record=true films it"):
        play(LeanRight(), CartPoles(Blind(gym.make("CartPole-v1", render_mode="rgb_array"))), 12, tmp_path / "film")


# The commands.


TRAINING = ["algo=random", "env=cartpole", "total_timesteps=300", "logger.console=off", "eval.episodes=2"]


def test_a_run_is_filmed_and_learns_the_same(rlrun: Rlrun, tmp_path: Path) -> None:
    """Two films on the way and one of the end: those of the first episode of evaluations at these steps."""
    pytest.importorskip("moviepy")
    training = ["algo=q_learning", "env=frozenlake", "total_timesteps=300", "+smoke=on", "logger.console=off"]
    training += ["eval.episodes=2", "checkpoint.freq=100"]
    rlrun(*training, "hydra.run.dir=run", "eval.video_freq=100", "eval.freq=100")
    rlrun(*training, "hydra.run.dir=plain", "eval.freq=100")
    for name in ("algo.safetensors", "source.safetensors", "random.safetensors"):
        found = [Path(run, "checkpoints/last", name) for run in ("run", "plain")]
        assert found[0].exists() == found[1].exists()
        assert not found[0].exists() or found[0].read_bytes() == found[1].read_bytes(), name
    films = sorted(os.listdir("run/videos"))
    assert [name.partition("_return_")[0] for name in films] == [f"step_000000{n}00" for n in (1, 2, 3)]
    with open("run/eval.csv") as file:
        for row, name in zip(csv.DictReader(file), films, strict=True):
            assert float(name.removesuffix(".mp4").partition("_return_")[2]) in (float(row["min"]), float(row["max"]))
    rlrun("resume", "run", "total_timesteps=400", "eval.video_freq=0")
    rlrun("resume", "plain", "total_timesteps=400", "eval.video_freq=100")  # a run that was not filmed before
    assert sorted(os.listdir("run/videos")) == films
    assert sorted(name[:14] for name in os.listdir("plain/videos")) == ["step_000000300", "step_000000400"]


def test_what_cannot_be_filmed_is_refused_before_a_run_begins(rlrun: Rlrun, monkeypatch: pytest.MonkeyPatch) -> None:
    said = rlrun("algo=eps_greedy", "env=bandit/bernoulli", "eval.video_freq=100", code=2).stderr
    assert said.startswith("rlrun: eval.video_freq: ") and "draws no pictures" in said and len(said.splitlines()) == 2
    monkeypatch.setattr(film.importlib.util, "find_spec", lambda name: None)
    said = rlrun(*TRAINING, "eval.video_freq=100", code=2).stderr
    assert "moviepy, which is not installed" in said and "rlrun[video]" in said
    assert not Path("outputs").exists()


def test_films_fail_once(rlrun: Rlrun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A run goes on without them."""
    monkeypatch.setattr("rlrun.run.callbacks.video.record", lambda *_, **__: logging.getLogger("rlrun.x").warning("no"))
    rlrun(*TRAINING, "hydra.run.dir=run", "eval.video_freq=100")
    assert caplog.messages.count("no") == 1
    assert json.loads(Path("run/summary.json").read_text())["state"] == "finished"


def test_the_commands_name_their_files(rlrun: Rlrun) -> None:
    pytest.importorskip("moviepy")
    rlrun(*TRAINING, "hydra.run.dir=run", "eval.freq=0")
    report = json.loads(rlrun("eval", "run", "episodes=1", "video=true", "max_steps=4", "json=true").stdout)
    assert report["video"].endswith("step_000000300_greedy_1_cut4_return_4.mp4") and Path(report["video"]).is_file()
    said = rlrun("play", "run", "max_steps=4").stdout.splitlines()
    assert said[0] == "no display: episodes are filmed"
    assert said[1].startswith("return 4 in 4 steps (cut there) run/videos/step_000000300_greedy_0_return_4.mp4")
    said = rlrun("play", "run", "max_steps=4", "episodes=2", "show=end").stdout.splitlines()
    assert [line.partition("steps (cut there)")[2] for line in said] == [
        "",
        " run/videos/step_000000300_greedy_1_return_4.png",
    ]
    said = rlrun("play", "run", "max_steps=4", "episodes=2", "show=episode", "policy=stochastic").stdout
    assert said.count(".png") == 2 and "stochastic_1_return_4" in said
    assert "show: there is no 'ends'" in rlrun("play", "run", "show=ends", code=2).stderr
    assert "fps: must be in (0, 10000]" in rlrun("play", "run", "fps=0", code=2).stderr
