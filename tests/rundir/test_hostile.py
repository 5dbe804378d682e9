"""Run directories from strangers: links, pipes, sockets and devices in place of every file that rlrun reads or writes.

Nothing outside of the directory is read or written, nothing hangs, and what is wrong is said in a line or two.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlrun import cli, files
from rlrun.files import NotPlain
from rlrun.rundir import checkpoints, layout
from rlrun.rundir.layout import RunDir

VERBS = {"eval": ["episodes=1"], "play": ["record=true"], "inspect": [], "resume": ["total_timesteps=550"]}
KINDS = ["link", "dangling", "loop", "fifo", "socket", "device", "wrong"]
SECRET = "outside\n"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunDir]:
    """A copy of a run, and an alarm that ends a test that hangs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text(SECRET)
    hung = []
    before = signal.signal(signal.SIGALRM, lambda *_: hung.append(1) or pytest.fail("it hangs"))
    signal.alarm(60)
    yield RunDir(shutil.copytree(finished_run, tmp_path / "run", symlinks=True))
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert not hung
    assert os.listdir(tmp_path / "outside") == ["file"]
    assert (tmp_path / "outside" / "file").read_text() == SECRET


def put(path: Path, kind: str, folder: bool = False) -> None:
    """Something hostile in place of a file or a folder."""
    outside = Path("outside").absolute()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    match kind:
        case "link":
            path.symlink_to(outside if folder else outside / "file")
        case "dangling":
            path.symlink_to(outside / "new")
        case "loop":
            path.symlink_to(path.name)
        case "fifo":
            os.mkfifo(path)
        case "socket":
            here = os.getcwd()
            os.chdir(path.parent)  # a socket's path is short
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path.name)
            os.chdir(here)
        case "device":
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: to read it never ends
            except PermissionError:
                pytest.skip("only root can make a device")
        case "wrong" if folder:
            path.touch()
        case "wrong":
            path.mkdir()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*layout.FILES, *layout.FOLDERS])
def test_a_hostile_entry_is_refused_by_every_verb(run: RunDir, name: str, kind: str, capsys) -> None:
    put(run.path / name, kind, folder=name in layout.FOLDERS)
    for verb, words in VERBS.items():
        assert cli.main([verb, "run", *words]) in (1, 2)
        error = capsys.readouterr().err
        assert name in error and len(error.splitlines()) <= 3 and "Traceback" not in error
    assert cli.main(["runs", "."]) == 0


INSIDE = [
    "tb/events.out.tfevents.rlrun",
    "evaluations/step_000000500_greedy_1.json",
    "figures/step_000000500_values.png",
    "videos/step_000000500_greedy_0_return_0.mp4",
    "videos/.step_000000500_greedy_0.unfinished.mp4",
    "checkpoints/last",
    "checkpoints/best",
    "checkpoints/step_000000500",
    "checkpoints/step_000000500/manifest.json",
    "checkpoints/step_000000500/state.json",
    "checkpoints/step_000000500/algo.safetensors",
    "checkpoints/step_000000550",
    "checkpoints/step_000000550.new",
    f"checkpoints/.tmp-{2**22 + 1}-abcd",
    f"checkpoints/.trash-{2**22 + 1}-abcd",
    f".claim-0123abcd-{2**22 + 1}-1-abcd",
    ".hydra/config.yaml",
]


@pytest.mark.parametrize("kind", ["link", "fifo"])
@pytest.mark.parametrize("name", INSIDE)
def test_what_lies_deeper_is_not_followed_either(run: RunDir, name: str, kind: str, capsys) -> None:
    """Whether a verb needs it or not: it ends, and what is outside stays as it is."""
    put(run.path / name, kind, folder="." not in Path(name).name)
    for verb in ("inspect" if "figures" in name else "play" if "videos" in name else "eval", "resume"):
        code = cli.main([verb, "run", *VERBS[verb]])
        error = capsys.readouterr().err
        assert code in (0, 1, 2) and "Traceback" not in error and len(error.splitlines()) <= 6


def test_the_way_to_a_run_may_hold_links(run: RunDir) -> None:
    Path("way").symlink_to(".")
    Path("here").symlink_to("run")
    assert cli.main(["eval", "way/here", "episodes=1"]) == 0
    assert (run.path / "evaluations" / "step_000000500_greedy_1.json").is_file()


def test_what_is_written_does_not_appear_under_a_files_other_name(run: RunDir) -> None:
    """As in a snapshot that was made of hard links."""
    snapshot = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    Path("snapshot").mkdir()
    for number, path in enumerate(snapshot):
        os.link(path, f"snapshot/{number}")
    assert cli.main(["resume", "run", *VERBS["resume"]]) == 0
    assert [Path(f"snapshot/{number}").read_bytes() for number in range(len(snapshot))] == list(snapshot.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_run_is_not_led_astray(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside").mkdir()
    put(Path("new") / ".hydra", kind, folder=True)
    with pytest.raises(NotPlain):
        RunDir.create("new", {".hydra/config.yaml": "x", "config.yaml": "y"})
    assert os.listdir("outside") == []


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_opened_without_following(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (outside := tmp_path / "outside").mkdir()
    (outside / "file").write_text(SECRET)
    (root := tmp_path / "run").mkdir()
    put(root / "file", kind)
    put(root / "folder", kind, folder=True)
    for attempt in (
        lambda: files.read(root / "file"),
        lambda: files.replace(root / "file", "x"),
        lambda: os.close(files.open_to_append(root / "file")),
        lambda: files.read(root / "folder" / "file", root=root),
        lambda: files.replace(root / "folder" / "file", "x", root),
        lambda: os.close(files.open_to_append(root / "folder" / "file", root)),
        lambda: files.make_directory(root / "folder", root),
        lambda: files.make_directory(root / "folder" / "inner", root),
        lambda: checkpoints.save(root / "folder", {"a": {"b": 1}}, 5),
    ):
        with pytest.raises(NotPlain):
            attempt()
    assert os.listdir(outside) == ["file"] and (outside / "file").read_text() == SECRET
