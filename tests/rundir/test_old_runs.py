"""Run directories of the version before, made elsewhere by somebody else, give the numbers that it gave.

`data/runs` holds them; each one's `command.txt` says how it was begun, and a signal ended those that are preempted.
What the version before said to the questions below, in `observed`, is in `data/runs/expected.json`.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from safetensors.numpy import load_file

from rlrun import cli
from rlrun.rundir.meta import surroundings

RUNS = ROOT / "tests" / "data" / "runs"
EXPECTED: dict[str, Any] = json.loads((RUNS / "expected.json").read_text())
FURTHER = {"q_learning-frozenlake": "total_timesteps=7000", "ppo-cartpole-native": "total_timesteps=768"}  # finished


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_old_run_gives_the_same_numbers(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / name
    shutil.copytree(RUNS / name, run, symlinks=True)
    found, expected = observed(run, capsys), EXPECTED[name]
    meta = json.loads((RUNS / name / "meta.json").read_text())
    for file in ("metrics.csv", "eval.csv"):  # there may be more columns by now
        found[file] = [{key: row[key] for key in expected[file][0]} for row in found[file]]
    assert found.keys() == expected.keys()
    for what in expected:
        if numerics(meta) == numerics(surroundings()):
            assert found[what] == expected[what], what
        else:
            assert_close(found[what], expected[what], what)


def observed(run: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the commands say to a run, which goes on to its end meanwhile."""
    found: dict[str, Any] = {}
    for ckpt in ("best", "last"):
        found[f"eval {ckpt}"] = evaluation(run, f"ckpt={ckpt}", "episodes=5")
    found["eval stochastic"] = evaluation(run, "policy=stochastic", "episodes=3")
    capsys.readouterr()
    if "q_learning" in run.name:
        assert cli.main(["inspect", str(run), "picture=false"]) == 0
        found["inspect"] = capsys.readouterr().out.splitlines()
    assert cli.main(["resume", str(run), *filter(None, [FURTHER.get(run.name)])]) == 0
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    for file in ("metrics.csv", "eval.csv"):
        found[file] = rows(run / file)
    weights = load_file(run / "checkpoints" / "last" / "algo.safetensors")
    found["weights"] = {name: float(array.astype(float).sum()) for name, array in sorted(weights.items())}
    return found


def evaluation(run: Path, *words: str) -> dict[str, list[float]]:
    """Returns and lengths of the episodes of an evaluation."""
    assert cli.main(["eval", str(run), *words]) == 0
    newest = max((run / "evaluations").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    report = json.loads(newest.read_text())
    return {name: report[name] for name in ("returns", "lengths")}


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file without what depends on the clock."""
    with path.open(newline="") as file:
        return [{key: cell for key, cell in row.items() if "time" not in key} for row in csv.DictReader(file)]


def numerics(meta: dict[str, Any]) -> list[str]:
    """What the last digits depend on."""
    return [*(meta["versions"][package] for package in ("torch", "numpy", "gymnasium")), meta["hardware"]["cpu"]]


def assert_close(found: Any, expected: Any, where: str) -> None:
    """The same shape, and numbers that differ by rounding at most."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_close(found[key], expected[key], f"{where}: {key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{where}[{number}]")
    else:
        try:
            assert float(found) == pytest.approx(float(expected), rel=1e-2, abs=1e-3), where
        except ValueError:  # text
            assert found == expected, where
