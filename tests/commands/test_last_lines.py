"""What a run says at its end, and that the command it hands on works."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from rlrun import cli


def end(words: str, run: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The last two lines of a training."""
    assert cli.main([*words.split(), "eval.episodes=2", f"hydra.run.dir={run}"]) == 0
    return capsys.readouterr().out.splitlines()[-2:]


def test_the_end_says_what_came_out_and_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "a run"  # a name that a shell would take apart
    result, following = end("algo=q_learning env=frozenlake total_timesteps=300", run, capsys)
    final = json.loads((run / "summary.json").read_text())["final_eval"]
    assert result.startswith("finished after 300 env steps in 0:00:0")
    assert result.endswith(" over 2 episodes") and f"mean {final['mean']:g}" in result.replace(".000", "")
    assert following == f"next: rlrun play {shlex.quote(str(run))}"


def test_what_cannot_be_looked_at_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (("toy", "algo=q_learning env=toy"), ("bandit", "algo=ucb env=bandit/gaussian")):
        _, following = end(f"{words} total_timesteps=50", tmp_path / name, capsys)
        assert following == f"next: rlrun eval {tmp_path / name}"
        assert cli.main([*shlex.split(following)[2:], "episodes=2"]) == 0


def test_where_nothing_is_saved_there_is_nothing_to_go_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "algo=q_learning env=frozenlake total_timesteps=50 checkpoint.enabled=false"
    assert end(words, tmp_path / "run", capsys)[-1].startswith("finished after 50 env steps")


def test_an_end_that_is_not_evaluated_has_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    end("algo=random env=frozenlake total_timesteps=50", tmp_path / "run", capsys)
    assert cli.main(["resume", run, "total_timesteps=60", "eval.episodes=0", "checkpoint.enabled=false"]) == 0
    said = capsys.readouterr().out
    assert "finished after 60 env steps" in said and "mean" not in said.splitlines()[-1]
    assert "env_state=off" not in said, "which nobody asked for"
    assert cli.main(["algo=random", "env=frozenlake", f"hydra.run.dir={run}/another", "--check"]) == 2
    assert f"would lie in the run {run}" in capsys.readouterr().err


def test_a_run_that_stops_early_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, words = tmp_path / "run", "algo=random env=cartpole total_timesteps=900 stop.mean_return=5 stop.window=3"
    result, _ = end(words, run, capsys)
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "finished" and status["env_steps"] < 900
    assert status["reason"].startswith("solved: mean return ")
    assert result.startswith(f"stopped early after {status['env_steps']} env steps in ")


@pytest.mark.usefixtures("paints")
def test_a_table_leaves_a_figure_of_its_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end("algo=q_learning env=frozenlake total_timesteps=300 eval.freq=100", tmp_path / "q", capsys)
    assert (tmp_path / "q" / "figures" / "returns.png").read_bytes().startswith(b"\x89PNG")
    end("algo=value_iteration env=frozenlake total_timesteps=20 logger.jsonl=false", tmp_path / "v", capsys)
    assert not (tmp_path / "v" / "figures").exists()
    assert "no figure: it is drawn from metrics.jsonl" in (tmp_path / "v" / "run.log").read_text()
