"""Runs of two ranks in processes of their own, as torchrun starts them: one writer, one learner; stopped, resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PATIENCE, Nursery, Warm
from safetensors.numpy import load_file

from rlrun import cli
from rlrun.rundir.layout import RunDir

PPO = ["algo=ppo", "env=cartpole", "+smoke=on", "total_timesteps=100000", "logger.freq=256", "checkpoint.freq=256"]
PPO += ["eval.freq=0", "eval.episodes=1", "logger.tensorboard=false"]


Begin = Callable[..., list[Warm]]


@pytest.fixture
def begin(nursery: Nursery, tmp_path: Path) -> Iterator[Begin]:
    """Begins the ranks of a run, with what torchrun tells them; what rank 0 says is in `tmp_path/log`."""
    begun: list[Warm] = []

    def ranks(*words: str) -> list[Warm]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        told = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        told |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        new = [nursery.begin("rlrun", *words, folder=tmp_path, **told, RANK=r, LOCAL_RANK=r) for r in ("0", "1")]
        begun.extend(new)
        return new

    yield ranks
    for process in begun:
        process.kill()


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.01)


def saved(run: Path) -> int:
    try:
        return RunDir(run).saved_steps()
    except Exception:  # there is none yet
        return 0


def weights(run: Path, rank: int = 0) -> dict[str, np.ndarray]:
    root = run / "checkpoints" if rank == 0 else run / f"ranks/{rank}/checkpoints"
    return load_file(root / os.readlink(root / "last") / "algo.safetensors")


def rows(file: Path) -> list[dict[str, str]]:
    with open(file) as lines:
        return [{key: value for key, value in row.items() if "time" not in key} for row in csv.DictReader(lines)]


def must_be_alike(ours: Path, theirs: Path) -> None:
    for name in ("metrics.csv", "eval.csv"):
        assert rows(ours / name) == rows(theirs / name)
    for rank in (0, 1):
        mine, others = weights(ours, rank), weights(theirs, rank)
        assert mine.keys() == others.keys()
        for key, value in mine.items():
            np.testing.assert_array_equal(value, others[key])


def test_ranks_are_one_run_that_is_stopped_and_resumed(begin: Begin, tmp_path: Path) -> None:
    stopped = begin(*PPO, "hydra.run.dir=run")
    until(lambda: saved(tmp_path / "run") >= 256)
    os.kill(stopped[1].pid, signal.SIGTERM)  # one hears of it, both stop
    assert [rank.wait() for rank in stopped] == [75, 75]
    run = RunDir(tmp_path / "run")
    status = run.read_status()
    assert status["state"] == "preempted" and status["saved"] >= 256
    end = status["saved"] // 256 * 256 + 512
    assert [rank.wait() for rank in begin("resume", "run", f"total_timesteps={end}")] == [0, 0]
    assert run.read_status()["state"] == "finished" and run.read_meta()["ranks"] == 2
    first, second = weights(run.path), weights(run.path, 1)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert [int(row["env_steps"]) for row in rows(run.metrics_csv) if row["train/n_updates"]] == [
        *range(256, end + 1, 256)
    ]
    said = (tmp_path / "log").read_text()
    assert said.count(f"finished after {end:,} env steps") == 1  # rank 0 speaks for both
    assert "2 ranks, each with 4 of 8 environments and 16 transitions of a batch" in said
    assert cli.main(["resume", str(run.path), f"total_timesteps={2 * end}"]) == 2  # with one process


@pytest.mark.parametrize(
    "words",
    [["eval", "run"], ["-m", "algo=ppo,a2c"], ["seed=1,2", "hydra.mode=MULTIRUN"], ["--check"], ["--help"]],
    ids=str,
)
def test_what_is_no_run_is_refused_once(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "LAG", 0.0)
    said = []
    for rank in ("0", "1"):
        for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": rank}.items():
            monkeypatch.setenv(name, value)
        assert cli.main(words) == 2
        said.append(capsys.readouterr())
    assert said[0].err.startswith("rlrun: torchrun: starts processes that train one run together")
    assert said[1] == ("", "")


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "rlrun"]


def torchrun(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [*PPO, "total_timesteps=6000"],
        ["algo=dqn", "env=cartpole", "+smoke=on", "env.num_envs=2", "total_timesteps=2000", "checkpoint.freq=128"],
    ],
    ids=["ppo", "dqn"],
)
def test_a_run_that_torchrun_stops_ends_as_one_left_alone(words: list[str], tmp_path: Path) -> None:
    whole = torchrun(tmp_path, *words, "hydra.run.dir=whole")
    assert whole.wait(PATIENCE) == 0
    cut = torchrun(tmp_path, *words, "hydra.run.dir=cut")
    until(lambda: saved(tmp_path / "cut") >= 256)
    cut.terminate()
    said, _ = cut.communicate(timeout=PATIENCE)
    assert said.count("continue with: torchrun --nproc-per-node=2 -m rlrun resume cut") == 1
    assert RunDir(tmp_path / "cut").read_status()["state"] == "preempted"
    assert torchrun(tmp_path, "resume", "cut").wait(PATIENCE) == 0
    must_be_alike(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["algo=ppo"], ["algo=dqn", "env.num_envs=2"]],
    ids=lambda words: words[0],
)
def test_two_ranks_learn_cartpole(words: list[str], tmp_path: Path) -> None:
    run = torchrun(tmp_path, *words, "env=cartpole", "hydra.run.dir=run", "eval.episodes=100")
    assert run.wait(1800) == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["final_eval"]["mean"] >= 475


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others(begin: Begin, tmp_path: Path) -> None:
    ranks = begin(*PPO, "total_timesteps=1000000", "hydra.run.dir=run")
    until(lambda: saved(tmp_path / "run") >= 256)
    os.kill(ranks[1].pid, signal.SIGKILL)
    assert ranks[0].wait() == 1
    status = RunDir(tmp_path / "run").read_status()
    assert (status["state"], status["reason"][:27]) == ("failed", "rank 1 ended without a word")


@pytest.mark.slow
def test_what_fails_on_one_rank_is_told_by_the_first(begin: Begin, tmp_path: Path) -> None:
    """Rank 1 steps an environment that raises; its own log has the traceback."""
    words = ["algo=ppo", "imports=[unruly]", "env.id=Unruly-v0", "env.num_envs=2", "+smoke=on", "total_timesteps=5000"]
    words += ["env.kwargs.what=crash", "env.kwargs.when=512", "checkpoint.freq=512", "hydra.run.dir=disturbed"]
    ranks = begin(*words)
    codes = [rank.wait() for rank in ranks]
    assert codes == [1, 1]
    status = RunDir(tmp_path / "disturbed").read_status()
    assert status["state"] == "failed" and "bang" in status["reason"]
    said = (tmp_path / "log").read_text()
    assert said.count("rlrun: ") == 1
