"""Run directories: claiming, status that is true whoever dies, whole files, readable errors."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlrun
from rlrun import rundir
from rlrun.errors import ConfigError, RlrunError
from rlrun.rundir import RunDir, command_line, letters

SEVERAL = """
import sys, time
from pathlib import Path
from rlrun.errors import RlrunError
from rlrun.rundir import RunDir

root, me, other, rounds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
for i in range(rounds):
    (root / f"ready-{i}-{me}").touch()
    while not (root / f"ready-{i}-{other}").exists():
        time.sleep(0)
    try:
        ACTION
        print(i, flush=True)
    except RlrunError:
        pass
sys.stdin.read()
"""


def python(code: str, *args: object, **options: Any) -> subprocess.Popen[str]:
    """A Python process that can import rlrun."""
    env = os.environ | {"PYTHONPATH": str(Path(rlrun.__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)


def both_at_once(action: str, root: Path, rounds: int) -> list[int]:
    """The rounds won by either of two processes that act at the same instant, both living until the last round."""
    code = SEVERAL.replace("ACTION", action)
    pair = [python(code, root, me, other, rounds) for me, other in ("ab", "ba")]
    while not all((root / f"ready-{rounds - 1}-{me}").exists() for me in "ab"):
        assert all(process.poll() is None for process in pair)
    outputs = [process.communicate()[0] for process in reversed(pair)]
    return sorted(int(line) for output in outputs for line in output.split())


def edit_status(run: RunDir, **changes: Any) -> None:
    run.status.write_text(json.dumps(json.loads(run.status.read_text()) | changes))


# Claiming a directory.


def test_create_makes_the_parents_and_claims_with_a_status(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "cartpole" / "dqn" / "run")
    status = run.read_status()
    assert os.listdir(run.path) == ["status.json"]
    assert {key: status[key] for key in ("state", "env_steps", "attempts", "pid", "host")} == {
        "state": "running",
        "env_steps": 0,
        "attempts": 0,
        "pid": os.getpid(),
        "host": platform.node(),
    }


def test_layout(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in vars(run).values() if path != tmp_path}
    assert names == {
        *("config.yaml", "overrides.yaml", "command.txt", "meta.json", "status.json", "metrics.csv", "metrics.jsonl"),
        *("tb", "eval.csv", "checkpoints", "videos", "run.log", "summary.json"),
    }


@pytest.mark.parametrize("name", ["config.yaml", "status.json"])
def test_create_refuses_a_directory_that_holds_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ConfigError) as caught:
        RunDir.create(tmp_path)
    assert caught.value.key == "hydra.run.dir"
    assert f"rlrun resume {tmp_path}" in str(caught.value)
    assert os.listdir(tmp_path) == [name]


def test_create_claims_a_directory_that_hydra_made(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "cli.log").touch()
    assert RunDir.create(tmp_path).status.is_file()


def test_create_refuses_a_directory_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir: .* is not empty: it has thesis\.tex"):
        RunDir.create(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_create_says_why_a_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in {"file": "Not a directory", "file/run": "File exists", "file/run/0": "Not a directory"}.items():
        with pytest.raises(ConfigError, match=rf"hydra\.run\.dir: .*{path} cannot be made: {reason}: {tmp_path}/file"):
            RunDir.create(tmp_path / path)


@pytest.mark.parametrize("made_by_hydra", [False, True])
def test_one_of_two_processes_gets_the_directory(tmp_path: Path, made_by_hydra: bool) -> None:
    rounds = 30
    if made_by_hydra:
        for i in range(rounds):
            (tmp_path / f"run{i}" / ".hydra").mkdir(parents=True)
    assert both_at_once('RunDir.create(root / f"run{i}")', tmp_path, rounds) == list(range(rounds))


def test_one_of_many_threads_gets_the_directory(tmp_path: Path) -> None:
    barrier, won = threading.Barrier(8), []

    def claim() -> None:
        barrier.wait()
        with contextlib.suppress(ConfigError):
            won.append(RunDir.create(tmp_path / "run"))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert os.listdir(tmp_path / "run") == ["status.json"]


# Opening one.


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "outputs" / "cartpole" / "dqn" / "2026-01-02_s0_abcd")
    run.config.write_text("seed: 0\n")
    run.checkpoints.mkdir()
    (run.checkpoints / "step_000000100").mkdir()
    (run.checkpoints / "last").symlink_to("step_000000100")
    return run


@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/last", "checkpoints/step_000000100"])
def test_open_finds_the_run_from_its_checkpoints(run: RunDir, inside: str) -> None:
    assert RunDir.open(run.path / inside).path == run.path


def test_open_names_the_missing_file(run: RunDir) -> None:
    run.config.unlink()
    with pytest.raises(RlrunError, match=r"it has no config\.yaml$"):
        RunDir.open(run.path)


# Status.


def test_status_keeps_what_is_not_given(run: RunDir) -> None:
    started = run.read_status()["started"]
    run.set_status("running", env_steps=500, wall_seconds=1.5)
    run.set_status("diverged", reason="train/loss is nan")
    status = run.read_status()
    assert (status["state"], status["env_steps"], status["reason"]) == ("diverged", 500, "train/loss is nan")
    assert (status["wall_seconds"], status["started"]) == (1.5, started)
    run.set_status("running")
    assert run.read_status()["reason"] == ""


def test_status_refuses_an_unknown_state(run: RunDir) -> None:
    with pytest.raises(ValueError, match="'done' is not one of running, finished"):
        run.set_status("done")


@pytest.mark.parametrize(("text", "reason"), [("", "cannot be read"), ("[1]", "not the status of a run")])
def test_unreadable_status_is_named(run: RunDir, text: str, reason: str) -> None:
    run.status.write_text(text)
    with pytest.raises(RlrunError, match=rf"status\.json: {reason}"):
        run.read_status()


def test_attempts_are_counted(run: RunDir) -> None:
    assert [run.begin_attempt() for _ in range(3)] == [1, 2, 3]
    run.set_status("preempted", env_steps=7)
    assert run.read_status()["attempts"] == 3


WORK = """
import sys
from rlrun.rundir import RunDir
RunDir(sys.argv[1]).begin_attempt()
print("working", flush=True)
sys.stdin.read()
"""


def test_a_run_is_left_alone_while_its_process_lives(run: RunDir) -> None:
    run.set_status("preempted")
    worker = python(WORK, run.path)
    assert worker.stdout and worker.stdout.readline() == "working\n"
    assert run.is_alive()
    with pytest.raises(RlrunError, match=f"process {worker.pid} is training here"):
        run.begin_attempt()
    assert run.read_status()["attempts"] == 1

    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert not run.is_alive()
    status = run.read_status()
    assert status["state"] == "failed"
    assert "ended without a word" in status["reason"]
    worker.communicate()
    assert not run.is_alive()
    assert run.begin_attempt() == 2
    assert run.read_status()["state"] == "running"


def test_a_process_that_ended_its_run_does_not_block_it(run: RunDir) -> None:
    run.begin_attempt()
    assert run.is_alive()
    run.set_status("finished")
    assert not run.is_alive()


def test_another_process_with_the_same_number_is_not_the_run(run: RunDir) -> None:
    parent = os.getppid()
    edit_status(run, pid=parent, pid_started=rundir.process_start(parent))
    assert run.is_alive()
    edit_status(run, pid_started=-1)
    assert not run.is_alive()
    assert run.begin_attempt() == 1


def test_nothing_is_said_about_processes_of_other_hosts(run: RunDir) -> None:
    edit_status(run, host="elsewhere", pid=2**22 + 1)
    assert run.read_status()["state"] == "running"
    assert not run.is_alive()


def test_one_of_two_processes_resumes(tmp_path: Path) -> None:
    rounds = 20
    for i in range(rounds):
        edit_status(RunDir.create(tmp_path / f"run{i}"), state="preempted")
    assert both_at_once('RunDir(root / f"run{i}").begin_attempt()', tmp_path, rounds) == list(range(rounds))
    assert {RunDir(tmp_path / f"run{i}").read_status()["attempts"] for i in range(rounds)} == {1}


# Files.


def test_json_is_strict_and_plain(run: RunDir) -> None:
    run.write_json(
        run.summary,
        {"a": np.float32(1.5), "b": np.array([1, 2]), "c": float("nan"), "d": (np.inf, None), "e": Path("x"), "f": "ü"},
    )

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads(run.summary.read_text(), parse_constant=refuse)
    assert data == {"a": 1.5, "b": [1, 2], "c": None, "d": [None, None], "e": "x", "f": "ü"}


def test_a_failed_write_leaves_the_old_file(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_text(run.command, "old\n")
    before = sorted(os.listdir(run.path))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run.write_text(run.command, "new\n")
    assert run.command.read_text() == "old\n"
    assert sorted(os.listdir(run.path)) == before


def test_readers_never_meet_half_a_file(run: RunDir) -> None:
    texts = ["a" * 100_000, "b" * 50_000]
    run.write_text(run.command, texts[0])

    def write() -> None:
        for text in texts * 15:
            run.write_text(run.command, text)

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(run.command.read_text())
    assert seen <= set(texts)
    assert run.command.read_text() == texts[1]


def test_files_have_the_mode_of_the_umask(run: RunDir) -> None:
    ordinary = run.path / "ordinary"
    ordinary.touch()
    assert run.status.stat().st_mode == ordinary.stat().st_mode


# What the run depended on.


def git(place: Path, *args: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *args]
    return subprocess.run(command, cwd=place, check=True, capture_output=True, text=True).stdout.strip()


def test_meta(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts: dict[str, Any] = {
        "seed": 3,
        "seeds": {"env": [5, 7]},
        "provenance": {"algo.gamma": "default"},
        "resume": "exact",
    }
    run.write_meta(**facts)
    meta = json.loads(run.meta.read_text())
    assert {key: meta[key] for key in facts} == facts
    assert meta["versions"]["python"] == platform.python_version()
    assert meta["versions"]["numpy"] == np.__version__
    assert meta["versions"]["rlrun"] == rlrun.__version__
    assert {"torch", "gymnasium", "hydra-core"} <= set(meta["versions"])
    assert meta["git"] is None
    assert meta["hardware"]["cores"] >= 1
    assert 0 < meta["hardware"]["memory_gib"] < 2**16

    (tmp_path / "file").write_text("one")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    run.write_meta(**facts)
    assert json.loads(run.meta.read_text())["git"] == commit
    (tmp_path / "file").write_text("two")
    run.write_meta(**facts)
    assert json.loads(run.meta.read_text())["git"] == f"{commit}-dirty"


def test_command_line_survives_a_shell() -> None:
    argv = ["algo=dqn", "hydra.run.dir=a b", "~tuned", "imports=[x,'y']", "seed=range(5)"]
    assert shlex.split(command_line(argv)) == ["rlrun", *argv]


def test_letters() -> None:
    drawn = {letters() for _ in range(200)}
    assert all(len(word) == 4 and word.isascii() and word.islower() for word in drawn)
    assert len(drawn) > 190  # two equal among 200 of 26^4 happen in 4 % of cases, ten practically never
