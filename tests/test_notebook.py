"""A notebook: train, look at the numbers, load the policy, use it; and the words that describe no run."""

from __future__ import annotations

import threading
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import rlrun
from rlrun.errors import ConfigError

SMALL = ["+smoke=on", "logger.console=off", "logger.tensorboard=false"]


def test_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [rlrun.train(["algo=q_learning", "env=cliffwalking", f"seed={seed}", *SMALL]) for seed in range(2)]

    table = rlrun.runs("outputs")
    assert table["seed"].tolist() == [0, 1]
    assert [tmp_path / name for name in table["run"]] == [run.path for run in runs]
    assert table["final_eval.mean"].tolist() == [run.results["final_eval"]["mean"] for run in runs]
    own = table.metrics["run"] == table["run"][1]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert np.array_equal(table.metrics["rollout/ep_rew_mean"][own], runs[1].metrics["rollout/ep_rew_mean"], True)

    policy, env = runs[0].load("last"), gym.make("CliffWalking-v1")
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        action, state = policy.predict(obs, deterministic=False)
        obs, _, _, _, _ = env.step(action)
    assert state is None and policy.env_steps == runs[0].results["env_steps"]
    monkeypatch.chdir(tmp_path)
    assert rlrun.load("last", "last").checkpoint.parent.parent.name == runs[1].path.name


def test_a_line_of_words_and_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\ntotal_timesteps: 40\n")
    line = f"algo=random env=toy experiment=mine {' '.join(SMALL)} 'hydra.run.dir={tmp_path}/a run'"
    with pytest.raises(ConfigError, match="mine"):
        rlrun.train(line)
    run = rlrun.train(line.replace("+smoke=on", ""), config_dirs=[str(tmp_path / "conf")])
    assert (run.path, run.results["env_steps"]) == (tmp_path / "a run", 40)


def test_in_a_thread_there_are_no_signals_and_a_run_all_the_same(tmp_path: Path) -> None:
    done: list[object] = []
    words = ["algo=random", "env=toy", *SMALL, f"hydra.run.dir={tmp_path}/run"]
    thread = threading.Thread(target=lambda: done.append(rlrun.train(words).results["state"]))
    thread.start()
    thread.join()
    assert done == ["finished"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-m", "seed=1,2"], "-m: is a flag of the command"),
        (["hydra.mode=MULTIRUN", "seed=1,2"], "a sweep is many runs"),
        (["algo=dqnn"], "did you mean 'dqn'?"),
        (["sweep.jobs=2"], "is for sweeps"),
        (["algo=dqn", "env=pendulum"], "these fit"),
    ],
)
def test_words_that_describe_no_run(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        rlrun.train(words)
    assert says in str(refused.value)
    assert not Path("outputs").exists()


def test_the_parts_for_a_loop_of_ones_own_are_where_one_looks() -> None:
    assert {"agents", "experience", "networks", "train"} <= set(dir(rlrun))
    assert rlrun.agents.DQNAgent.__module__ == "rlrun.agents.modules"
    assert "ExperienceSource" in dir(rlrun.experience)
    with pytest.raises(AttributeError, match="no attribute 'ExperienceSauce'"):
        _ = rlrun.experience.ExperienceSauce
