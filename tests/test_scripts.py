"""The scripts still run: the benchmark against today's package, and what the set-up says where it cannot help."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import benchmark
import gpu_check
import kill_and_resume
import pytest
import torch
from conftest import ROOT

from rlrun.sweeps import pool


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_the_profile_accounts_for_the_whole_loop(algo: str, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    command = [sys.executable, ROOT / "scripts" / "bench.py", "--case", "profile", "--algo", algo, "--steps", "2048"]
    subprocess.run([*command, "--json", out], check=True, stdout=subprocess.DEVNULL)
    (measured,) = json.loads(out.read_text())["measurements"]
    shares = measured["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0, "a part of the loop is no longer where the clocks look for it"
    assert shares["update"] == max(shares.values())


def test_an_old_python_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.9.2' || exit 1\n")
    old.chmod(0o755)
    refused = subprocess.run(
        [ROOT / "scripts" / "run"], env={**os.environ, "PYTHON": str(old)}, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "Python 3.9.2" in refused.stderr


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports one of the examples, which are short enough to be read."""
    monkeypatch.syspath_prepend(ROOT / "scripts" / "examples")

    def load(name: str) -> ModuleType:
        module = importlib.import_module(name)
        assert len(Path(module.__file__ or "").read_text().splitlines()) < 60
        return module

    return load


def test_the_examples_of_own_loops_run(example: Callable[[str], ModuleType]) -> None:
    dqn = example("cartpole_dqn")
    assert dqn.main(max_steps=200) == dqn.main(max_steps=200) > 8  # same seed, same loop
    assert example("cartpole_a2c").main(max_steps=1000) > 8
    assert example("own_loop").main(rounds=3, envs=4) > 8


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("own_torso", "algo=dqn env=cartpole network.torso={_target_:own_torso.Residual,width:8} network.hidden=[]"),
        ("own_lstm", "imports=[own_lstm] algo=ppo env=cartpole_no_velocity network=own_lstm network.units=8"),
        ("own_lstm", "imports=[own_lstm] experiment=genrl_custom_policy network=own_lstm network.hidden=[8]"),
        ("own_lstm", "imports=[own_lstm] algo=dqn env=cartpole_no_velocity network=own_lstm network.units=8"),
    ],
)
def test_the_examples_of_own_networks_train(
    module: str, words: str, example: Callable[[str], ModuleType], rlrun: Callable[..., Any]
) -> None:
    example(module)
    rlrun(*words.split(), "+smoke=on", "hydra.run.dir=run")
    assert "over 2 episodes" in rlrun("eval", "run", "episodes=2").stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_examples_of_own_loops_learn(seed: int, example: Callable[[str], ModuleType]) -> None:
    """A random policy lasts some 22 steps."""
    assert example("cartpole_dqn").main(seed) > 150
    assert example("cartpole_a2c").main(seed) > 200
    assert example("own_loop").main(seed) > 100


STAND_IN = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file

mode, *words = sys.argv[1:]
resumes = "resume" in words
run = Path(words[-1].removeprefix("hydra.run.dir="))
if words[0] == "count":
    Path(os.environ["FUSE_LOG"]).write_text(json.dumps({"claim": 5, "sweep": 9}))
if ":" in words[0]:
    run.mkdir(exist_ok=True)
    if mode == "litters":
        Path(os.environ["TMPDIR"], "pymp-x").mkdir(exist_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)
if resumes and mode == "stuck":
    sys.exit(2)
(run / "checkpoints" / "last").mkdir(parents=True)
for name in ("metrics.csv", "eval.csv"):
    (run / name).write_text("env_steps,loss\\n100,0.5\\n")
weight = np.ones(3) + (resumes and mode == "drifts")
save_file({"w": weight}, run / "checkpoints" / "last" / "algo.safetensors")
"""


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("sound", "3 kills in 1 runs: 1 identical, 0 different, 0 dead ends"),
        ("drifts", "3 kills in 1 runs: 0 identical, 1 different, 0 dead ends"),
        ("litters", "3 kills in 1 runs: 0 identical, 1 different, 0 dead ends"),
        ("stuck", "3 kills in 1 runs: 0 identical, 0 different, 1 dead ends"),
    ],
)
def test_kill_and_resume_sees_what_is_wrong(
    mode: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a program in the place of rlrun that is killed and resumes as it is told."""
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    for command in ("RLRUN", "FUSE"):
        monkeypatch.setattr(kill_and_resume, command, [sys.executable, str(stand_in), mode])
    code = kill_and_resume.main(["--kills", "3", "--phases", "claim,sweep", "algo=x"])
    assert capsys.readouterr().out.strip().split("\n")[-1] == said
    assert code == int(mode != "sound")


