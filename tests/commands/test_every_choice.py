"""Every choice trains: `list` enumerates them, and each is in a smoke run through the command.

The contract of algorithms (tests/algos) trains each of them; tuned values and experiments, which choose among the rest,
are built as they are (tests/config).
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DATA

from rlrun import cli, registry
from rlrun.config import folders, plugins
from rlrun.envs.vector.ways import WAYS

FILES = {
    "config.yaml",
    "overrides.yaml",
    "command.txt",
    ".hydra",
    "meta.json",
    "status.json",
    "metrics.csv",
    "metrics.jsonl",
    "tb",
    "eval.csv",
    "checkpoints",
    "run.log",
    "summary.json",
}

# Who learns where: by the environment's spaces.
TABLES = ("identity", "frozenlake", "cliffwalking", "taxi", "blackjack", "maze")
BODIES = ("mujoco", "halfcheetah", "hopper", "walker2d", "ant", "humanoid")
WALKERS = ("lunarlander_continuous", "bipedalwalker")
CONTINUOUS = ("pendulum", "mountaincar_continuous", *WALKERS, *BODIES, "dm_control", "robotics", "reach")
LEARNERS = {
    "bandit/bernoulli": "ucb",
    "bandit/gaussian": "ucb",
    **dict.fromkeys(CONTINUOUS, "ppo"),
    "reach": "sac",
    **dict.fromkeys(TABLES, "q_learning"),
}
# What only the user can know, or what makes it small.
GAME = ["env.time_limit=30", "env.screen_size=36", "buffer.capacity=1000", "algo.train_freq=50"]
NEEDS = {
    "atari": GAME,
    "atari_machado": GAME,
    "gym": ["env.id=CartPole-v1"],
    "reach": ["buffer=hindsight"],
    "mujoco": ["env.id=HalfCheetah-v5"],
    "dm_control": ["env.id=dm_control/cheetah-run-v0"],
    "robotics": ["env.id=FetchReach-v4"],
    "bandit/csv": ["env.path=table.csv", "env.label=arm"],
}
MODULES = {
    **dict.fromkeys(("lunarlander", *WALKERS), "Box2D"),
    **dict.fromkeys(BODIES, "mujoco"),
    **dict.fromkeys(("atari", "atari_machado"), "ale_py"),
    "dm_control": "dm_control",
    "robotics": "gymnasium_robotics",
}
ELSEWHERE = ("cuda", "ray")  # choices that need what this machine may not have, with tests of their own
SMALLEST = {"cnn_nature": 36, "cnn_nips": 20, "cnn_impala": 4}  # pictures that they can read
OWN_DATA = {f"bandit/{name}" for name in ("adult", "census", "covertype", "magic", "mushroom", "shuttle")}


def on(env: str) -> list[str]:
    """Words for an environment."""
    return [f"env={env}", *NEEDS.get(env, []), *([f"env.path={DATA}"] if env in OWN_DATA else [])]


def learner(env: str) -> str:
    """An algorithm that fits an environment."""
    if env in TABLES:
        return "q_learning"
    return LEARNERS.get(env, "linear_posterior" if env.startswith("bandit/") else "dqn")


def plan() -> Iterator[list[str]]:
    """Words of runs that have every choice in one of them."""
    plugins.load_installed()
    for env in folders.options("env"):
        yield [f"algo={learner(env)}", *on(env)]
    for name in folders.options("network"):
        remembers = registry.has("network", name) and registry.get("network", name).remembers
        shown = ["env.id=rlrun/Lamp-v0", f"+env.kwargs.side={SMALLEST[name]}"] if name in SMALLEST else []
        yield ["algo=ppo" if remembers else "algo=dqn", f"network={name}", *shown]
    columns = [[f"env.vector={name}" for name in WAYS]]
    for group in ("buffer", "experience", "device", "logger", "eval", "checkpoint"):
        columns.append([f"{group}={name}" for name in folders.options(group) if name not in ELSEWHERE])
    for row in itertools.zip_longest(*columns):  # what has no say in each other shares a run
        goals = ["env=bit_flip"] if "buffer=hindsight" in row else []
        yield ["algo=dqn", *goals, *filter(None, row), "env.num_envs=2", "buffer.n_step=3"]


RUNS = list(plan())


def needs(words: list[str]) -> str:
    """The module that an environment among the words needs, where it is not installed."""
    found = [MODULES.get(word.removeprefix("env="), "") for word in words]
    return next((module for module in found if module and importlib.util.find_spec(module) is None), "")


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_a_choice_trains(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := needs(words):
        pytest.skip(f"{missing} is not installed")
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("x,y,arm\n" + "".join(f"{n},{n % 5},{'ab'[n % 2]}\n" for n in range(40)))

    assert cli.main([*words, "+smoke=on", "total_timesteps=200", "hydra.run.dir=run"]) == 0

    assert {path.name for path in Path("run").iterdir()} >= FILES
    status, summary = (json.loads(Path("run", name).read_text()) for name in ("status.json", "summary.json"))
    assert (status["state"], status["attempts"]) == ("finished", 1)
    assert status["env_steps"] == summary["env_steps"] >= 200
    assert summary["final_eval"]["episodes"] == 2
    with Path("run/metrics.csv").open() as file:
        assert list(csv.DictReader(file))[-1]["env_steps"] == str(status["env_steps"])
    assert Path("run/checkpoints/last").resolve().name == f"step_{status['env_steps']:09d}"


def test_every_choice_is_in_a_run() -> None:
    """A choice that is added must train, too: smoke=on in a smoke run, a GPU where there is one, Ray in test_ray.py."""
    words = {word for run in RUNS for word in run} | {"device=cuda", "experience=ray", "smoke=on"}
    for group in sorted({*folders.GROUPS} - {"algo", "tuned", "experiment"}):
        for name in (name for name in folders.options(group) if not name.startswith("tests_")):  # of other tests
            assert f"{group}={name}" in words, f"{group}={name}"


@pytest.mark.gpu
def test_a_gpu_trains_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    has_gpu = torch.cuda.is_available()
    assert cli.main(["algo=dqn", "device=cuda", "+smoke=on"]) == (0 if has_gpu else 2)
    if not has_gpu:
        assert "device.accelerator: 'cuda' was asked for, this machine has 0 usable GPUs" in capsys.readouterr().err
        assert not Path("outputs").exists()
