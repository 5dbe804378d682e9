"""`logger.info_keys`: numbers of the environments' `info` as metrics, from here and from children, across a resume."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import cli
from rlrun.envs import catalogue
from rlrun.envs.info import InfoMeter, means, number
from rlrun.envs.recipe import Recipe
from rlrun.envs.vector.ways import build

MODULE = """
import gymnasium as gym
import numpy as np
import signal
from rlrun import Callback

class Telling(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {"speed": 1e6}

    def step(self, action):
        self.t += 1
        over = self.t == 4
        info = {"speed": np.float32(self.t), "name": "x", "vector": np.ones(3), "odd": float("nan"), "flag": self.t > 2}
        if over:
            info["success"] = np.array([1.0])
        return np.zeros(2, np.float32), 0.0, over, False, info

gym.register("Telling-v0", Telling)


class Preempt(Callback):
    def __init__(self, at):
        self.at = at

    def on_chunk(self, run, chunk, metrics):
        if run.progress.env_steps == self.at:
            run.interrupt.signum, self.at = signal.SIGTERM, 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "telling_envs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def vector(kind: str, *keys: str, evaluation: bool = False) -> Any:
    __import__("telling_envs")
    recipe = Recipe(catalogue.find("telling_envs:Telling-v0"), {}, None, True, None, info_keys=keys)
    return build(kind, recipe, 2, evaluation=evaluation)


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
def test_means_over_the_steps_that_had_the_key(kind: str) -> None:
    envs = vector(kind, "speed", "success", "flag", "name", "vector", "odd", "nothing")
    try:
        envs.reset([0, 1])
        for _ in range(6):
            envs.step(np.array([0, 0]))
        found = {"rollout/info/speed": (1 + 2 + 3 + 4 + 1 + 2) / 6, "rollout/info/success": 1.0}
        assert envs.metrics() == found | {"rollout/info/flag": pytest.approx(2 / 6)}
        assert envs.metrics() == {}, "since the last call"
        envs.step(np.array([0, 0]))
        state = envs.state_dict()
        envs.step(np.array([0, 0]))
        assert envs.metrics()["rollout/info/speed"] == 3.5
        envs.load_state_dict(state)
        assert envs.metrics()["rollout/info/speed"] == 3
    finally:
        envs.close()


def test_nothing_is_read_where_nobody_asks() -> None:
    for envs in (vector("in_process"), vector("in_process", "speed", evaluation=True)):
        envs.reset([0, 1])
        envs.step(np.array([0, 0]))
        assert envs.metrics() == {}
        assert "infos" not in envs.state_dict()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, 1.0),
        (np.int8(3), 3.0),
        (np.array([[2.5]]), 2.5),
        ("3", None),
        (None, None),
        (math.inf, None),
        ([1, 2], None),
        ({}, None),
        (1 + 2j, None),
        (10**400, None),
    ],
)
def test_what_is_a_number(value: object, found: float | None) -> None:
    assert number(value) == found


def test_several_environments_by_hand() -> None:
    assert means([{"a": (6.0, 3)}, {"a": (1.0, 1), "b": (5.0, 2)}, {}]) == {
        "rollout/info/a": 7 / 4,
        "rollout/info/b": 2.5,
    }
    meter = InfoMeter(["a"])
    meter.add(None)
    meter.add("text")
    assert meter.take() == {}


TRAIN = ["algo=random", "imports=[telling_envs]", "env.id=Telling-v0", "+smoke=on", "logger.console=off"]


def column(run: str, name: str) -> list[str]:
    return [
        row.get(name, "")
        for row in csv.DictReader(Path(run, "metrics.csv").read_text().splitlines())
        if row["time/fps"]
    ]


def test_through_the_command_and_across_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    keys = "logger.info_keys=[speed,success,nowhere]"
    words = [*TRAIN, "total_timesteps=200", "logger.freq=50", keys]
    assert cli.main([*words, "hydra.run.dir=alone"]) == 0
    assert "logger.info_keys: no step had a number called 'nowhere' in its info" in capsys.readouterr().err
    assert cli.main([*words, "callbacks=[{_target_:telling_envs.Preempt,at:70}]", "hydra.run.dir=stopped"]) == 75
    assert cli.main(["resume", "stopped"]) == 0
    for name in ("rollout/info/speed", "rollout/info/success"):
        assert column("stopped", name) == column("alone", name)
        assert len(column("alone", name)) == 4
    assert {float(value) for value in column("alone", "rollout/info/success")} == {1.0}
    assert cli.main(["resume", "alone", "total_timesteps=250", "logger.info_keys=[flag]"]) == 0
    assert float(column("alone", "rollout/info/flag")[-1]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["env=cartpole", "env.vector=native"], "logger.info_keys: are told by single environments"),
        (["env=bandit/bernoulli", "algo=ucb"], "logger.info_keys: bandit/bernoulli has no info to read"),
    ],
)
def test_where_there_is_no_info(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["algo=random", *words, "logger.info_keys=[x]", "hydra.run.dir=run"]) == 2
    assert says in capsys.readouterr().err
    assert not Path("run").exists()
