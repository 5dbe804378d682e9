"""Run directories: claiming, status that is true whoever dies, whole files, readable errors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlrun
from rlrun.commands.train import command_line
from rlrun.errors import ConfigError, RlrunError
from rlrun.files import letters
from rlrun.rundir import lease, processes
from rlrun.rundir.layout import RunDir
from rlrun.rundir.meta import surroundings

SEVERAL = """
import sys, time
from pathlib import Path
from rlrun.errors import RlrunError
from rlrun.rundir.layout import RunDir

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
    assert os.listdir(run.path.parent) == ["run"]
    assert {key: status[key] for key in ("state", "env_steps", "attempts", "pid", "host")} == {
        "state": "running",
        "env_steps": 0,
        "attempts": 1,
        "pid": os.getpid(),
        "host": platform.node(),
    }


def test_layout(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in vars(run).values() if path != tmp_path}
    assert names == {
        *("config.yaml", "overrides.yaml", "command.txt", "meta.json", "status.json", "metrics.csv", "metrics.jsonl"),
        *("tb", "eval.csv", "checkpoints", "ranks", "videos", "run.log", "summary.json", "replay.bin", "tracker.json"),
    }


def test_create_refuses_a_directory_that_holds_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        RunDir.create(tmp_path)
    assert caught.value.key == "hydra.run.dir"
    assert f"rlrun resume {tmp_path}" in str(caught.value)
    assert os.listdir(tmp_path) == ["config.yaml"]


CONTENT = {"config.yaml": "seed: 0\n", ".hydra/config.yaml": "seed: 0\n", "meta.json": "{}", "command.txt": "rlrun\n"}