JOB = """
import sys
from rlrun.rundir.layout import RunDir

given = dict(word.split("=", 1) for word in sys.argv[2:])
seed, wanted = int(given["seed"]), given["total_timesteps"]
run = RunDir.create(given["hydra.run.dir"], {"config.yaml": f"env: {{id: Fake-v{wanted}}}"})
if wanted == "2" and seed == 1:
    run.set_status("failed", reason="so it was told")
    sys.exit(1)
lines = [f"{step},{seed * step},{-step}" for step in range(1, 1001)]
run.metrics_csv.write_text("\\n".join(["env_steps,rollout/ep_rew_mean,other", *lines]))
run.eval_csv.write_text(f"env_steps,kind,mean\\n1000,final,{seed}")
evaluation = {"env_steps": 1000, "mean": seed, "std": 0.5, "episodes": 2}
run.write_json(run.summary, {"final_eval": evaluation, "wall_seconds": 90, "state": "finished"})
run.set_status("finished", env_steps=1000)
"""


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the benchmark on a list of so many seeds and these lines, with jobs that take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results")
    job = tmp_path / "job.py"
    job.write_text(JOB)
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, str(job)])

    def run(seeds: int, lines: dict[str, str], *words: str) -> int:
        Path("tiny.yaml").write_text(json.dumps({"seeds": seeds, "lines": lines}))
        return benchmark.main(["tiny.yaml", *words])

    return run


