"""Exact resume: a run that is killed or preempted, and then continued, ends like the run that nobody disturbed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PATIENCE, ROOT, Nursery, Rlrun, Warm, algorithms
from kill_and_resume import main, wait_until_alone

from rlrun import cli
from rlrun.testing import differences, table

FUSE = str(ROOT / "scripts" / "fuse.py")
KILLED, PREEMPTED, INTERRUPTED = -signal.SIGKILL, 75, 130

TRAINING = "+smoke=on total_timesteps=800 logger.freq=100 checkpoint.freq=200 eval.freq=300 eval.episodes=3".split()


def run(nursery: Nursery, folder: Path, *args: str, fuse: str, code: int) -> None:
    """The command in a process of its own with a fuse, and what its exit code must be."""
    process = nursery.begin(FUSE, fuse, *args, folder=folder, FUSE_LOG=str(folder / "blown"))
    assert process.wait() == code, (folder / "log").read_text()[-3000:]
    assert (folder / "blown").exists()
    assert wait_until_alone(process.pid) == []


# One of each family; the others are preempted in one process, where a start costs nothing, by their contract.
FAMILIES = {"dqn", "ppo", "q_learning", "ucb", "linear_posterior"}


@pytest.mark.parametrize(("algo", "env"), sorted(pair for pair in algorithms().items() if pair[0] in FAMILIES))
def test_killed_and_preempted_is_like_undisturbed(
    algo: str, env: str, tmp_path: Path, rlrun: Rlrun, nursery: Nursery
) -> None:
    training = [f"algo={algo}", f"env={env}", *TRAINING]
    rlrun(*training, "hydra.run.dir=alone")
    sweeps = status(tmp_path / "alone")["env_steps"] // num_envs(tmp_path / "alone")

    run(nursery, tmp_path, *training, "hydra.run.dir=disturbed", fuse=f"sweep:{sweeps * 2 // 5}:KILL", code=KILLED)
    run(nursery, tmp_path, "resume", "disturbed", fuse=f"sweep:{sweeps * 2 // 5}:TERM", code=PREEMPTED)
    assert status(tmp_path / "disturbed")["state"] == "preempted"
    rlrun("resume", "disturbed")

    assert differences(tmp_path / "alone", tmp_path / "disturbed") == []
    assert len(table(tmp_path / "alone" / "metrics.csv")) > 4
    assert status(tmp_path / "disturbed") | {"attempts": 3, "state": "finished"} == status(tmp_path / "disturbed")


DQN = ["algo=dqn", "env=cartpole", *TRAINING, "algo.learning_starts=250", "algo.train_freq=16"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert cli.main([*DQN, f"hydra.run.dir={folder}/alone"]) == 0
    return folder / "alone"


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        ("sweep:5:TERM", PREEMPTED),  # warm-up, before the first checkpoint
        ("sweep:5:KILL", KILLED),
        ("sweep:613:INT", INTERRUPTED),  # training, in the middle of a chunk
        ("evaluation:4:TERM", PREEMPTED),
        ("evaluation:4:KILL", KILLED),
        ("save:2:TERM", PREEMPTED),  # while the first checkpoint is written
        ("save:2:KILL", KILLED),
        ("save:12:KILL", KILLED),  # while a later one is
    ],
)
def test_an_interruption_at_any_moment(
    moment: str, code: int, undisturbed: Path, tmp_path: Path, rlrun: Rlrun, nursery: Nursery
) -> None:
    run(nursery, tmp_path, *DQN, "hydra.run.dir=disturbed", fuse=moment, code=code)
    rlrun("resume", "disturbed")
    assert differences(undisturbed, tmp_path / "disturbed") == []


@pytest.mark.parametrize(
    ("signum", "group", "code"),
    [
        (signal.SIGTERM, False, PREEMPTED),
        (signal.SIGINT, True, INTERRUPTED),  # a terminal sends Ctrl-C to the children as well
        (signal.SIGKILL, False, KILLED),
    ],
)
def test_no_child_outlives_the_run(signum: int, group: bool, code: int, tmp_path: Path, nursery: Nursery) -> None:
    training = ["algo=random", "env=cartpole", "env.vector=subprocess", "env.num_envs=2", "total_timesteps=10_000_000"]
    options = ["checkpoint.freq=500", "eval.freq=0", "hydra.run.dir=run"]
    process = nursery.begin("rlrun", *training, *options, folder=tmp_path)
    wait_for(lambda: status(tmp_path / "run").get("env_steps", 0) > 0, process)
    (os.killpg if group else os.kill)(process.pid, signum)
    assert process.wait() == code, (tmp_path / "log").read_text()[-3000:]
    assert wait_until_alone(process.pid) == []


def test_a_child_that_hangs_does_not_outlive_a_killed_run(tmp_path: Path, nursery: Nursery) -> None:
    """Nor is anything left among the temporary files."""
    temporary = tempfile.TemporaryDirectory(prefix="r")  # the name of a socket in there must stay short
    hangs = ["algo=random", "imports=[unruly]", "env.id=Unruly-v0", "env.kwargs.what=hang", "env.vector=subprocess"]
    options = ["env.num_envs=2", "checkpoint.env_state=off", "hydra.run.dir=run"]
    process = nursery.begin("rlrun", *hangs, *options, folder=tmp_path, TMPDIR=temporary.name)
    wait_for((tmp_path / "happened").exists, process)
    process.kill()
    assert process.wait() == KILLED
    assert wait_until_alone(process.pid) == []
    with temporary:
        assert list(Path(temporary.name).iterdir()) == []


STARTING = """
import os, sys
from multiprocessing.process import BaseProcess
from rlrun import cli

