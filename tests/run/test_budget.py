"""A run ends at its `total_timesteps`, whatever the length of a rollout, and goes on cleanly behind it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from rlrun import cli


def env_steps(run: Path) -> int:
    return json.loads((run / "status.json").read_text())["env_steps"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("algo=ppo env=cartpole ~tuned env.num_envs=3", 102),  # of 2048 x 3 steps; whole sweeps
        ("algo=dqn env=cartpole", 100),
        ("algo=q_learning env=frozenlake env.num_envs=4", 100),
    ],
)
def test_a_run_ends_with_the_sweep_that_reaches_its_total(words: str, expected: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    common = ["total_timesteps=100", "eval.episodes=1", "logger.console=off", f"hydra.run.dir={run}"]
    assert cli.main([*words.split(), *common]) == 0
    assert env_steps(run) == expected


def test_a_longer_total_goes_on_behind_the_cut_rollout(tmp_path: Path) -> None:
    """Of rollouts of 128, the third is cut at 300 and the next begins there: 512 = 128 + 128 + 44 + 128 + 84."""
    run = tmp_path / "run"
    words = "algo=ppo env=cartpole ~tuned algo.n_steps=128 eval.episodes=1 eval.freq=0 logger.console=off logger.freq=1"
    assert cli.main([*words.split(), "total_timesteps=300", f"hydra.run.dir={run}"]) == 0
    assert cli.main(["resume", str(run), "total_timesteps=512"]) == 0
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [int(row["env_steps"]) for row in rows if row["train/loss"]] == [128, 256, 300, 428, 512]
    assert env_steps(run) == 512