def test_a_benchmark_runs_what_is_missing_and_nothing_twice(
    listed: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = "algo=random env=identity total_timesteps=1", "algo=random env=identity total_timesteps=2"
    assert listed(1, {"one": one}) == 0
    (status,) = Path("outputs/benchmark/tiny/one/seeds_0_0").glob("*/status.json")
    first = status.stat().st_mtime_ns
    assert listed(2, {"one": one}) == 0
    assert status.stat().st_mtime_ns == first
    assert sorted(path.name for path in Path("outputs/benchmark/tiny/one").iterdir()) == ["seeds_0_0", "seeds_1_1"]
    said = capsys.readouterr().out
    assert "| one | Fake-v1 | 2 | 0.5000 | 0.5000 |" in said and "| 1,000 | 0:01:30 |" in said
    assert f"rlrun -m {one} seed=0,1" in said

    assert listed(2, {"one": one, "two": other}) == 1, "a run failed"
    assert "| two | Fake-v2 | 1 of 2 |" in capsys.readouterr().out
    rows = benchmark.read_rows(Path("results/tiny.csv"))
    assert {row.seed for row in rows if row.experiment == "one"} == {0, 1}
    curve = [(row.step, row.value) for row in rows if row.metric == "rollout/ep_rew_mean" and row.seed == 1]
    assert len(curve) == benchmark.POINTS and curve[0] == (1, 1) and curve[-1] == (1000, 1000)
    assert [row.value for row in rows if row.metric == "final_eval/mean"] == [0, 1, 0]
    assert benchmark.curves(rows)["Fake-v1"]["one"][1] == curve
    assert Path("results/tiny.png").exists()

    assert listed(2, {"one": one, "two": other}, "--report") == 0
    assert benchmark.read_rows(Path("results/tiny.csv")) == rows
    assert listed(2, {"one": other}) == 2
    assert "was trained by other words" in capsys.readouterr().err


def test_what_failed_is_named_and_what_a_signal_ended_begins_nothing_more(
    listed: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "algo=random env=identity total_timesteps=2"
    assert listed(2, {"a": fails}) == 1
    capsys.readouterr()
    assert listed(2, {"a": fails}) == 1
    assert (
        "1 of 2 have failed: rlrun resume outputs/benchmark/tiny/a/seeds_0_1 retry=failed\n" in capsys.readouterr().err
    )
    assert listed(3, {"a": fails}) == 1, "of a seed that is new nobody knows whether it fails"
    assert Path("outputs/benchmark/tiny/a/seeds_2_2").is_dir()
    begun: list[str] = []
    monkeypatch.setattr(benchmark.Line, "train", lambda line, jobs: begun.append(line.name) or 130)
    assert listed(1, {"b": fails, "c": fails}) == 130
    assert begun == ["b"]


def test_a_folder_that_an_ended_benchmark_left_empty_is_no_obstacle(listed: Callable[..., int]) -> None:
    Path("outputs/benchmark/tiny/a/seeds_0_0").mkdir(parents=True)
    assert listed(1, {"a": "algo=random env=identity total_timesteps=1"}) == 0


@pytest.mark.parametrize(
    ("seeds", "lines", "says"),
    [
        ([1, 1], {"a": "algo=dqn"}, "is no list"),
        ([1, "b"], {"a": "algo=dqn"}, "is no list"),
        (True, {"a": "algo=dqn"}, "is no list"),
        (-1, {"a": "algo=dqn"}, "is no list"),
        (1, {}, "is no list"),
        (1, {"a": None}, "line a: there are no words such as"),
        (1, {"a": 5}, "line a: there are no words such as"),
        (1, {"a": "algo='dqn"}, "line a: No closing quotation"),
        (1, {"a|b": "algo=dqn"}, r"line a\|b: a name is of"),
        (1, {"../a": "algo=dqn"}, "line ../a: a name is of"),
        (1, {"a": "algo=dqn seed=3"}, "seed=3 cannot stand in a line"),
        (1, {"a": "algo=dqn sweep.jobs=2"}, "sweep.jobs=2 cannot stand in a line"),
        (1, {"a": "algo=dqn,ppo"}, "algo=dqn,ppo makes several of it"),
    ],
)
def test_what_is_no_list_is_refused_before_anything_runs(
    seeds: Any, lines: Any, says: str, listed: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(seeds, lines) == 2
    assert re.match(f"benchmark: tiny.yaml.*{says}", capsys.readouterr().err)
    assert not Path("outputs").exists()


def test_a_word_that_no_line_has_is_told_of(listed: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(1, {"a": "algo=dqn", "b": "algo=ppo"}, "--only", "z") == 2
    assert "no line has z in its name: a, b" in capsys.readouterr().err


def test_statistics_over_seeds() -> None:
    """The mean of the middle half, and where it lies as long as the seeds are drawn anew, with replacement."""
    assert benchmark.iqm([0, 1, 2, 300]) == 1.5
    low, high = map(float, benchmark.interval([0.0, 1.0, 2.0, 3.0]).split(" to "))
    assert 0 <= low < 1 and 2 < high <= 3
    assert benchmark.interval([2.0]) == "-"


def test_a_gpu_is_checked_or_missed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is clocked is what comes behind the first updates; a run that fails or takes too long is a line."""
    if not torch.cuda.is_available():
        assert gpu_check.main([]) == 2
        assert "this machine has no GPU that torch can use" in capsys.readouterr().err
    assert gpu_check.main(["--only", "algo=none"]) == 2
    assert "no run has algo=none in its words" in capsys.readouterr().err
    words = "algo=dqn env=cartpole device=cpu device.compile=false +smoke=on"
    row = gpu_check.measure(words.split(), 0.1)
    assert row["updates_per_s"] > 0 and 0 < row["steps_per_s"] < 10 * row["updates_per_s"]
    said = {"eager": row, "compiled": {"failed": "not done after 1 s"}}
    monkeypatch.setattr(
        gpu_check, "measured", lambda words, *_: said["eager" if "compile=false" in words else "compiled"]
    )
    monkeypatch.setitem(gpu_check.RUNS, "SAC, Pendulum", ("algo=none", "none", ""))
    assert gpu_check.main(["--device", "cpu"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| DQN, CartPole | eager |") for line in lines) == 1
    assert "| DQN, CartPole | compiled | not done after 1 s | - | - | - |" in lines
    assert "| SAC, Pendulum | - | there is no algo=none | - | - | - |" in lines


def test_gpu_tests_that_fail_are_told_of_by_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU that is none, and a program in the place of pytest."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(gpu_check, "measured", lambda *_: {"failed": "not asked"})
    monkeypatch.setattr(gpu_check, "missing", lambda *_: "left out")
    said = subprocess.CompletedProcess([], 1, "FAILED tests/test_x.py::test_y\n1 failed in 0.1s\n", "")
    monkeypatch.setattr(gpu_check.subprocess, "run", lambda *_, **__: said)
    assert gpu_check.main([]) == 1
    assert "tests: FAILED tests/test_x.py::test_y\n1 failed in 0.1s" in capsys.readouterr().out
