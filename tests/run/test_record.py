"""Whatever ends a run is recorded in its directory: the state and a few lines in status.json, all of it in run.log."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rlrun import cli
from rlrun.errors import LONGEST, Interrupted
from rlrun.loggers.runlog import run_log
from rlrun.run import build
from rlrun.run.record import Record
from rlrun.rundir.layout import RunDir

TRAINING = "algo=random imports=[unruly] env.id=Unruly-v0 total_timesteps=60 eval.freq=40 eval.episodes=2".split()
QUIET = "checkpoint.freq=20 logger.tensorboard=false logger.console=off hydra.run.dir=disturbed".split()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*words: str) -> int:
    return cli.main([*TRAINING, *QUIET, *words])


def unruly(what: str, where: str = "step", when: int = 40) -> list[str]:
    return [f"env.kwargs.what={what}", f"env.kwargs.where={where}", f"env.kwargs.when={when}"]


def status() -> dict[str, Any]:
    return json.loads(Path("disturbed/status.json").read_text())


def log() -> str:
    return Path("disturbed/run.log").read_text()


@pytest.mark.parametrize("vector", ["in_process", "subprocess"])
def test_an_environment_that_crashes_is_in_the_log_with_its_line(vector: str, capsys: Any) -> None:
    assert train(*unruly("crash"), f"env.vector={vector}") == 1
    said = capsys.readouterr().err
    assert "ValueError: bang" in said
    assert 1 <= said.strip().count("\n") + 1 <= 5
    assert (status()["state"], status()["saved"]) == ("failed", 40)
    assert status()["env_steps"] in (40, 60)  # children collect a little further
    assert "ValueError: bang" in status()["reason"]
    assert 'unruly.py", line' in log()
    assert "raise ValueError" in log()
    assert said.split("\n")[0].removeprefix("rlrun: ") in log()


@pytest.mark.parametrize("what", ["leave", "interrupt", "close_generator", "babble"])
@pytest.mark.parametrize(("where", "when"), [("step", 40), ("reset", 20)])
def test_no_environment_ends_a_run_unnoticed(what: str, where: str, when: int, capsys: Any) -> None:
    assert train(*unruly(what, where, when)) == 1
    said = capsys.readouterr().err
    assert said
    assert len(said) < LONGEST + 100
    assert "\x1b" not in said + status()["reason"] + log()
    assert len(log()) < 20_000
    assert status()["state"] == "failed"
    assert 'unruly.py", line' in log()
    assert cli.main(["resume", "disturbed"]) == 0
    assert status()["state"] == "finished"


def test_a_run_that_failed_before_its_first_checkpoint_begins_again() -> None:
    alone = ["checkpoint.env_state=off", "env.action_masks=false"]  # no twin crashes in its place
    assert train(*unruly("crash", "reset", 0), *alone) == 1
    assert (status()["state"], status()["saved"]) == ("failed", 0)
    assert cli.main(["resume", "disturbed"]) == 0
    assert (status()["state"], status()["attempts"]) == ("finished", 2)


@pytest.mark.parametrize("kind", ["logger", "checkpoint", "eval"])
def test_what_fails_while_a_run_is_built(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    make = build.make

    def full(of: str, *args: Any, **parts: Any) -> Any:
        if of == kind:
            raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
        return make(of, *args, **parts)

    with monkeypatch.context() as patch:
        patch.setattr(build, "make", full)
        assert train() == 1
    assert "No space left on device" in capsys.readouterr().err
    assert status()["state"] == "failed"
    assert "No space left on device" in status()["reason"]
    assert "Traceback" in log()
    assert cli.main(["resume", "disturbed"]) == 0


def test_what_fails_while_a_state_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(*unruly("crash")) == 1
    with monkeypatch.context() as patch:
        patch.setattr("rlrun.run.run.Run.load_state_dict", lambda run, state: 1 / 0)
        assert cli.main(["resume", "disturbed"]) in (1, 2)
    assert status()["state"] == "failed"
    assert "ZeroDivisionError" in log()
    assert cli.main(["resume", "disturbed"]) == 0


def test_a_mistake_before_anything_is_claimed_leaves_nothing() -> None:
    assert train(*unruly("leave", "init", 0)) == 1
    assert not Path("disturbed").exists()


def test_a_run_that_is_solved_says_so_in_its_status() -> None:
    assert train("stop.mean_return=15", "stop.window=1") == 0
    assert status()["state"] == "finished"
    assert status()["reason"] == "solved: mean return 20.00 at env step 20"


def test_loggers_are_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr("rlrun.loggers.Loggers.close", lambda loggers: closed.append(loggers))
    assert train(*unruly("leave")) == 1
    assert len(closed) == 1


def test_where_a_run_hangs_is_logged_though_nobody_hears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(*args: Any) -> int:
        raise BrokenPipeError

    run_dir = RunDir.create(tmp_path / "run", {"config.yaml": "seed: 0\n"})
    run_dir.begin_attempt()
    monkeypatch.setattr(os, "write", deaf)
    with run_log(run_dir.log, "off"):
        Record(run_dir).last_words(Interrupted(signal.SIGTERM), "in the middle of nowhere")
    assert "in the middle of nowhere" in run_dir.log.read_text()
    assert run_dir.read_status()["state"] == "preempted"
