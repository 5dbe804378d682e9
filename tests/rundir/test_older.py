"""What older versions wrote, in today's words and places. That whole runs of theirs still work: test_old_runs.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlrun.config import compose
from rlrun.errors import CheckpointError
from rlrun.networks.builder import NetworkBuilder, NetworkConfig, build_mlp, encoder
from rlrun.networks.recurrent import GruConfig, build_gru
from rlrun.rundir import checkpoints, older
from rlrun.rundir.sweep import Job, Sweep
from rlrun.types import HeadSpec, Space


@pytest.mark.parametrize("way", ["in_process", "subprocess", "native"])
def test_how_environments_are_stepped_was_called_experience(way: str) -> None:
    old = {"seed_tree": 2, "env": {"name": "gym", "id": "CartPole-v1"}, "experience": {"name": way}}
    new = older.config(old)
    assert new["env"] == {"name": "gym", "id": "CartPole-v1", "vector": way}
    assert new["experience"] == {"name": "rollouts"}
    assert old["experience"] == {"name": way}, "the old one is left as it was"


def test_a_bandit_is_stepped_in_its_own_way() -> None:
    old = {"seed_tree": 2, "env": {"name": "bandit/bernoulli"}, "experience": {"name": "in_process"}}
    assert older.config(old) == {**old, "experience": {"name": "rollouts"}}


@pytest.mark.parametrize(
    ("name", "kind", "build"), [("mlp", NetworkConfig, build_mlp), ("gru", GruConfig, build_gru)], ids=["mlp", "gru"]
)
def test_pictures_were_rows_of_numbers(name: str, kind: type[NetworkConfig], build: NetworkBuilder) -> None:
    network = older.config({"seed_tree": 2, "network": {"name": name, "hidden": [8]}})["network"]
    picture = Space("box", (40, 40, 3), np.dtype(np.uint8), low=np.uint8(0), high=np.uint8(255))
    cfg = kind(**network)
    assert encoder(cfg, picture)[1] == 4800
    build(cfg, picture, HeadSpec("q", 2))
    own = {"seed_tree": 2, "network": {"name": "thin", "hidden": [8]}}
    assert older.config(own) == own


def test_todays_words_stay() -> None:
    new = {"seed_tree": 2, "env": {"name": "gym", "vector": "native"}, "experience": {"name": "rollouts"}}
    assert older.config(new) == new


def test_the_missing_jobs_of_a_sweep_start_by_todays_words(tmp_path: Path) -> None:
    words = ["algo=ppo", "buffer=rollout", "experience=subprocess", "seed=3"]
    record = Sweep(tmp_path, "rlrun -m", "/", options={"jobs": 1, "time_limit": None})
    record.jobs = [Job(0, "0_subprocess", words, {"experience": "subprocess"}, 3, 500, 0.0)]
    record.write()
    [job] = Sweep.read(tmp_path).jobs
    compose.set_up(job.words)
    data = compose.compose(job.words).data
    assert (data["buffer"], data["env"]["vector"], data["seed"]) == (None, "subprocess", 3)
    assert older.words(["env=bandit/bernoulli", "experience=in_process"]) == ["env=bandit/bernoulli"]


def test_what_was_shared_stood_in_the_training_environments(tmp_path: Path) -> None:
    stats = {"count": 3, "mean": np.ones(2), "squares": np.ones(2)}
    source = {"envs": {"grade": "exact", "obs_stats": stats}}
    path = checkpoints.save(tmp_path, {"algo": {"w": np.zeros(3)}, "source": source}, 5)
    assert set(checkpoints.load(path)) == {"algo", "source"}
    found = checkpoints.load(path, ["algo", "environments"])
    assert set(found) == {"algo", "environments"}
    assert found["environments"]["obs_stats"]["mean"].tolist() == [1, 1]
    assert older.completed(checkpoints.load(path))["environments"]["obs_stats"]["count"] == 3
    with pytest.raises(CheckpointError, match="has no part 'networks'"):
        checkpoints.load(path, ["networks"])


def test_a_part_of_its_own_comes_first(tmp_path: Path) -> None:
    state = {"environments": {"values": np.zeros(2)}, "source": {"envs": {"values": np.ones(2)}}}
    path = checkpoints.save(tmp_path, state, 5)
    assert checkpoints.load(path, ["environments"])["environments"]["values"].tolist() == [0, 0]
    assert older.completed(checkpoints.load(path))["environments"]["values"].tolist() == [0, 0]
