"""Atari games: ALE's own vector and single games are one stream, saved at any time, and evaluated whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ale_py")

from conftest import Rlrun

from rlrun import cli
from rlrun.envs import state
from rlrun.envs.arcade import AtariEnvs
from rlrun.envs.atari import AtariGame, AtariVector
from rlrun.envs.options import AtariConfig
from rlrun.envs.resize import Resize
from rlrun.envs.vector.base import GOES_ON
from rlrun.errors import ConfigError
from rlrun.seeding import SeedTree
from rlrun.testing import differences, interrupted

SMALL = ["env=atari", "network=cnn_nips", "network.hidden=[8]", "env.screen_size=36", "env.id=ALE/Breakout-v5"]
TRAINING = [*SMALL, "algo=dqn", "+smoke=on", "buffer.capacity=200", "algo.batch_size=4", "eval.episodes=1"]


@pytest.mark.parametrize(
    ("game", "steps", "options"),
    [
        ("breakout", 110, {"life_loss": "terminal", "max_num_frames_per_episode": 400}),
        ("breakout", 60, {"life_loss": "penalty", "sticky": 0.25, "full_action_space": True}),
        ("pong", 12, {"grayscale": False, "screen_size": 42, "noop_max": 0, "fire_reset": False, "frameskip": 5}),
    ],
)
def test_the_vector_is_as_many_single_games(game: str, steps: int, options: dict) -> None:
    """Bit for bit: pictures, rewards, ends and last pictures, over lives, games and truncations."""
    seeds, rng, ends = [7, 11], np.random.default_rng(0), 0
    vector = AtariVector(2, game, threads=1, **options)
    games = [AtariGame(game, **options) for _ in seeds]
    shown = vector.reset(seed=seeds)[0]
    for one, alone, seed in zip(shown, games, seeds, strict=True):
        np.testing.assert_array_equal(one, alone.reset(seed=seed)[0])
    for _ in range(steps):
        action = rng.integers(vector.single_action_space.n, size=2)
        *together, info = vector.step(action)
        for e, alone in enumerate(games):
            obs, *alike, told = alone.step(int(action[e]))
            assert alike == [part[e] for part in together[1:]]
            if alike[1] or alike[2]:
                ends += 1
                assert told.get(GOES_ON, False) == info[GOES_ON][e]
                np.testing.assert_array_equal(obs, info["final_obs"][e])
                obs, _ = alone.reset()
            np.testing.assert_array_equal(obs, together[0][e])
    assert ends or game == "pong" or "sticky" in options


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are bound to processors on Linux alone")
def test_as_many_threads_as_processors_have_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are fewer threads, or not all processors are ours, the system places them."""
    ours = os.sched_getaffinity(0)
    if ours != set(range(os.cpu_count() or 0)):
        pytest.skip("not all processors are ours")

    def placed(threads: int, games: int = len(ours)) -> list[set[int]]:
        before = set(os.listdir("/proc/self/task"))
        vector = AtariVector(games, "pong", threads=threads, screen_size=36)
        places = [os.sched_getaffinity(int(task)) for task in set(os.listdir("/proc/self/task")) - before]
        vector.close()
        return sorted(places, key=min)

    assert placed(0) == placed(len(ours)) == [{processor} for processor in sorted(ours)]
    if len(ours) > 1:
        assert placed(1) == [ours]
        assert placed(0, games=1) == [ours]
    monkeypatch.setattr(os, "cpu_count", lambda: len(ours) + 1)
    assert placed(0) == [ours] * len(ours)


def test_a_game_is_saved_at_any_time() -> None:
    proof = state.prove(lambda: AtariGame("breakout", sticky=0.25, life_loss="terminal", screen_size=36))
    assert proof.reason == ""


def test_pictures_become_smaller_by_their_areas() -> None:
    """7 x 5 -> 3 x 2 by hand: every new pixel is the mean of what it covers."""
    picture = np.random.default_rng(0).integers(0, 256, (7, 5), dtype=np.uint8)
    fine = np.kron(picture, np.ones((3, 2)))  # 21 x 10, which 3 x 2 divides
    mean = fine.reshape(3, 7, 2, 5).mean((1, 3))
    np.testing.assert_allclose(Resize(7, 5, 3, 2)(picture), mean, atol=0.5001)
    colours = np.stack([picture, picture, 255 - picture], -1)
    small = Resize(7, 5, 3, 2)(colours)
    np.testing.assert_array_equal(small[..., 0], Resize(7, 5, 3, 2)(picture))
    with pytest.raises(ValueError, match="only smaller"):
        Resize(7, 5, 8, 5)


