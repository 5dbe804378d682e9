"""The command in this process: what it answers, what it leaves behind, and with which exit code."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import yaml

from rlrun import __main__, __version__, cli
from rlrun.cli import CommandLine, take_apart
from rlrun.commands import train
from rlrun.errors import ConfigError, Interrupted
from rlrun.run import attempt

SMOKE = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.tensorboard=false"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("algo=ppo +smoke=on ~tuned", CommandLine(words=["algo=ppo", "+smoke=on", "~tuned"])),
        ("-m seed=1,2", CommandLine(words=["seed=1,2"], multirun=True)),
        ("seed=1,2 --multirun", CommandLine(words=["seed=1,2"], multirun=True)),
        ("--config-dir a seed=1 -cd b", CommandLine(words=["seed=1"], config_dirs=["a", "b"])),
        ("--config-dir=a", CommandLine(config_dirs=["a"])),
        ("eval runs/x ckpt=best -h", CommandLine(words=["eval", "runs/x", "ckpt=best"], help=True)),
        ("--cfg job -p algo seed=1", CommandLine(words=["seed=1"], hydra=["--cfg", "job", "--package", "algo"])),
        ("--info defaults seed=1", CommandLine(words=["seed=1"], hydra=["--info", "defaults"])),
        ("--info seed=1", CommandLine(words=["seed=1"], hydra=["--info"])),
        ("--lr 3e-4", CommandLine(words=["3e-4"], flags={"--lr": "3e-4"})),
        ("--version", CommandLine(version=True)),
    ],
)
def test_flags_are_sorted_from_words(words, line):
    assert take_apart(words.split()) == line


def test_a_flag_without_its_value_is_refused():
    with pytest.raises(ConfigError, match="--config-dir: needs a value"):
        take_apart(["--config-dir"])


def test_ctrl_c_before_anything_is_begun_is_one_line(monkeypatch, capsys):
    def pressed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "dispatch", pressed)
    assert cli.main(["algo=dqn"]) == 130
    assert capsys.readouterr().err == "rlrun: stopped by SIGINT\n"


def test_ctrl_c_while_the_command_is_imported_is_that_line_too(monkeypatch, capsys):
    class Pressed:
        def find_spec(self, name, *args):
            if name == "rlrun.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "rlrun.cli")
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])
    assert __main__.main() == 130
    assert capsys.readouterr().err == "rlrun: stopped by SIGINT\n"


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rlrun {__version__}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evl", "x"], "did you mean 'eval'?"),
        (["train", "algo=dqn"], "leave it out"),
        (["help"], "write rlrun --help"),
        (["eval"], "needs the directory of a run"),
        (["resume", "nowhere"], "there is no such run directory"),
        (["--total-timesteps", "100"], "did you mean total_timesteps=100?"),
        (["--lr=3e-4"], "did you mean algo.learning_rate=3e-4?"),
        (["--algo", "dqn"], "did you mean algo=dqn?"),
        (["algo=ppo", "--nproc-per-node=2"], "write torchrun --nproc-per-node=N -m rlrun"),
        (["list", "algos"], "did you mean 'algo'?"),
        (["algo.gama=1"], "did you mean algo.gamma?"),
        (["algo=dqn", "env=pendulum"], "these fit"),
        (["algo.batch_size=2000", "buffer.capacity=1000"], "algo.batch_size"),
        (["algo.munchausen=true"], "write algo.double=false"),  # tuned values have switched it on
        (["algo=q_learning", "env=taxi", "network=mlp"], "network: q_learning builds none"),
        (["-m", "seed=1,2", "algo=dqn,dqnn"], "did you mean 'dqn'?"),
        (["-m", "seed=1,2", "algo.gama=1"], "did you mean algo.gamma?"),
        (["-m", "algo.gamma=0.5,x"], "'x' is not a number"),
        (["--cfg", "job", "algo.gama=1"], "did you mean algo.gamma?"),
        (["--config-dir", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_a_mistake_costs_exit_code_2_a_few_lines_and_no_directory(words, says, folder, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) <= 5 and "Traceback" not in error
    assert list(folder.iterdir()) == []


def test_a_bug_costs_exit_code_1_and_one_line(monkeypatch, capsys):
    def broken(words, argv):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(train, "train", broken)
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "rlrun: ZeroDivisionError: division by zero\nRLRUN_DEBUG=1 shows the traceback\n"
    monkeypatch.setenv("RLRUN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main([])


def test_hydra_helps_and_says_nothing_else(capsys):
    assert cli.main(["--hydra-help"]) == 0
    shown = capsys.readouterr()
    assert "Hydra (" in shown.out and shown.err == ""


def test_hydra_shows_the_config(capsys):
    assert cli.main(["--cfg", "job", "-p", "algo", "algo=ucb"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["name"] == "ucb"


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_records_what_it_was_and_can_be_evaluated_and_resumed(folder, capsys):
    run = folder / "run"
    assert cli.main([*SMOKE, "seed=3", f"hydra.run.dir={run}"]) == 0
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert (saved["seed"], saved["algo"]["name"], saved["env"]["id"]) == (3, "q_learning", "FrozenLake-v1")
    assert yaml.safe_load((run / "overrides.yaml").read_text()) == [*SMOKE, "seed=3"]
    assert (run / "command.txt").read_text() == f"rlrun {' '.join(SMOKE)} seed=3 hydra.run.dir={run}\n"
    assert {path.name for path in (run / ".hydra").iterdir()} == {"config.yaml", "overrides.yaml", "hydra.yaml"}
    assert json.loads((run / "meta.json").read_text())["provenance"]["seed"] == "command line"
    assert status(run)["state"] == "finished" and status(run)["env_steps"] == 500

    capsys.readouterr()
    assert cli.main(["eval", str(run), "episodes=3", "json=true", "ckpt=last"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["episodes"] == 3 and report["checkpoint"] == "step_000000500"
    assert cli.main(["eval", str(run), "episodes=3", "ckpt=500"]) == 0
    first, file = capsys.readouterr().out.splitlines()
    assert first.startswith(f"mean {report['mean']:.4g}"[:8]) and first.endswith("over 3 episodes")
    assert len(json.loads(Path(file).read_text())["returns"]) == 3

    assert cli.main(["resume", str(run)]) == 0
    assert "finished at 500 env steps" in capsys.readouterr().out
    assert cli.main(["resume", str(run), "total_timesteps=700", "eval.episodes=1"]) == 0
    out = capsys.readouterr().out
    assert "total_timesteps: 500 -> 700" in out and "eval.episodes: 2 -> 1" in out
    assert status(run)["env_steps"] == 700 and status(run)["attempts"] == 2
    assert yaml.safe_load((run / "config.yaml").read_text())["total_timesteps"] == 700


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["resume", "run", "algo.gamma=0.5"], "cannot change when a run is resumed"),
        (["resume", "run", "eval.episods=5"], "did you mean eval.episodes?"),
        (["resume", "run", "total_timesteps=many"], "'many' is not a whole number"),
        (["eval", "run", "episods=5"], "did you mean episodes?"),
        (["eval", "run", "episodes=0"], "must be in [1, 1000000]"),
        (["eval", "run", "ckpt=newest"], "choose best, last or a number"),
        (["eval", "run", "ckpt=7"], "no checkpoint 7; there are steps 500"),
        (["eval", "run", "policy=gredy"], "did you mean 'greedy'?"),
        ([*SMOKE, "hydra.run.dir=run"], "already holds a run"),
    ],
)
def test_what_cannot_be_done_with_a_run_is_refused(words, says, finished, monkeypatch, capsys):
    monkeypatch.chdir(finished.parent)
    before = status(finished)
    assert cli.main(words) == 2
    assert says in capsys.readouterr().err
    assert status(finished) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert cli.main([*SMOKE, f"hydra.run.dir={run}"]) == 0
    return run


def test_an_interrupted_run_says_how_to_go_on(folder, monkeypatch, capsys):
    def interrupted(run, callbacks):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(attempt, "loop", interrupted)
    assert cli.main([*SMOKE, "hydra.run.dir=run"]) == 75
    assert "rlrun resume run" in capsys.readouterr().out
    assert status(folder / "run")["state"] == "preempted"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert cli.main(["resume", "run"]) == 0
    assert status(folder / "run")["env_steps"] == 500


def test_a_crash_is_one_line_on_the_console_and_a_traceback_in_the_log(folder, monkeypatch, capsys):
    def broken(run, callbacks):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(attempt, "loop", broken)
    assert cli.main([*SMOKE, "hydra.run.dir=run"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert "Traceback" in (folder / "run" / "run.log").read_text()
    assert status(folder / "run")["state"] == "failed"
    assert "ZeroDivisionError" in status(folder / "run")["reason"]
