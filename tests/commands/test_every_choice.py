"""Every choice of every group trains: `list` enumerates them, and each is in a smoke run through the command."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DATA, algorithms

from rlrun import cli
from rlrun.config import folders
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

# Who learns where no tuned pair says it: by the environment's spaces.
LEARNERS = {"bandit/bernoulli": "ucb", "bandit/gaussian": "ucb", "pendulum": "ppo", "identity": "q_learning"}
# What only the user can know.
NEEDS = {"gym": ["env.id=CartPole-v1"], "bandit/csv": ["env.path=table.csv", "env.label=arm"]}
MODULES = {"lunarlander": "Box2D"}
OWN_DATA = {f"bandit/{name}" for name in ("adult", "census", "covertype", "magic", "mushroom", "shuttle")}


def on(env: str) -> list[str]:
    """Words for an environment."""
    return [f"env={env}", *NEEDS.get(env, []), *([f"env.path={DATA}"] if env in OWN_DATA else [])]


def learner(env: str) -> str:
    """An algorithm that fits an environment."""
    return LEARNERS.get(env, "linear_posterior" if env.startswith("bandit/") else "dqn")


def plan() -> Iterator[list[str]]:
    """Words of runs that have every choice in one of them."""
    covered: set[str] = {"algo=dqn", "env=cartpole"}

    def run(*words: str) -> list[str]:
        covered.update(words)
        return list(words)

    for pair in folders.options("tuned"):
        algo, dash, env = pair.partition("-")
        if not dash:  # what pairs with the same environment share
            continue
        yield run(f"algo={algo}", *on(env))
    for name in folders.options("experiment"):
        yield run(f"experiment={name}")
    for algo, env in sorted(algorithms().items()):
        if f"algo={algo}" not in covered:
            yield run(f"algo={algo}", *on(env))
    for env in folders.options("env"):
        if f"env={env}" not in covered:
            yield run(f"algo={learner(env)}", *on(env))
    for name in folders.options("network"):
        yield run("algo=dqn", f"network={name}")
    for name in WAYS:
        yield run("algo=dqn", f"env.vector={name}", "env.num_envs=2")
    for name in folders.options("experience"):
        yield run("algo=dqn", f"experience={name}", "env.num_envs=2")
    yield run("algo=dqn", "buffer=uniform")
    for group in ("device", "logger", "eval", "checkpoint"):
        for name in folders.options(group):
            if name != "cuda":
                yield run("algo=dqn", f"{group}={name}")


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

    assert cli.main([*words, "+smoke=on", "hydra.run.dir=run"]) == 0

    assert {path.name for path in Path("run").iterdir()} >= FILES
    status, summary = (json.loads(Path("run", name).read_text()) for name in ("status.json", "summary.json"))
    assert (status["state"], status["attempts"]) == ("finished", 1)
    assert status["env_steps"] == summary["env_steps"] >= 500
    assert summary["final_eval"]["episodes"] == 2
    with Path("run/metrics.csv").open() as file:
        assert list(csv.DictReader(file))[-1]["env_steps"] == str(status["env_steps"])
    assert Path("run/checkpoints/last").resolve().name == f"step_{status['env_steps']:09d}"


def test_every_choice_is_in_a_run() -> None:
    """A choice that is added must train, too. A smoke run is one of `smoke=on`; a machine without a GPU refuses it."""
    words = {word for run in RUNS for word in run} | {"env=cartpole", "device=cuda", "smoke=on"}
    pairs = {f"{run[0].removeprefix('algo=')}-{run[1].removeprefix('env=')}" for run in RUNS if len(run) > 1}
    for group in folders.GROUPS:
        for name in folders.options(group):
            shared = group == "tuned" and "-" not in name
            assert (shared or name in pairs) if group == "tuned" else f"{group}={name}" in words, f"{group}={name}"


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