def test_frames_are_skipped_once() -> None:
    """Whatever the id says of its own frame skip, stickiness and buttons."""
    first = None
    for env_id in ("ALE/Pong-v5", "PongNoFrameskip-v4", "Pong-v4"):
        envs = AtariEnvs(AtariConfig(id=env_id), SeedTree(0)).train(1)
        stream = [envs.reset([3]).copy(), *(envs.step(np.array([2])).obs.copy() for _ in range(3))]
        game = envs.env.env.envs[0].unwrapped  # under the clipped reward and the stack
        assert game._ale.getEpisodeFrameNumber() >= 4 * 3
        assert envs.spec.obs_space.shape == (4, 84, 84)
        assert envs.spec.obs_space.stack == 4
        assert envs.spec.num_actions == 6
        first = first or stream
        np.testing.assert_array_equal(stream, first)


def test_fire_begins_every_life() -> None:
    """The first step of a life presses FIRE, whatever the agent chooses; it chooses for itself again in the next."""
    lost = AtariGame("breakout", life_loss="terminal")
    lost.reset(seed=0)
    over = False
    while not over:  # the paddle stays where it is
        *_, over, _, info = lost.step(0)
    assert info == {"lives": 4, GOES_ON: True}
    lost.reset()
    saved = lost.state_dict()
    pictures = []
    for first in (0, 2, 3):
        lost.load_state_dict(saved)
        pictures.append(lost.step(first)[0])
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] == pictures[2]).all()
    lost.load_state_dict(saved | {"life_began": False})
    assert (lost.step(3)[0] != pictures[0]).any()


def test_returns_are_of_whole_games() -> None:
    """A life is an episode to the agent alone; in evaluation it is none. Rewards are counted as the game gives them."""
    envs = AtariEnvs(AtariConfig(id="ALE/Breakout-v5", screen_size=36, life_loss="penalty"), SeedTree(0))
    played = envs.evaluation(1)
    played.reset([5])
    rng, score, lives, terminated = np.random.default_rng(1), 0.0, 0, 0
    while True:
        step = played.step(rng.integers(4, size=1))
        score, terminated = score + step.reward[0], terminated + int(step.terminated[0])
        if step.episodes:
            break
    assert step.episodes[0].episode_return == score > 0
    assert terminated == 1

    envs = AtariEnvs(AtariConfig(id="ALE/Breakout-v5", screen_size=36), SeedTree(0)).train(1)
    envs.reset([5])
    rng = np.random.default_rng(1)
    while True:
        step = envs.step(rng.integers(4, size=1))
        lives += int(step.terminated[0])
        if step.episodes:
            break
    assert lives == 5
    assert step.episodes[0].episode_return == score  # the same game, by the same actions


def test_rewards_are_clipped_for_the_learner_alone() -> None:
    envs = AtariEnvs(AtariConfig(id="ALE/SpaceInvaders-v5", screen_size=36), SeedTree(0)).train(1)
    envs.reset([0])
    rewards, rng = [], np.random.default_rng(0)
    while not envs.env.env._return[0]:
        rewards.append(float(envs.step(rng.integers(6, size=1)).reward[0]))
    assert rewards[-1] == 1.0
    assert envs.env.env._return[0] >= 5


def test_a_run_is_resumed_exactly(rlrun: Rlrun, tmp_path: Path) -> None:
    training = [*TRAINING, "logger.freq=20", "env.time_limit=60", "algo.learning_starts=10"]
    with interrupted() as checks:
        rlrun(*training, "total_timesteps=80", "hydra.run.dir=alone")
    with interrupted(after=checks[0] - 90):  # 60 of them in the evaluation
        rlrun(*training, "total_timesteps=80", "hydra.run.dir=halved", code=75)
    rlrun("resume", "halved")
    assert differences(tmp_path / "alone", tmp_path / "halved") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["env.id=CartPole-v1"], "env.id: CartPole-v1 is no Atari game"),
        (["env.id=Breakout"], "did you mean 'ALE/Breakout-v5'"),
        (["env.id=ALE/Brekout-v5"], "did you mean 'ALE/Breakout-v5'"),
        (["env.life_loss=death"], "env.life_loss: there is no 'death'"),
        (["network=mlp"], "network: mlp cannot read pictures"),
        (["env.vector=native", "+env.kwargs.mode=1"], "env.vector: mode cannot be chosen"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["algo=dqn", "env=atari", "buffer.capacity=1000", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ConfigError, match=r"Atari games need ale-py\n.*rlrun\[atari\]"):
        AtariEnvs(AtariConfig(), SeedTree(0)).spec(1)
