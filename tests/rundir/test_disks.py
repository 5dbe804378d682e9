"""Disks that are full, read-only, or know less than others: exFAT, SMB and FUSE mounts."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import cli, files
from rlrun.files import DiskError
from rlrun.rundir import checkpoints
from rlrun.rundir.layout import RunDir

SMOKE = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.console=plain", "logger.tensorboard=false"]


def failing(number: int, applies: Callable[..., bool], call: Callable[..., Any]) -> Callable[..., Any]:
    """A system call that a file system refuses where it applies."""

    def refused(*args: Any, **options: Any) -> Any:
        if applies(*args, **options):
            raise OSError(number, os.strerror(number), args[0] if isinstance(args[0], str | Path) else None)
        return call(*args, **options)

    return refused


def is_directory(descriptor: int) -> bool:
    return os.path.isdir(f"/proc/self/fd/{descriptor}")


LACKS: dict[str, Callable[..., bool]] = {
    "link": lambda *_, **__: True,
    "symlink": lambda *_, **__: True,
    "fsync": is_directory,
    "fchmod": lambda *_, **__: True,
}


@pytest.fixture
def poor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A file system that lacks several things, each refused with the same number."""
    names, number = request.param
    for name in names:
        monkeypatch.setattr(os, name, failing(number, LACKS[name], getattr(os, name)))


POOR = [(tuple(LACKS), number) for number in (errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)]
each_poor = pytest.mark.parametrize("poor", POOR, indirect=True, ids=lambda poor: errno.errorcode[poor[1]])


@each_poor
@pytest.mark.usefixtures("poor")
def test_checkpoints_need_neither_links_nor_modes(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, {"algo": {"w": np.arange(step)}}, step, best=step == 2, keep_last=1)
    assert (tmp_path / "last").read_text() == "step_000000003\n" and not (tmp_path / "last").is_symlink()
    assert checkpoints.find(tmp_path, "best").name == "step_000000002"
    assert checkpoints.load(checkpoints.find(tmp_path))["algo"]["w"].tolist() == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == ["best", "last", "step_000000002", "step_000000003"]


@each_poor
@pytest.mark.usefixtures("poor")
@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_is_claimed_once(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "run").mkdir()
    content = {"config.yaml": "seed: 0\n", ".hydra/config.yaml": ""}
    run = RunDir.create(tmp_path / "run", content)
    assert {path.name for path in run.path.iterdir()} == {"config.yaml", ".hydra", "status.json"}
    with pytest.raises(Exception, match="already holds a run"):
        RunDir.create(tmp_path / "run", content)


@pytest.mark.parametrize("poor", POOR[:1], indirect=True)
@pytest.mark.usefixtures("poor")
def test_a_run_trains_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*SMOKE, "hydra.run.dir=run"]) == 0
    assert cli.main(["resume", "run", "total_timesteps=600"]) == 0
    assert cli.main(["eval", "run", "ckpt=best", "episodes=1"]) == 0


def test_what_names_a_checkpoint_may_change_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is moved from a disk with links to one without, and back."""
    symlink = os.symlink
    for step in range(1, 5):
        refused = failing(errno.EPERM, LACKS["symlink"], symlink) if step % 2 else symlink
        monkeypatch.setattr(os, "symlink", refused)
        checkpoints.save(tmp_path, {"algo": {"step": step}}, step)
        assert checkpoints.find(tmp_path).name == f"step_{step:09d}"


@pytest.mark.parametrize(
    "text", ["", "../outside", "step_000000009", "x" * 200, "\udcff", "step_000000001\nstep_000000002"]
)
def test_a_small_file_leads_nowhere_else(tmp_path: Path, text: str) -> None:
    checkpoints.save(tmp_path, {"algo": {"step": 1}}, 1)
    (tmp_path / "last").unlink()
    (tmp_path / "last").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert checkpoints.find(tmp_path).name == "step_000000001"


# Full and read-only disks.


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"), open(disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))


def test_a_run_on_a_disk_that_gets_full_has_failed_and_goes_on_where_there_is_room(
    full: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlrun.loggers.jsonl import JsonlLogger

    log = JsonlLogger.log

    def log_and_fill(self: JsonlLogger, metrics: Any, env_steps: int) -> None:
        if env_steps >= 300 and not (full / "filler").exists():
            fill(full)
        for _ in range(20):  # rows long enough to need new space
            log(self, metrics, env_steps)

    monkeypatch.chdir(full)
    words = [*SMOKE, "total_timesteps=500", "logger.freq=100", "checkpoint.freq=100", "hydra.run.dir=run"]
    with monkeypatch.context() as patch:
        patch.setattr(JsonlLogger, "log", log_and_fill)
        assert cli.main(words) == 1
    error = capsys.readouterr().err.splitlines()
    assert [line for line in error if line.startswith("rlrun: ")][-1].endswith(
        "cannot be written: No space left on device"
    )
    assert "make room" in error[-1]
    status = json.loads((full / "run" / "status.json").read_text())
    assert status["state"] == "failed" and "No space left on device" in status["reason"]
    (full / "filler").unlink()
    assert cli.main(["resume", "run"]) == 0
    assert json.loads((full / "run" / "status.json").read_text())["state"] == "finished"


def test_a_status_is_written_on_a_full_disk(full: Path) -> None:
    run = RunDir.create(full / "run", {"config.yaml": "seed: 0\n"})
    fill(full)
    with pytest.raises(DiskError, match="No space left on device\nthe disk is full: make room") as caught:
        run.write_text(run.command, "x" * 10_000)
    assert caught.value.exit_code == 1
    run.set_status("failed", reason="no space")
    assert run.read_status()["reason"] == "no space"
    run.set_status("failed", reason="")
    assert run.read_status()["reason"] == ""


@pytest.fixture
def read_only(finished_run: Path, tmp_path: Path) -> Iterator[Path]:
    """A finished run on a disk that takes nothing."""
    disk = tmp_path / "disk"
    shutil.copytree(finished_run, disk / "run", symlinks=True)
    for options in (["--bind", disk, disk], ["-o", "remount,bind,ro", disk]):
        if subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_read_only_run_is_evaluated(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", str(read_only / "run"), "episodes=2"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("mean ") and len(said.out.splitlines()) == 1
    assert "evaluations: cannot be written: Read-only file system" in said.err
    assert cli.main(["eval", str(read_only / "run"), "episodes=2", "json=true"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert cli.main(["inspect", str(read_only / "run")]) == 0


def test_a_read_only_run_cannot_go_on(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["resume", str(read_only / "run"), "total_timesteps=600"]) == 1
    error = capsys.readouterr().err
    assert "cannot be written: Read-only file system" in error and len(error.splitlines()) <= 2


def test_a_new_run_on_a_read_only_disk_is_refused(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*SMOKE, f"hydra.run.dir={read_only}/new"]) in (1, 2)
    error = capsys.readouterr().err
    assert "Read-only file system" in error and len(error.splitlines()) <= 2


def test_files_say_which_and_why(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=f"{tmp_path}/nowhere/file: cannot be written: No such file or directory$"):
        files.replace(tmp_path / "nowhere" / "file", "x")
