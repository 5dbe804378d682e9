"""What an experiment, or a word, says to Hydra: it holds, or is refused in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlrun import cli
from rlrun.config.settings import REFUSED

SMOKE = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.tensorboard=false"]


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `experiment=mine`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLRUN_CONF", "conf")
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    return file


def test_an_experiment_says_where_its_run_goes(experiment: Path) -> None:
    experiment.write_text("# @package _global_\nseed: 3\nhydra:\n  run:\n    dir: kept/s${seed}\n")
    assert cli.main([*SMOKE, "experiment=mine"]) == 0
    assert json.loads(Path("kept/s3/status.json").read_text())["state"] == "finished"
    assert cli.main([*SMOKE, "experiment=mine", "hydra.run.dir=elsewhere"]) == 0  # words have the last word
    assert Path("elsewhere/status.json").exists()


ASKED = {
    "job.chdir": "true",
    "job.env_set": "{A: 1}",
    "verbose": "true",
    "callbacks": "{mine: {_target_: a.B}}",
    "job_logging": "{version: 1, root: {level: DEBUG}}",
    "hydra_logging": "{root: {level: DEBUG}}",
    "output_subdir": "elsewhere",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_would_do_nothing_is_refused(key: str, experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *nodes, leaf = ["hydra", *key.split(".")]
    opened = "".join(f"{'  ' * depth}{node}:\n" for depth, node in enumerate(nodes))
    experiment.write_text(f"# @package _global_\n{opened}{'  ' * len(nodes)}{leaf}: {ASKED[key]}\n")
    assert cli.main([*SMOKE, "experiment=mine"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rlrun: hydra.{key}: is no setting that rlrun obeys\n") and len(said.splitlines()) == 2
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("hydra.job.chdir=true", "hydra.job.chdir"),
        ("hydra.verbose=true", "hydra.verbose"),
        ("hydra.verbose=[a,b]", "hydra.verbose"),
        ("+hydra.callbacks.mine._target_=a.B", "hydra.callbacks"),
        ("hydra/job_logging=stdout", "hydra.job_logging"),
        ("hydra/job_logging=default", "hydra.job_logging"),
        ("hydra.output_subdir=mine", "hydra.output_subdir"),
    ],
)
def test_words_that_would_do_nothing_are_refused(word: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*SMOKE, word]) == 2
    assert capsys.readouterr().err.startswith(f"rlrun: {key}: is no setting that rlrun obeys\n")


def test_settings_that_hold_are_taken(experiment: Path) -> None:
    words = ["hydra.job.chdir=false", "hydra.output_subdir=.hydra", "hydra.job.name=mine", "hydra.run.dir=run"]
    assert cli.main([*SMOKE, *words]) == 0
    assert Path("run/.hydra/config.yaml").exists()
