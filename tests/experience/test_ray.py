"""Actors on a Ray cluster whose nodes are all on this machine: what they collect, who is lost, and that runs go on."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import cli
from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.experience.actors.crew import Order
from rlrun.experience.actors.on_ray import RayCrew, tensors
from rlrun.experience.actors.source import Actors
from rlrun.run import build
from rlrun.rundir.layout import RunDir
from rlrun.types import Progress

SMALL = ["env.num_envs=4", "experience.num_cpus=0.5"]
UNRULY = ["imports=[unruly]", "env.id=Unruly-v0", "algo=a2c", "eval.freq=0", "eval.episodes=1"]


@pytest.fixture(autouse=True)
def folder(ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parts(*words: str) -> Any:
    compose.set_up([])
    return build.parts(validate(compose.compose(words).data))


def pid(crew: RayCrew, actor: int) -> int:
    found: int = crew.ray.get(crew._workers[actor].__ray_call__.remote(lambda _: os.getpid()))
    return found


def test_the_first_round_is_that_of_actors_in_turn() -> None:
    rounds = []
    for words in (["experience=serial", "env.num_envs=4"], ["experience=ray", *SMALL]):
        made = parts("algo=a2c", "env=cartpole", *words)
        with made.source as source:
            rounds.append(next(iter(source)))
    one, other = rounds
    assert one.episodes == other.episodes and one.env_steps == other.env_steps
    for name in ("obs", "action", "reward", "terminated", "truncated"):
        assert np.array_equal(getattr(one.data, name), getattr(other.data, name)), name
    assert np.array_equal(one.data.extras["value"], other.data.extras["value"])


@pytest.mark.parametrize("words", [["algo=impala"], ["algo=a3c", "algo.asynchronous=true"]])
def test_weights_that_actors_act_by_are_the_published_ones(words: list[str]) -> None:
    made = parts(*words, *SMALL, "env=cartpole", "experience=ray", "total_timesteps=100000")
    progress, versions = Progress(made.cfg.total_timesteps), []
    with made.source as source:
        for chunk in itertools.islice(source, 12):
            progress.advance(chunk)
            versions.append(chunk.data.policy_version)
            made.algo.learn(chunk.data, progress)
            source.publish(made.algo.agent)
        assert versions[:2] == [0, 0] and max(versions) > 3
        assert set(source.metrics()) >= {"actors/policy_lag_mean", "actors/policy_lag_max", "actors/restarts"}
        sent = [tensor.numpy() for tensor in source.crew._tensors]
        for worker in source.crew._workers:
            source.crew.ray.get(worker.collect.remote(Order(1, 0), 12))
            now = worker.__ray_call__.remote(lambda worker: [x.numpy().copy() for x in tensors(worker.actor.algo)])
            assert all(np.array_equal(*pair) for pair in zip(sent, source.crew.ray.get(now), strict=True))


def test_an_actor_that_is_killed_is_replaced_and_no_step_counts_twice() -> None:
    made = parts("algo=a2c", "env=cartpole", *SMALL, "experience=ray", "total_timesteps=2000")
    counted = 0
    with made.source as source:
        for number, chunk in enumerate(source):
            counted += chunk.env_steps
            if number in (3, 9):
                os.kill(pid(source.crew, number % 2), signal.SIGKILL)
            if counted >= 2000:
                break
        assert counted == 2000
        metrics = source.metrics()
        assert metrics["actors/restarts"] == 2 and metrics["actors/lost_steps"] > 0


def test_a_run_outlives_a_node(ray_nodes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    node = ray_nodes.add_node(num_cpus=2)
    before = Actors._take

    def take(source: Actors, actor: int) -> Any:
        if source.asked > 1000 and node in ray_nodes.worker_nodes:
            ray_nodes.remove_node(node, allow_graceful=False)
        return before(source, actor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Actors, "_take", take)
        words = ["algo=a2c", "env=cartpole", "experience=ray", "experience.actors=4", "experience.num_cpus=0.75"]
        tail = ["env.num_envs=4", "total_timesteps=4000", "eval.freq=0", "eval.episodes=1", "hydra.run.dir=run"]
        # four actors fill both nodes; those of the lost one find room on the other
        assert cli.main([*words, "experience.num_cpus=0.5", *tail]) == 0
    run = RunDir("run")
    assert run.read_status()["env_steps"] == 4000
    last = json.loads(run.summary.read_text())
    assert last["state"] == "finished"


@pytest.mark.parametrize(("what", "says"), [("crash", "ValueError: bang"), ("hang", "there was no step for")])
def test_what_became_of_an_actor_is_told(what: str, says: str) -> None:
    words = [*UNRULY, *SMALL, "experience=ray", "experience.patience=3", "total_timesteps=800"]
    words += ["hydra.run.dir=disturbed", "checkpoint.freq=200", "env.kwargs.when=200", f"env.kwargs.what={what}"]
    assert cli.main(words) == 0
    assert says in (said := Path("disturbed/run.log").read_text())
    assert "actor 0 was lost: environments 0 to 1 of the run" in said or "actor 1 was lost: environments 2" in said


def test_a_signal_is_answered_and_the_run_goes_on_from_there() -> None:
    words = ["algo=a2c", "env=cartpole", *SMALL, "experience=ray", "eval.freq=0", "eval.episodes=1"]
    before = Actors._take

    def take(source: Actors, actor: int) -> Any:
        if source.asked > 1000:
            os.kill(os.getpid(), signal.SIGTERM)
        return before(source, actor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Actors, "_take", take)
        assert cli.main([*words, "total_timesteps=3000", "hydra.run.dir=run"]) == 75
    assert RunDir("run").read_status()["state"] == "preempted"
    assert cli.main(["resume", "run"]) == 0
    assert RunDir("run").read_status()["env_steps"] == 3000


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["a2c", "impala"])
def test_cartpole_on_two_nodes(ray_nodes: Any, algo: str) -> None:
    node = ray_nodes.add_node(num_cpus=2)
    try:
        words = [f"algo={algo}", "env=cartpole", "experience=ray", "hydra.run.dir=run", "experience.num_cpus=1.5"]
        assert cli.main([*words]) == 0
    finally:
        ray_nodes.remove_node(node)
    assert json.loads(RunDir("run").summary.read_text())["final_eval"]["mean"] >= 450
