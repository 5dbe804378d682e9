"""What is said may be lost, on whatever stdout and stderr lead to; a run never is."""

from __future__ import annotations

import io
import json
import logging
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RLRUN, SUPPORT

from rlrun import cli
from rlrun.loggers.runlog import run_log
from rlrun.talk import Unfailing, unfailing

TRAINING = "algo=random env=cartpole total_timesteps=200 eval.episodes=2 hydra.run.dir=run".split()


class Broken(io.TextIOWrapper):
    """A stream on a full disk, or to a reader that has gone."""

    def __init__(self, error: Exception, encoding: str = "utf-8"):
        super().__init__(io.BytesIO(), encoding)
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


FULL, GONE = OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("error", [FULL, GONE, ValueError("I/O operation on closed file")])
def test_a_run_does_not_care_who_listens(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(error))
    monkeypatch.setattr(sys, "stderr", Broken(error))
    assert cli.main([*TRAINING, "imports=[unruly]"]) == 0
    assert json.loads(Path("run/status.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(("error", "code"), [(GONE, 0), (FULL, 1)])
def test_a_verb_says_whether_it_was_heard(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader that has gone has what it wanted; a full disk has not."""
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert cli.main(["list", "algo"]) == code
    assert ("No space left" in capsys.readouterr().err) == bool(code)


def test_characters_that_an_encoding_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    with unfailing() as stdout:
        print("1 ± 2")
    assert raw.getvalue() == b"1 ? 2\n"
    assert stdout.error is None
    with pytest.raises(UnicodeEncodeError):  # it is as it was
        print("±")


def test_the_streams_are_put_back() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), unfailing():
        assert isinstance(sys.stdout, Unfailing)
        with unfailing() as inner:
            assert inner is sys.stdout
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&- <&-", "| true", "> /dev/full", "2> /dev/full"])
def test_a_command_with_nobody_to_talk_to(redirection: str) -> None:
    code = subprocess.run(
        ["bash", "-c", f"{' '.join(RLRUN)} list algo {redirection}; exit ${{PIPESTATUS[0]}}"]
    ).returncode
    assert code == (1 if redirection == "> /dev/full" else 0)


@pytest.mark.parametrize("vector", ["in_process", "subprocess"])
def test_an_environment_may_talk_to_nobody(vector: str, folder: Path) -> None:
    training = "algo=random imports=[unruly] env.id=Unruly-v0 env.kwargs.what=talk total_timesteps=60 eval.freq=0"
    command = f"{' '.join(RLRUN)} {training} env.vector={vector} hydra.run.dir=run > /dev/full"
    paths = os.pathsep.join([str(SUPPORT), os.environ["PYTHONPATH"]])
    code = subprocess.run(["bash", "-c", command], env={**os.environ, "PYTHONPATH": paths}).returncode
    assert code == 0
    assert Path("happened").exists()


def test_a_log_that_cannot_be_written_is_one_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("rlrun.files.open_to_append", lambda path: os.open("/dev/full", os.O_WRONLY))
        with run_log(folder / "run.log"):
            for n in range(3):
                logging.getLogger("rlrun.test").info("line %d", n)
    captured = capsys.readouterr()
    assert captured.out == "line 0\nline 1\nline 2\n"
    assert captured.err.count("\n") == 1
    assert "run.log: cannot be written" in captured.err

    with run_log(folder / "missing" / "run.log"):
        logging.getLogger("rlrun.test").info("still here")
    assert capsys.readouterr().out == "still here\n"


def test_nobody_needs_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert cli.main(["algo=dqn", "env=cartpole", "+smoke=on", "logger.tensorboard=false", "hydra.run.dir=run"]) == 0
    assert str(os.getuid()) in os.environ["TORCHINDUCTOR_CACHE_DIR"]
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
