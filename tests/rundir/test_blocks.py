"""Blocks of a state in checkpoints: written when new, linked while they stay, found out when damaged."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun.blocks import Block
from rlrun.errors import CheckpointError
from rlrun.rundir import checkpoints
from rlrun.rundir.checkpoints import find, load, load_latest, save
from rlrun.rundir.codec import decode, encode


class Store:
    """Three blocks of a state, each a column that is told when it changes."""

    def __init__(self) -> None:
        self.data = [np.full(1000, float(i)) for i in range(3)]
        self.blocks = [Block(lambda i=i: self.contents(i)) for i in range(3)]
        self.read: list[int] = []  # which were looked at

    def contents(self, i: int) -> dict[str, Any]:
        self.read.append(i)
        return {"x": self.data[i], "i": i}

    def change(self, i: int) -> None:
        self.data[i] = self.data[i] + 10
        self.blocks[i].seal = None

    def state(self) -> dict[str, Any]:
        return {"algo": {"n": 1}, "buffer": {"blocks": self.blocks, "size": 3000, "w": np.ones(2)}}


def columns(directory: Path) -> list[float]:
    """What a checkpoint holds: the first number of every block."""
    held = [block.contents() for block in load(directory)["buffer"]["blocks"]]
    assert all((each["x"] == each["x"][0]).all() and each["i"] == i for i, each in enumerate(held))
    return [float(each["x"][0]) for each in held]


def links(directory: Path) -> list[int]:
    return [path.stat().st_nlink for path in sorted(directory.glob("buffer.0*"))]


def test_a_block_is_written_once_and_linked_while_it_stays(tmp_path: Path) -> None:
    store = Store()
    first = save(tmp_path, store.state(), 10)
    assert sorted(path.name for path in first.iterdir()) == [
        *("buffer.0000.safetensors", "buffer.0001.safetensors", "buffer.0002.safetensors"),
        *("buffer.safetensors", "manifest.json", "state.json"),
    ]
    assert store.read == [0, 1, 2]
    store.change(1)
    second = save(tmp_path, store.state(), 20)
    assert store.read == [0, 1, 2, 1], "what stays is not even read"
    assert columns(first) == [0, 1, 2] and columns(second) == [0, 11, 2]
    assert (links(first), links(second)) == ([2, 1, 2], [2, 1, 2])
    store.change(0)
    third = save(tmp_path, store.state(), 30, keep_last=1)
    assert columns(third) == [10, 11, 2] and links(third) == [1, 1, 1]
    assert sorted(os.listdir(tmp_path)) == ["last", "step_000000030"]


def test_the_manifest_covers_blocks_and_says_that_there_are_some(tmp_path: Path) -> None:
    """Known hashes are the true ones; a checkpoint without blocks can still be read by older versions."""
    store = Store()
    for step in (1, 2):
        manifest = json.loads((save(tmp_path, store.state(), step) / "manifest.json").read_text())
        assert manifest["format"] == 2
        for name, entry in manifest["files"].items():
            assert entry["sha256"] == checkpoints._sha256(tmp_path / "last" / name)
    assert json.loads((save(tmp_path, {"a": 1}, 3) / "manifest.json").read_text())["format"] == 1


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    """Whether blocks were linked or written."""
    store, other = Store(), Store()
    save(tmp_path / "a", store.state(), 1)
    one, two = save(tmp_path / "a", store.state(), 2), save(tmp_path / "b", other.state(), 2)
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {f.name: f.read_bytes() for f in two.iterdir()}


def test_a_loaded_block_is_linked_on(tmp_path: Path) -> None:
    save(tmp_path, Store().state(), 10)
    _, state = load_latest(tmp_path, pytest.fail)
    assert links(save(tmp_path, state, 20)) == [2, 2, 2]
    assert columns(find(tmp_path)) == [0, 1, 2]


def test_records_and_nothing_at_all_come_back_in_blocks(tmp_path: Path) -> None:
    records = np.zeros(3, np.dtype([("place", np.float32, (2,)), ("seen", np.uint8)]))
    records["seen"] = [1, 2, 3]
    blocks = [Block(lambda: {"obs": records, "none": np.zeros((0, 4))}), Block(lambda: {})]
    one, other = load(save(tmp_path, {"buffer": blocks}, 1))["buffer"]
    held = one.contents()
    assert held["obs"].dtype == records.dtype and held["obs"].tobytes() == records.tobytes()
    assert held["none"].shape == (0, 4) and other.contents() == {}


def test_going_back_links_only_what_is_the_same(tmp_path: Path) -> None:
    """A continuation that was given up has blocks of the same names with other contents."""
    store = Store()
    save(tmp_path, store.state(), 10)
    _, state = load_latest(tmp_path, pytest.fail)
    store.change(0)
    save(tmp_path, store.state(), 20)
    again = save(tmp_path, state, 15, keep_last=0)
    assert columns(again) == [0, 1, 2] and links(again) == [2, 2, 2]


def test_the_best_keeps_what_the_others_have_left(tmp_path: Path) -> None:
    store = Store()
    save(tmp_path, store.state(), 10, best=True, keep_last=1)
    for step in (20, 30, 40):
        store.change(0)
        save(tmp_path, store.state(), step, keep_last=1)
    assert columns(find(tmp_path, "best")) == [0, 1, 2] and columns(find(tmp_path)) == [30, 1, 2]
    assert links(find(tmp_path, "best")) == [1, 2, 2]


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EACCES])
def test_where_there_are_no_links_blocks_are_written(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(error, os.strerror(error))

    store = Store()
    save(tmp_path, store.state(), 10)
    monkeypatch.setattr(os, "link", refuse)
    second = save(tmp_path, store.state(), 20)
    assert links(second) == [1, 1, 1] and columns(second) == [0, 1, 2]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "symlink", "directory"])
def test_a_block_that_was_touched_since_is_not_linked(tmp_path: Path, damage: str) -> None:
    """What is in memory is written again: damage does not travel from one checkpoint to the next."""
    store = Store()
    file = save(tmp_path, store.state(), 10) / "buffer.0001.safetensors"
    whole = file.read_bytes()
    file.unlink()
    if damage == "flip":
        file.write_bytes(whole[:-1] + b"x")
        written = (file.parent / "manifest.json").stat().st_mtime_ns
        os.utime(file, ns=(written, written + 1))  # however coarse the clock of the file system is
    elif damage == "cut":
        file.write_bytes(whole[:-1])
    elif damage == "symlink":
        (tmp_path / "other").write_bytes(whole)
        file.symlink_to(tmp_path / "other")
    elif damage == "directory":
        file.mkdir()
    second = save(tmp_path, store.state(), 20)
    assert columns(second) == [0, 1, 2] and links(second) == [2, 1, 2]
    assert (second / "buffer.0001.safetensors").read_bytes() == whole


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    store = Store()
    first = save(tmp_path, store.state(), 10)
    store.change(1)
    second = save(tmp_path, store.state(), 20)
    file = second / "buffer.0001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"buffer\.0001\.safetensors differs from its hash"):
        load(second)
    assert load(second, ["algo"]) == {"algo": {"n": 1}}, "other parts do not need it"
    warnings: list[str] = []
    assert load_latest(tmp_path, warnings.append)[0] == first
    file.unlink()
    with pytest.raises(CheckpointError, match=r"buffer\.0001\.safetensors is missing"):
        load(second, ["buffer"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda blocks: blocks[:2], "an array that nothing refers to"),
        (lambda blocks: [*blocks[:2], blocks[0]], "malformed entry of type 'block'"),
        (lambda blocks: [*blocks[:2], {"$": "block", "file": "../buffer.0002"}], "malformed entry of type 'block'"),
        (lambda blocks: [*blocks[:2], {"$": "block", "file": "buffer"}], "malformed entry of type 'block'"),
        (lambda blocks: [*blocks[:2], {"$": "block", "contents": 3}], "malformed entry of type 'block'"),
        (
            lambda blocks: [{"$": "array", "dtype": "float64", "data": "buffer.0000", "shape": [1000]}, *blocks[1:]],
            "buffer.0000: the array is missing",
        ),
    ],
)
def test_blocks_are_referred_to_exactly_once(tmp_path: Path, change: Any, reason: str) -> None:
    directory = save(tmp_path, Store().state(), 10)
    state, manifest = (json.loads((directory / name).read_text()) for name in ("state.json", "manifest.json"))
    state["buffer"]["blocks"] = change(state["buffer"]["blocks"])
    (directory / "state.json").write_text(json.dumps(state))
    entry = {"bytes": (directory / "state.json").stat().st_size}
    manifest["files"]["state.json"] = entry | {"sha256": checkpoints._sha256(directory / "state.json")}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=reason):
        load(directory)


def test_a_state_with_blocks_can_be_compared_without_files() -> None:
    store = Store()
    plain, arrays = encode(store.state())
    assert sorted(arrays) == [*(f"state.buffer.blocks.{i}.x" for i in range(3)), "state.buffer.w"]
    again = decode(json.loads(json.dumps(plain)), arrays)
    assert [block.contents()["i"] for block in again["buffer"]["blocks"]] == [0, 1, 2]
