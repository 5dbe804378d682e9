"""`rlrun check`: what it says of environments whose properties are known, good ones and bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import cli
from rlrun.commands import check
from rlrun.types import EnvSpec, Space

ENVS = """
import gymnasium as gym
import numpy as np

class Good(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)
    length = 10

    def __init__(self, flaw=""):
        self.flaw = flaw

    def reset(self, *, seed=None, options=None):
        super().reset(seed=None if self.flaw == "seeds" else seed)
        self.t = 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        if self.flaw == "raises" and self.t == 5:
            raise ValueError("the simulator is gone")
        if self.flaw == "exits" and self.t == 5:
            raise SystemExit(0)
        ended = self.flaw != "endless" and self.t == self.length
        return self.look(), float(action), ended, False, {}

    def look(self):
        obs = self.np_random.uniform(-1, 1, 2)
        if self.flaw == "hole" and self.t == 3:
            obs[1] = np.nan
        if self.flaw == "bounds" and self.t == 4:
            obs[0] = 1.5
        return obs if self.flaw == "dtype" else obs.astype(np.float32)

class Words(Good):
    observation_space = gym.spaces.Text(3)

class Free(Good):
    action_space = gym.spaces.Box(np.array([-np.inf, 0, -1], np.float32), np.array([np.inf, np.inf, 1], np.float32))
    def step(self, action):
        return super().step(0)

gym.register("Good-v0", Good)
gym.register("Words-v0", Words)
gym.register("Free-v0", Free, max_episode_steps=7)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tried_envs.py").write_text(ENVS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")


def found(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert cli.main(["check", "imports=[tried_envs]", *words, "steps=200", "json=true"]) == code
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_an_environment_whose_properties_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, "env.id=Good-v0")
    assert report["trainable"] and report["checker"] == "passed" and report["failure"] == ""
    assert report["lengths"] == [10] * 20
    assert report["reward"] == [0.0, 2.0]
    assert report["outside"] == 0 and -1 <= report["observed"][0] < -0.9 and 0.9 < report["observed"][1] <= 1
    assert (report["time_limit"], report["cut_at"]) == (None, 10_000)
    assert report["seeds"] == report["resume"] == ""
    assert report["transition_bytes"] == 2 * 4 + 8 + 2 * 4 + 2 * 8
    assert report["replay_bytes"] == 1_000_000 * report["transition_bytes"]
    assert {"dqn", "ppo", "random"} <= set(report["fits"])
    assert "discrete" in report["misfits"]["q_learning"]


def test_it_says_who_takes_no_notice_of_a_mask(capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, "env.id=rlrun/Masked-v0")
    assert {"fixed", "q_learning"} <= set(report["unaware"]) <= set(report["fits"]) - {"dqn", "ppo", "random"}
    assert found(capsys, "env.id=rlrun/Masked-v0", "env.action_masks=false")["unaware"] == []


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        (["env.kwargs.flaw=endless"], {"lengths": [], "trainable": True}),
        (["env.kwargs.flaw=bounds"], {"outside": 20, "trainable": True}),
        (["env.time_limit=4"], {"lengths": [4] * 50, "time_limit": 4, "cut_at": None}),
        (["eval.max_steps=70"], {"cut_at": 70}),
        (
            ["env.wrappers=[{_target_:gymnasium.wrappers.TimeLimit,max_episode_steps:2}]"],
            {"lengths": [2] * 100, "time_limit": 2},
        ),
        (["env.vector=subprocess"], {"lengths": [10] * 20, "trainable": True}),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)
def test_options_of_training_count(
    words: list[str], finding: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    report = found(capsys, "env.id=Good-v0", *words)
    assert {key: report[key] for key in finding} == finding


def test_seeds_that_do_not_repeat_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, "env.id=Good-v0", "env.kwargs.flaw=seeds")
    assert report["seeds"] == "a second episode in it differs at reset()"
    assert report["checker"] != "passed"


def test_a_space_of_another_dtype_is_said_by_gymnasium(capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, "env.id=Good-v0", "env.kwargs.flaw=dtype")
    assert "AssertionError: " in report["checker"] and report["trainable"]


@pytest.mark.parametrize(
    ("flaw", "says"),
    [("raises", "ValueError: the simulator is gone"), ("exits", "SystemExit: 0"), ("hole", "not finite")],
)
def test_an_environment_that_fails(flaw: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, "env.id=Good-v0", f"env.kwargs.flaw={flaw}", code=1)
    assert says in report["failure"] and 2 <= report["steps"] <= 4
    assert not report["trainable"]
    assert cli.main(["check", "imports=[tried_envs]", "env.id=Good-v0", f"env.kwargs.flaw={flaw}"]) == 1
    out = capsys.readouterr().out
    assert says in out and "Ready to train" not in out and "nan to nan" not in out


def test_actions_without_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    report = found(capsys, "env.id=Free-v0")
    assert report["lengths"] == [7] * 28
    assert "ppo" in report["fits"] and "dqn" in report["misfits"]


def test_random_actions_stay_in_their_space() -> None:
    low, high = np.array([-np.inf, 0, -1], np.float32), np.array([np.inf, np.inf, 1], np.float32)
    space = Space("box", (3,), np.dtype(np.float32), low=low, high=high)
    draw = check.RandomActions(EnvSpec("Free-v0", space, space))
    actions = np.concatenate([draw(np.zeros((1, 3), np.float32)) for _ in range(500)])
    assert np.isfinite(actions).all() and (actions >= low).all() and (actions <= high).all()
    assert actions.min(axis=0)[0] < -1 and actions.max(axis=0)[1] > 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "check: needs an environment"),
        (["algo=dqn"], "check: needs an environment"),
        (["CartPole-v1"], "CartPole-v1: options are written key=value\ndid you mean env.id=CartPole-v1?"),
        (["env.id=Nowhere-v0"], "env.id: there is no environment 'Nowhere-v0'"),
        (["env.id=Words-v0"], "env.id: a Text observation space is not supported"),
        (["env.id=Good-v0", "env.wrappers=[nowhere.W]"], "env.wrappers: 'nowhere.W' cannot be imported"),
        (["env.id=Good-v0", "steps=0"], "steps: must be at least 1"),
        (["env.id=Good-v0", "env.kwargs.length=3"], "env.kwargs"),
    ],
)
def test_mistakes_are_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "imports=[tried_envs]", *words]) == 2
    assert says in capsys.readouterr().err


def test_eighty_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for env in ("env.id=Good-v0", "env=frozenlake", "env=bandit/gaussian", "env=pendulum"):
        assert cli.main(["check", "imports=[tried_envs]", env, "steps=50"]) == 0
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 80
        assert out.splitlines()[-1].startswith("Ready to train: rlrun algo=")
    assert {path.name for path in tmp_path.iterdir()} <= {"tried_envs.py", "__pycache__"}, "nothing is written"