start, started = BaseProcess.start, []

def start_and_signal(process):
    start(process)
    started.append(process)
    if len(started) == 3:  # the first of an evaluation
        os.killpg(0, int(sys.argv[1]))

if __name__ == "__main__":
    BaseProcess.start = start_and_signal
    sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_while_environments_start_preempts(
    signum: int, tmp_path: Path, rlrun: Rlrun, nursery: Nursery
) -> None:
    training = ["algo=random", "env=cartpole", "env.vector=subprocess", "env.num_envs=2", "total_timesteps=200"]
    options = ["eval.freq=100", "eval.episodes=2", "hydra.run.dir=run"]
    script = tmp_path / "starting.py"
    script.write_text(STARTING)
    process = nursery.begin(str(script), str(int(signum)), *training, *options, folder=tmp_path)
    assert process.wait() == PREEMPTED, (tmp_path / "log").read_text()[-3000:]
    assert wait_until_alone(process.pid) == []
    assert status(tmp_path / "run")["state"] == "preempted"
    rlrun("resume", "run")
    assert status(tmp_path / "run")["state"] == "finished"


def test_a_run_at_work_cannot_be_resumed_twice(tmp_path: Path, rlrun: Rlrun, nursery: Nursery) -> None:
    words = ["algo=random", "total_timesteps=10_000_000", "hydra.run.dir=run"]
    process = nursery.begin("rlrun", *words, folder=tmp_path)
    wait_for(lambda: status(tmp_path / "run").get("attempts") == 1, process)
    try:
        assert str(process.pid) in rlrun("resume", "run", code=2).stderr
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        "algo=dqn env=cartpole total_timesteps=40_000 checkpoint.freq=1000 eval.freq=5000",
        "algo=ppo env=cartpole total_timesteps=150_000 checkpoint.freq=4000 eval.freq=20_000",
    ],
)
def test_twenty_kills(training: str) -> None:
    assert main(["--kills", "20", *training.split()]) == 0


def wait_for(condition: Any, process: Warm, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended early"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def status(folder: Path) -> dict[str, Any]:
    """A run's status.json; {} before there is one."""
    path = folder / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def num_envs(folder: Path) -> int:
    return yaml.safe_load((folder / "config.yaml").read_text())["env"]["num_envs"]