def files_in(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("exists", [False, True])
def test_a_kill_while_a_directory_is_claimed_leaves_nothing_or_a_run(tmp_path: Path, exists: bool) -> None:
    """Killed before each call that changes the disk: the same claim succeeds then, or a whole run can be resumed."""
    target = tmp_path / "runs" / "one"
    for count in range(1000):
        if exists:
            target.mkdir(parents=True)
        killed = claim_in_a_child(target, count)
        if RunDir(target).config.exists():
            assert RunDir.open(target).begin_attempt() == 2
        else:
            assert killed
            RunDir.create(target, CONTENT)
        assert files_in(target) - {".lock"} == CONTENT.keys() | {"status.json"}
        if not killed:
            break
        shutil.rmtree(tmp_path / "runs")
    assert count > 10


def claim_in_a_child(target: Path, count: int) -> bool:
    """Claim a directory in a process of its own, which is killed before its change of the disk number `count`."""
    pid = os.fork()
    if not pid:
        left = [count]
        for name in ("mkdir", "rename", "replace", "link", "unlink", "fsync", "rmdir"):
            setattr(os, name, killing(getattr(os, name), left))
        with contextlib.suppress(BaseException):
            RunDir.create(target, CONTENT)
            os._exit(0)
        os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def killing(change: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return change(*args, **options)

    return call


def test_a_directory_that_a_killed_process_of_an_older_version_claimed_can_be_claimed_anew(tmp_path: Path) -> None:
    edit_status(RunDir.create(tmp_path / "run"), pid_started=-1)
    (tmp_path / "run" / "overrides.yaml").touch()
    run = RunDir.create(tmp_path / "run", {**CONTENT, "overrides.yaml": "[]\n"})
    assert run.overrides.read_text() == "[]\n" and run.is_alive()


def test_a_directory_that_is_being_claimed_is_left_alone(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    with pytest.raises(ConfigError, match="another process is about to start a run there"):
        RunDir.create(run.path)


def test_what_killed_claims_left_is_taken_away_and_what_living_ones_do_is_not(tmp_path: Path) -> None:
    here, alive, began = processes.machine(), os.getppid(), processes.process_start(os.getppid())
    for name in (f"{here}-{2**22 + 1}-5", f"{here}-{alive}-{began}", f"{here}-{alive}-{began - 1}", "0123abcd-1-1"):
        (tmp_path / f".claim-{name}-abcd").mkdir()
    (old := tmp_path / ".claim-0123abcd-1-1-efgh").mkdir()
    os.utime(old, (0, 0))
    RunDir.create(tmp_path / "run")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"run", f".claim-{here}-{alive}-{began}-abcd", ".claim-0123abcd-1-1-abcd"}


def test_the_current_directory_can_be_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunDir.create(".", CONTENT)
    assert Path.cwd() == tmp_path and files_in(Path()) == CONTENT.keys() | {"status.json"}


def test_create_claims_a_directory_that_hydra_made(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").touch()
    (tmp_path / "cli.log").write_text("said")
    assert RunDir.create(tmp_path, CONTENT).config.is_file()
    assert (tmp_path / "cli.log").read_text() == "said"
    assert (tmp_path / ".hydra" / "config.yaml").read_text() == CONTENT[".hydra/config.yaml"]


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
    assert [run.begin_attempt() for _ in range(3)] == [2, 3, 4]
    run.set_status("preempted", env_steps=7)
    assert run.read_status()["attempts"] == 4


WORK = """
import sys
from rlrun.rundir.layout import RunDir
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
    assert run.read_status()["attempts"] == 2

    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert not run.is_alive()
    status = run.read_status()
    assert status["state"] == "failed"
    assert "ended without a word" in status["reason"]
    worker.communicate()
    assert not run.is_alive()
    assert run.begin_attempt() == 3
    assert run.read_status()["state"] == "running"


def test_a_process_that_ended_its_run_does_not_block_it(run: RunDir) -> None:
    run.begin_attempt()
    assert run.is_alive()
    run.set_status("finished")
    assert not run.is_alive()


def test_another_process_with_the_same_number_is_not_the_run(run: RunDir) -> None:
    parent = os.getppid()
    edit_status(run, pid=parent, pid_started=processes.process_start(parent))
    assert run.is_alive()
    edit_status(run, pid_started=-1)
    assert not run.is_alive()
    assert run.begin_attempt() == 2


ELSEWHERE = [{"host": "elsewhere"}, {"boot": "another"}, {"pid_namespace": "pid:[1]"}]


@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_run_at_work_elsewhere_is_left_alone_while_it_gives_signs_of_life(run: RunDir, place: dict[str, str]) -> None:
    edit_status(run, pid=1, pid_started=1, **place)
    assert run.read_status()["state"] == "running"
    with pytest.raises(RlrunError, match=r"process 1 on .*, elsewhere, is training here\n.*--force"):
        run.begin_attempt()
    assert run.read_status()["attempts"] == 1
    assert run.begin_attempt(force=True) == 2
    assert run.is_alive()


def test_a_run_elsewhere_that_gives_no_sign_of_life_is_taken_over(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "WATCH", 0.3)
    edit_status(run, host="elsewhere", pid=1, pid_started=1)
    for age in (-1800, 1800, 7200, 10**9):  # a clock may be ahead as well
        edit_status(run, host="elsewhere", state="running")
        os.utime(run.status, (time.time() - age,) * 2)
        assert run.begin_attempt() > 1


def test_signs_of_life_are_waited_for_where_the_last_is_old(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)
    edit_status(run, host="elsewhere", pid=1, pid_started=1)
    os.utime(run.status, (0, 0))
    with lease.heartbeat(run.status):
        while run.status.stat().st_mtime == 0:
            time.sleep(0.01)
    os.utime(run.status, (time.time() - 600,) * 2)
    monkeypatch.setattr(lease, "FRESH", -1.0)  # as if the clock of the file system stood
    monkeypatch.setattr(lease, "WATCH", 60.0)
    with lease.heartbeat(run.status), pytest.raises(RlrunError, match="elsewhere"):
        run.begin_attempt()


def test_a_run_elsewhere_without_a_sign_of_life_for_long_has_failed(run: RunDir) -> None:
    edit_status(run, host="elsewhere", pid=1, pid_started=1)
    os.utime(run.status, (0, 0))
    status = run.read_status()
    assert status["state"] == "failed" and "no sign of life" in status["reason"]


def test_a_process_that_works_on_this_machine_is_not_taken_over_by_force(run: RunDir) -> None:
    parent = os.getppid()
    edit_status(run, pid=parent, pid_started=processes.process_start(parent))
    with pytest.raises(RlrunError, match=f"stop it with `kill {parent}`"):
        run.begin_attempt(force=True)


def test_a_process_notices_that_its_run_was_taken_over(run: RunDir) -> None:
    run.must_be_ours()
    edit_status(run, host="elsewhere")
    with pytest.raises(RlrunError, match="on elsewhere has taken the run over"):
        run.must_be_ours()


def test_one_of_two_processes_resumes(tmp_path: Path) -> None:
    rounds = 20
    for i in range(rounds):
        edit_status(RunDir.create(tmp_path / f"run{i}"), state="preempted")
    assert both_at_once('RunDir(root / f"run{i}").begin_attempt()', tmp_path, rounds) == list(range(rounds))
    assert {RunDir(tmp_path / f"run{i}").read_status()["attempts"] for i in range(rounds)} == {2}


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
    }
    run.amend_meta(**facts)
    run.amend_meta(resume="exact")
    meta = json.loads(run.meta.read_text())
    assert {key: meta[key] for key in facts} == facts
    assert meta["resume"] == "exact"
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
    assert surroundings()["git"] == commit
    (tmp_path / "file").write_text("two")
    assert surroundings()["git"] == f"{commit}-dirty"


def test_meta_keeps_what_is_known_and_is_made_anew_where_it_is_lost(run: RunDir) -> None:
    run.amend_meta(seed=3)
    created = json.loads(run.meta.read_text())["created"]
    assert created == run.read_status()["started"]
    run.amend_meta(resume="exact")
    assert json.loads(run.meta.read_text()).keys() >= {"seed", "resume", "versions"}
    for damage in ("", "[]", "{"):
        run.meta.write_text(damage)
        run.amend_meta(resume="exact")
        assert json.loads(run.meta.read_text())["versions"]["rlrun"] == rlrun.__version__


@pytest.mark.parametrize(("meta", "saved", "ranks"), [("{}", "", 1), ('{"ranks": 3}', "", 3), ("lost", "10", 11)])
def test_how_many_ranks_a_run_has_is_known_without_its_meta_as_well(
    meta: str, saved: str, ranks: int, run: RunDir
) -> None:
    run.write_text(run.meta, meta)
    if saved:
        run.of_rank(int(saved))
    assert run.begun_by == ranks


def test_command_line_survives_a_shell() -> None:
    argv = ["algo=dqn", "hydra.run.dir=a b", "~tuned", "imports=[x,'y']", "seed=range(5)"]
    assert shlex.split(command_line(argv)) == ["rlrun", *argv]


def test_letters() -> None:
    drawn = {letters() for _ in range(200)}
    assert all(len(word) == 4 and word.isascii() and word.islower() for word in drawn)
    assert len(drawn) > 190  # two equal among 200 of 26^4 happen in 4 % of cases, ten practically never


def test_a_status_is_true_even_on_a_full_disk(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run.set_status("running", reason="x" * 100)
    monkeypatch.setattr(os, "replace", full)
    run.set_status("failed", env_steps=7, reason="full")
    assert json.loads(run.status.read_text()) | {"state": "failed", "env_steps": 7, "reason": "full"} == json.loads(
        run.status.read_text()
    )
    os.link(run.status, run.path / "second")
    with pytest.raises(RlrunError, match="second name"):
        run.set_status("failed")
