"""What the command promises: the console script, determinism, and directories that no two runs share."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import Nursery, Rlrun

from rlrun.testing import table

SMOKE = ["algo=dqn", "env=cartpole", "+smoke=on"]


def test_same_seed_same_bytes_other_seed_other_bytes(rlrun: Rlrun, process: Rlrun, tmp_path: Path) -> None:
    done = process(*SMOKE, "hydra.run.dir=one")
    assert "\x1b" not in done.stdout + done.stderr, "no colours in a pipe"
    for name, words in {
        "two": [],
        "other": ["seed=1"],
        "watched": ["eval.freq=100", "checkpoint.freq=50", "logger.tensorboard=false"],
        "four": ["env.num_envs=4"],
        "four_again": ["env.num_envs=4"],
    }.items():
        rlrun(*SMOKE, *words, f"hydra.run.dir={name}")
    one, two, other, four, four_again = (
        table(tmp_path / name / "metrics.csv") for name in ("one", "two", "other", "four", "four_again")
    )
    assert one == two
    assert one != other
    assert four == four_again
    assert four != one
    watched = rows(tmp_path / "watched" / "metrics.csv")
    trained = [row for row in watched if row["rollout/ep_rew_mean"]]
    undisturbed = [row for row in rows(tmp_path / "one" / "metrics.csv") if row["rollout/ep_rew_mean"]]
    columns = [key for key in undisturbed[0] if key.startswith(("rollout/", "train/"))]
    assert [[row[key] for key in columns] for row in trained] == [[row[key] for key in columns] for row in undisturbed]


def test_tensorboard_reads_what_metrics_csv_says(rlrun: Rlrun, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rlrun(*SMOKE, "eval.freq=200", "hydra.run.dir=run")
    events = EventAccumulator(str(tmp_path / "run" / "tb"), size_guidance={"scalars": 0})
    events.Reload()
    found = {
        (event.step, tag): np.float32(event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)
    }
    expected = {
        (int(row["env_steps"]), tag): np.float32(value)
        for row in rows(tmp_path / "run" / "metrics.csv")
        for tag, value in row.items()
        if tag != "env_steps" and value
    }
    assert len(expected) > 20
    assert found == expected


def test_runs_of_the_same_instant_share_no_directory(tmp_path: Path, nursery: Nursery) -> None:
    words = ["algo=random", "env=toy", "+smoke=on"]
    processes = [nursery.begin("rlrun", *words, folder=tmp_path) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list((tmp_path / "outputs" / "toy" / "random").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["algo=dpn"], "did you mean 'dqn'?"),
        (["algo.lr=1e-3"], "algo.learning_rate"),
        (["algo.learning_rate=fast"], "algo.learning_rate"),
        (["algo.gamma=2"], "algo.gamma: must be in [0, 1], got 2"),
        (["env=pendulum"], "ppo"),  # dqn is discrete; what fits is named
        (["env.id=CartPole-v9"], "CartPole-v1"),
        (["resum", "x"], "resume"),
        (["resume", "no_such_run"], "no_such_run"),
        (["--lr", "1"], "algo.learning_rate"),
    ],
)
def test_a_mistake_is_answered_in_a_few_lines(rlrun: Rlrun, words: list[str], answer: str, tmp_path: Path) -> None:
    refused = rlrun(*words, code=2)
    assert answer in refused.stderr
    assert 1 <= len(refused.stderr.strip().split("\n")) <= 5
    assert not (tmp_path / "outputs").exists(), "a mistake leaves no directory behind"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
