"""Wrappers that a user names in the config: in order, with arguments, in children, in evaluation, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rlrun import cli
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig
from rlrun.errors import ConfigError, EnvError
from rlrun.seeding import SeedTree

MODULE = """
import gymnasium as gym
import numpy as np


class Add(gym.RewardWrapper):
    def __init__(self, env, amount=1.0):
        super().__init__(env)
        self.amount = amount

    def reward(self, reward):
        return reward + self.amount


class Times(gym.RewardWrapper):
    def __init__(self, env, factor):
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return reward * self.factor


def halved(env):
    return gym.wrappers.TransformReward(env, lambda reward: reward / 2)


def nothing(env):
    return None


def fails(env):
    raise RuntimeError("no simulator here")


def exits(env):
    raise SystemExit(0)


VALUE = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrappers_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


ADD, TIMES = "wrappers_of_mine.Add", {"_target_": "wrappers_of_mine.Times", "factor": 10}


def reward(wrappers: list[object], vector: str = "in_process", evaluation: bool = False) -> float:
    """Of one step in CartPole, which gives 1."""
    envs = GymEnvs(EnvConfig(id="CartPole-v1", wrappers=wrappers, vector=vector), SeedTree(0))
    made = envs.evaluation(1) if evaluation else envs.train(1)
    try:
        made.reset([0])
        return float(made.step(np.array([0])).reward[0])
    finally:
        made.close()


@pytest.mark.parametrize(
    ("wrappers", "answer"),
    [
        ([], 1.0),
        ([ADD, TIMES], 20.0),
        ([TIMES, ADD], 11.0),
        ([{"_target_": ADD, "amount": 4}], 5.0),
        (["wrappers_of_mine.halved"], 0.5),
    ],
)
def test_the_first_wrapper_is_the_innermost(wrappers: list[object], answer: float) -> None:
    assert reward(wrappers) == reward(wrappers, evaluation=True) == answer


def test_wrappers_are_applied_in_children() -> None:
    assert reward([TIMES, ADD], "subprocess") == 11.0


def test_gymnasiums_own_change_what_an_agent_sees() -> None:
    wrappers = [
        "gymnasium.wrappers.FlattenObservation",
        {"_target_": "gymnasium.wrappers.TimeLimit", "max_episode_steps": 5},
    ]
    spec = GymEnvs(EnvConfig(id="CartPole-v1", wrappers=wrappers), SeedTree(0)).spec(1)
    assert spec.max_episode_steps == 5


def test_what_is_rendered_is_wrapped() -> None:
    env = GymEnvs(EnvConfig(id="CartPole-v1", wrappers=[ADD]), SeedTree(0)).render("rgb_array")
    assert isinstance(env, gym.RewardWrapper)
    env.close()


@pytest.mark.parametrize(
    ("wrapper", "says"),
    [
        ("nowhere.Wrapper", "env.wrappers: 'nowhere.Wrapper' cannot be imported"),
        ("wrappers_of_mine.Nothing", "env.wrappers: 'wrappers_of_mine.Nothing' cannot be imported"),
        ("Add", "env.wrappers: Add is no dotted path\nfor instance my.module.Add"),
        ("wrappers_of_mine.VALUE", "env.wrappers: wrappers_of_mine.VALUE cannot be called"),
        (
            "wrappers_of_mine.Times",
            "wrappers_of_mine.Times: missing a required argument: 'factor'\nits arguments: (env, factor)",
        ),
        ({"_target_": ADD, "amuont": 4}, "got an unexpected keyword argument 'amuont'"),
        ("wrappers_of_mine.nothing", "wrappers_of_mine.nothing made a NoneType of the environment"),
    ],
)
def test_what_is_no_wrapper_is_refused(wrapper: object, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        GymEnvs(EnvConfig(id="CartPole-v1", wrappers=[wrapper]), SeedTree(0)).spec(1)
    assert says in str(error.value)


@pytest.mark.parametrize("item", [3, None, "", {"factor": 3}, ["wrappers_of_mine.Add"]])
def test_an_entry_that_names_nothing(item: object) -> None:
    with pytest.raises(ConfigError, match=r"^wrappers: .* names nothing\n"):
        EnvConfig(id="CartPole-v1", wrappers=[item])


def test_a_wrapper_that_cannot_be_made_is_named() -> None:
    for name, says in {"fails": "RuntimeError: no simulator here", "exits": "SystemExit: 0"}.items():
        with pytest.raises(EnvError, match=rf"^env.wrappers: wrappers_of_mine.{name} cannot be made: {says}$"):
            GymEnvs(EnvConfig(id="CartPole-v1", wrappers=[f"wrappers_of_mine.{name}"]), SeedTree(0)).spec(1)


def test_a_native_vector_takes_no_wrappers() -> None:
    with pytest.raises(ConfigError, match=r"^env.wrappers: go around single environments\nuse env.vector=in_process"):
        GymEnvs(EnvConfig(id="CartPole-v1", wrappers=[ADD], vector="native"), SeedTree(0)).spec(1)


def test_through_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Every step of CartPole counts 11: in training, in its evaluations, in `eval`."""
    own = "env.wrappers=[{_target_:wrappers_of_mine.Times,factor:10},wrappers_of_mine.Add]"
    assert cli.main(["algo=dqn", "env=cartpole", own, "+smoke=on", "hydra.run.dir=run"]) == 0
    capsys.readouterr()
    assert cli.main(["eval", "run", "episodes=2", "json=true"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mean"] == 11 * report["mean_length"]
    assert cli.main(["algo=dqn", "env=cartpole", "env.wrappers=[nowhere.W]", "hydra.run.dir=other"]) == 2
    assert not Path("other").exists()
