"""The scripts still run: the benchmark against today's package, and what the set-up says where it cannot help."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import kill_and_resume
import pytest
from conftest import ROOT


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
