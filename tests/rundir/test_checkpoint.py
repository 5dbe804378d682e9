"""Checkpoints: lossless, whole or not there, and harmless to read."""

from __future__ import annotations

import collections
import enum
import hashlib
import json
import math
import os
import pickle
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file as save_torch_file

import rlrun
from rlrun.errors import CheckpointError
from rlrun.rundir import checkpoints, codec
from rlrun.rundir.checkpoints import SaveError, find, load, load_latest, save
from rlrun.rundir.codec import decode, encode
from rlrun.seeding import Role, SeedTree
from rlrun.state import generator_state, restore_generator

ENV = os.environ | {"PYTHONPATH": str(Path(rlrun.__file__).parents[1])}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process wrote is there without fsync; that it is called, and when, has a test of its own."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def same(a: Any, b: Any) -> bool:
    """Equal in type, dtype, shape and every value, with NaN equal to NaN and 0.0 unlike -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and same(bits(a), bits(b))
    return a == b if type(a) is int else repr(a) == repr(b)


def bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.zeros(0)


def through_json(plain: Any) -> Any:
    return json.loads(json.dumps(plain, allow_nan=False))


def state_at(step: int) -> dict[str, Any]:
    """A state that says in every file of its checkpoint which step it belongs to."""
    return {
        "algo": {"weights": np.full(20_000, step, np.float32), "n": step},
        "source": {"obs": [np.full((3, 7), step, np.int64)]},
        "progress": {"env_steps": step},
    }


def steps(root: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in root.iterdir() if path.name.startswith("step_"))


# Round trip.

ARRAYS = {
    **{name: np.array([[0, 1, 2], [1, 0, 3]]).astype(name) for name in sorted(codec.DTYPES)},
    "uint64 top": np.array([2**64 - 1], np.uint64),
    "nan and inf": np.array([np.nan, np.inf, -np.inf, -0.0]),
    "0-d": np.array(2.5, np.float32),
    "0-d bool": np.array(True),
    "empty": np.zeros((0, 4), np.float32),
    "transposed": np.arange(12.0).reshape(3, 4).T,
    "strided": np.arange(12)[::-2],
    "records": np.array([[(1, [2.5, -0.0])], [(3, [np.nan, 4.0])]], [("a.b", "i8"), ("c", "f4", (2,))]),
    "0-d record": np.array((1, [2.5, 3.5]), [("a", "u1"), ("b", "f8", (2,))]),
    "no records": np.zeros((0, 3), [("a", "?"), ("b", "f4", (2, 2))]),
    "broadcast": np.broadcast_to(np.float32(3), (2, 2)),
}


@pytest.mark.parametrize("array", [pytest.param(array, id=name) for name, array in ARRAYS.items()])
def test_arrays_come_back(tmp_path: Path, array: np.ndarray) -> None:
    loaded = load(save(tmp_path, {"part": {"x": array}}, 0))["part"]["x"]
    assert same(loaded, array)
    assert loaded.flags.writeable


def test_foreign_byte_order_becomes_native(tmp_path: Path) -> None:
    big = np.arange(5, dtype=">i4")
    loaded = load(save(tmp_path, {"part": big}, 0))["part"]
    assert same(loaded, np.arange(5, dtype=np.int32))


TENSORS = {
    **{name: torch.tensor([[0, 1, 2], [1, 0, 3]]).to(getattr(torch, name)) for name in sorted(codec.DTYPES)},
    "bfloat16": torch.tensor([1.0, -2.5, math.inf, math.nan], dtype=torch.bfloat16),
    "0-d": torch.tensor(1e-30),
    "0-d bfloat16": torch.tensor(3.0, dtype=torch.bfloat16),
    "empty": torch.zeros(2, 0, dtype=torch.int64),
    "transposed": torch.arange(6.0).reshape(2, 3).t(),
    "expanded": torch.tensor([1.0]).expand(4),
    "channels last": torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("tensor", [pytest.param(tensor, id=name) for name, tensor in TENSORS.items()])
def test_tensors_come_back(tmp_path: Path, tensor: torch.Tensor) -> None:
    assert same(load(save(tmp_path, {"part": [tensor]}, 0))["part"][0], tensor)


def test_tensors_lose_their_graph_and_keep_their_values(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    base = torch.arange(6.0)
    state = {"weight": weight, "product": weight * 3, "row": base[:3], "all": base, "tail": base[2:]}
    loaded = load(save(tmp_path, {"algo": state}, 0))["algo"]
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        "weight": [1.0, 2.0],
        "product": [3.0, 6.0],
        "row": [0.0, 1.0, 2.0],
        "all": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "tail": [2.0, 3.0, 4.0, 5.0],
    }
    assert all(type(tensor) is torch.Tensor and not tensor.requires_grad for tensor in loaded.values())
    loaded["row"][0] = 9.0
    assert loaded["all"][0] == 0.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_tensors_of_a_gpu_come_back_on_the_cpu(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).to(dtype)
    loaded = load(save(tmp_path, {"algo": {"x": tensor.cuda().t().requires_grad_(dtype is torch.float32)}}, 0))
    assert same(loaded["algo"]["x"], tensor.t())


SCALARS = [np.dtype(name).type(1) for name in sorted(codec.DTYPES)]
PLAIN = [
    *(None, True, False, 0, -1, 2**53, 2**53 + 1, -(2**64), 2**127 + 12345, 10**5000),
    *(0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan),
    *("", "ü\n\t\0", "\ud800", "NaN", "$"),
    *([], (), {}, [()], ([1, (2,)], None), {"a": {"b": (1, [2.0])}}),
    *({1: "a", "1": "b", None: 3, False: 4, 2.5: 5, (1, "x"): 6}, {(): []}, {math.inf: -math.inf}),
    *({"$": "tuple", "items": [1]}, {"$": {"$": {"$": "array"}}}, {"$": 1, 2: 3}, [{"$": "int", "hex": "0x1"}]),
    *(np.float32(0.1), np.float64("nan"), np.float16("-inf"), np.uint64(2**64 - 1), np.int64(-(2**63)), *SCALARS),
    {np.int64(3): 1},
]


@pytest.mark.parametrize("tree", PLAIN, ids=lambda tree: type(tree).__name__)
def test_plain_data_come_back(tree: Any) -> None:
    plain, arrays = encode(tree)
    assert arrays == {}
    assert same(decode(through_json(plain), {}), tree)


def test_everything_at_once_comes_back_from_disk(tmp_path: Path) -> None:
    state = {"algo": {"plain": PLAIN, "arrays": ARRAYS, "tensors": TENSORS}, "progress": {"env_steps": 5}, "none": None}
    assert same(load(save(tmp_path, state, 5)), state)


def test_names_that_coincide_stay_apart() -> None:
    tree = {"a.b": np.array(1), "a": {"b": np.array(2), 0: np.array(3), "0": np.array(4)}, "": np.array(5)}
    plain, arrays = encode(tree, "algo")
    assert sorted(arrays) == ["algo.", "algo.a.0", "algo.a.0'", "algo.a.b", "algo.a.b'"]
    assert same(decode(through_json(plain), arrays), tree)


def test_optimiser_and_network_continue_as_if_never_saved(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
        return net, torch.optim.Adam(net.parameters(), betas=(0.8, 0.9))

    def update(net: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        net(torch.arange(12.0).reshape(4, 3)).square().mean().backward()
        optimiser.step()

    net, optimiser = make()
    update(net, optimiser)
    directory = save(tmp_path, {"net": net.state_dict(), "optimiser": optimiser.state_dict()}, 1)
    update(net, optimiser)

    restored, restored_optimiser = make()
    state = load(directory)
    restored.load_state_dict(state["net"])
    restored_optimiser.load_state_dict(state["optimiser"])
    update(restored, restored_optimiser)
    assert same(dict(restored.state_dict()), dict(net.state_dict()))


@pytest.mark.parametrize("make", [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox])
def test_random_streams_continue(tmp_path: Path, make: Callable[[int], np.random.BitGenerator]) -> None:
    rng = np.random.Generator(make(3))
    rng.standard_normal(7)
    directory = save(tmp_path, {"rng": generator_state(rng)}, 0)
    other = np.random.Generator(make(4))
    restore_generator(other, load(directory)["rng"])
    assert other.integers(2**62, size=5).tolist() == rng.integers(2**62, size=5).tolist()


class Colour(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int


@pytest.mark.parametrize(
    ("thing", "what"),
    [
        (object(), "a object"),
        (Colour.RED, "a Colour"),
        (Point(1), "a Point"),
        ({1, 2}, "a set"),
        (b"bytes", "a bytes"),
        (collections.deque([1]), "a deque"),
        (1j, "a complex"),
        (np.array(["text"]), "an array of <U4"),
        (np.array([object()]), "an array of object"),
        (np.zeros(2, np.complex64), "an array of complex64"),
        (np.zeros(2, "M8[s]"), "an array of datetime64"),
        (np.ma.array([1.0], mask=[True]), "an array of float64"),
        (torch.zeros(2, dtype=torch.complex64), "an array of torch.complex64"),
        (torch.eye(2).to_sparse(), "an array of torch.float32"),
    ],
)
def test_unknown_things_are_refused_by_their_path(tmp_path: Path, thing: Any, what: str) -> None:
    with pytest.raises(TypeError, match=rf"^algo\.layers\.1\.k: {what}.*cannot be saved"):
        save(tmp_path / "root", {"algo": {"layers": [0, {"k": thing}]}}, 0)
    assert not (tmp_path / "root").exists()


def test_a_key_is_refused_like_a_value() -> None:
    with pytest.raises(TypeError, match=r"state\.b'x': a bytes"):
        encode({b"x": 1})


def test_encode_copies_no_big_array() -> None:
    array, tensor = np.zeros(10), torch.zeros(10)
    _, arrays = encode({"a": array, "t": tensor})
    assert np.shares_memory(arrays["state.a"], array)
    assert np.shares_memory(arrays["state.t"], tensor.numpy())


def test_nothing_imports_torch_before_a_tensor_is_read(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import numpy as np
from rlrun.rundir import checkpoints
path = checkpoints.save(Path({str(tmp_path)!r}), {{"a": np.zeros(3)}}, 0)
checkpoints.load(path)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], env=ENV, check=True)


# Strictness of what is put together again.


def array_entry(**changes: Any) -> dict[str, Any]:
    return {"$": "array", "dtype": "float32", "data": "a", "shape": [2, 3]} | changes


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (array_entry(shape=[3, 2]), r"a: expected float32\[3, 2\], found float32\[2, 3\]"),
        (array_entry(shape=[6]), "expected"),
        (array_entry(dtype="float64"), "expected"),
        (array_entry(data="b"), "b: the array is missing"),
        ([array_entry(), array_entry()], "a: the array is missing"),
        (None, "a: an array that nothing refers to"),
        (array_entry(data=1), "malformed entry of type 'array'"),
        ({"$": "object", "module": "os", "name": "system"}, "malformed entry of type 'object'"),
        ({"$": "tuple", "items": {"a": 1}}, "malformed"),
        ({"$": "dict", "items": [[1]]}, "not enough values"),
        ({"$": "float", "value": "1.0"}, "malformed"),
        ({"$": "scalar", "dtype": "object", "value": 1}, "malformed"),
        ({"$": "scalar", "dtype": "float32", "value": [1.0]}, "float32 scalar cannot be"),
    ],
)
def test_decode_is_strict(plain: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(plain, {"a": np.zeros((2, 3), np.float32)})


# Which checkpoints there are.


def test_layout_and_links(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    for step in (100, 200, 300):
        assert save(root, state_at(step), step, best=step == 200) == root / f"step_{step:09d}"
    assert sorted(os.listdir(root)) == ["best", "last", "step_000000100", "step_000000200", "step_000000300"]
    assert os.readlink(root / "last") == "step_000000300"
    assert os.readlink(root / "best") == "step_000000200"
    assert sorted(os.listdir(root / "last")) == [
        *("algo.safetensors", "manifest.json", "source.safetensors", "state.json")
    ]
    assert find(root) == root / "step_000000300"
    assert find(root, "best") == root / "step_000000200"
    assert find(root, 100) == root / "step_000000100"
    assert same(load(root / "best"), state_at(200))


def test_manifest_states_size_and_hash_of_every_file(tmp_path: Path) -> None:
    directory = save(tmp_path, state_at(7), 7)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert (manifest["format"], manifest["env_steps"], manifest["rlrun"]) == (1, 7, rlrun.__version__)
    assert manifest["files"] == {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in directory.iterdir()
        if file.name != "manifest.json"
    }


def test_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    mode = (tmp_path / "ordinary").stat().st_mode
    assert {file.stat().st_mode for file in save(tmp_path, state_at(1), 1).iterdir()} == {mode}


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    a, b = (save(tmp_path / name, state_at(7), 7) for name in "ab")
    assert {file.name: file.read_bytes() for file in a.iterdir()} == {f.name: f.read_bytes() for f in b.iterdir()}


@pytest.mark.parametrize(
    ("keep_last", "kept"), [(1, [20, 60]), (2, [20, 50, 60]), (5, [20, 30, 40, 50, 60]), (0, [10, 20, 30, 40, 50, 60])]
)
def test_the_newest_and_the_best_are_kept(tmp_path: Path, keep_last: int, kept: list[int]) -> None:
    for step in (10, 20, 30, 40, 50, 60):
        save(tmp_path, {"a": step}, step, best=step == 20, keep_last=keep_last)
    assert steps(tmp_path) == kept
    assert load(find(tmp_path, "best")) == {"a": 20}


def test_the_former_best_goes_with_the_rest(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, {"a": step}, step, best=step != 30, keep_last=1)
    assert steps(tmp_path) == [20, 30]


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (999_999_999, 1_000_000_000):
        save(tmp_path, {"a": step}, step)
    assert load_latest(tmp_path, pytest.fail) == (tmp_path / "step_1000000000", {"a": 1_000_000_000})
    (tmp_path / "last").unlink()
    assert load_latest(tmp_path, pytest.fail) == (tmp_path / "step_1000000000", {"a": 1_000_000_000})


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, {"a": 1, "b": np.zeros(3)}, 10, best=True)
    save(tmp_path, {"a": 2}, 10)
    assert load(find(tmp_path, "best")) == load(find(tmp_path)) == {"a": 2}
    assert sorted(os.listdir(tmp_path)) == ["best", "last", "step_000000010"]


def test_going_back_discards_what_came_later_but_for_the_best(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, {"a": step}, step, best=step == 30, keep_last=0)
    save(tmp_path, {"a": "again"}, 15, keep_last=2)
    assert steps(tmp_path) == [10, 15, 30]
    assert load_latest(tmp_path, pytest.fail)[1] == {"a": "again"}
    flip(tmp_path / "last" / "state.json", 0)
    warnings: list[str] = []
    assert load_latest(tmp_path, warnings.append)[1] == {"a": 10}
    assert len(warnings) == 1


def test_find_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint 'last'; there are none yet"):
        find(tmp_path / "missing")
    save(tmp_path, {}, 10)
    save(tmp_path, {}, 20)
    with pytest.raises(CheckpointError, match="no checkpoint 15; there are steps 10, 20"):
        find(tmp_path, 15)
    with pytest.raises(CheckpointError, match="no checkpoint 'best'; there are steps 10, 20"):
        find(tmp_path, "best")


def test_parts_are_read_on_their_own(tmp_path: Path) -> None:
    directory = save(tmp_path, state_at(7), 7)
    flip(directory / "source.safetensors", -1)
    assert same(load(directory, ["algo"]), {"algo": state_at(7)["algo"]})
    assert load(directory, []) == {}
    with pytest.raises(CheckpointError, match=r"source\.safetensors differs"):
        load(directory)
    with pytest.raises(CheckpointError, match="has no part 'buffer', only 'algo', 'source', 'progress'"):
        load(directory, ["algo", "buffer"])


@pytest.mark.parametrize("part", ["../algo", "a b", "", ".hidden", "1st", "a.b"])
def test_a_part_must_be_a_word(tmp_path: Path, part: str) -> None:
    with pytest.raises(ValueError, match="cannot name a part"):
        save(tmp_path, {part: 1}, 0)
    assert os.listdir(tmp_path) == []


def test_a_copy_with_directories_in_place_of_links_works(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path / "run", {"a": step}, step, best=step == 10)
    root = Path(shutil.copytree(tmp_path / "run", tmp_path / "copy", symlinks=False))
    assert load(find(root)) == load(root / "last") == load_latest(root, pytest.fail)[1] == {"a": 20}
    assert load(find(root, "best")) == {"a": 10}
    save(root, {"a": 30}, 30, best=True)
    assert load(find(root)) == load(find(root, "best")) == {"a": 30}


# Damage.


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def refused(directory: Path) -> str:
    """The one line that a checkpoint is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    message = str(caught.value)
    assert message.startswith(f"{directory}: ")
    assert "\n" not in message
    return message.removeprefix(f"{directory}: ")


FILES = ["algo.safetensors", "source.safetensors", "state.json"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path, state_at(10), 10)
    return save(tmp_path, state_at(20), 20)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_named(saved: Path, name: str) -> None:
    file = saved / name
    whole = file.read_bytes()
    for position in (0, 8, len(whole) // 2, -1):
        flip(file, position)
        assert refused(saved) == f"{name} differs from its hash in the manifest"
        file.write_bytes(whole)
    for size in (0, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert refused(saved) == f"{name} has {size} bytes where the manifest says {len(whole)}"
    file.unlink()
    assert refused(saved) == f"{name} is missing"
    file.mkdir()
    assert refused(saved) == f"{name} is not a regular file"


def test_a_flipped_byte_of_the_manifest_does_no_harm(saved: Path) -> None:
    file = saved / "manifest.json"
    whole = file.read_bytes()
    harmless = 0
    for position in range(len(whole)):
        flip(file, position)
        try:
            assert same(load(saved), state_at(20))
            harmless += 1
        except CheckpointError as error:
            assert "\n" not in str(error)
        file.write_bytes(whole)
    assert harmless < len(whole) / 10  # the version number of rlrun, which is only told


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"format": 1, "env_steps": 20, "files": {}}', "\xff"])
def test_a_manifest_must_be_one(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_bytes(text.encode("latin-1"))
    refused(saved)
    (saved / "manifest.json").unlink()
    assert refused(saved) == "manifest.json is missing"


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "step_000000001") == "is no checkpoint"


def test_the_newest_intact_one_is_found(saved: Path) -> None:
    root, warnings = saved.parent, list[str]()
    save(root, state_at(30), 30)
    flip(root / "step_000000030" / "state.json", 5)
    (saved / "manifest.json").unlink()
    path, state = load_latest(root, warnings.append)
    assert path == root / "step_000000010"
    assert same(state, state_at(10))
    assert [line.count("\n") for line in warnings] == [0, 0]
    assert "step_000000030: state.json differs" in warnings[0]
    assert "step_000000020: manifest.json is missing" in warnings[1]

    shutil.rmtree(path / "..", ignore_errors=True)
    with pytest.raises(CheckpointError, match="no checkpoint that can be loaded"):
        load_latest(root, warnings.append)


def test_a_checkpoint_under_another_step_is_refused(saved: Path) -> None:
    moved = saved.rename(saved.with_name("step_000000070"))
    assert refused(moved) == "its manifest is that of step 20"
    assert same(load(moved.rename(saved.with_name("mine"))), state_at(20))


def test_a_newer_format_is_told_apart_from_damage(saved: Path) -> None:
    reseal(saved, format=3, rlrun="9.0")
    assert refused(saved) == f"written by a newer rlrun ('9.0', format 3); this is {rlrun.__version__}"


# Hostile files: whoever makes one can also make the hashes fit.


def reseal(directory: Path, **changes: Any) -> None:
    """Make the manifest fit the files."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in directory.iterdir()
        if file.name != "manifest.json"
    }
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | {"files": files} | changes))


class Payload:
    """Makes a directory when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("protocol", [0, 2, 5, "torch"])
def test_a_pickle_is_refused_and_not_run(saved: Path, tmp_path: Path, name: str, protocol: int | str) -> None:
    marker, file = tmp_path / "executed", tmp_path / "payload"
    if protocol == "torch":
        torch.save(Payload(marker), file)
        torch.load(file, weights_only=False)
    else:
        file.write_bytes(pickle.dumps(Payload(marker), int(protocol)))
        pickle.loads(file.read_bytes())
    marker.rmdir()  # the payload works
    file.rename(saved / name)
    if name != "manifest.json":
        reseal(saved)
    refused(saved)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "algo.bin",
        ".algo.safetensors",
        "algo.safetensors\n",
        "",
    ],
)
def test_names_that_lead_elsewhere_are_refused(saved: Path, name: str) -> None:
    (saved.parent / "secret.safetensors").write_bytes((saved / "algo.safetensors").read_bytes())
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["algo.safetensors"]
    reseal(saved, files=manifest["files"])
    assert refused(saved) == f"the manifest lists a file of the unexpected name {name!r}"


@pytest.mark.parametrize("entry", [None, 1, [], {}, {"bytes": 1}, {"bytes": "1", "sha256": "x"}])
def test_entries_of_the_manifest_must_be_complete(saved: Path, entry: Any) -> None:
    reseal(saved, files={"state.json": entry})
    assert refused(saved) == "the manifest does not say what state.json should be"


def test_links_that_lead_elsewhere_are_refused(saved: Path, tmp_path: Path) -> None:
    outside = save(tmp_path / "outside", state_at(66), 66)
    (saved / "state.json").unlink()
    (saved / "state.json").symlink_to(outside / "state.json")
    reseal(saved)
    assert refused(saved) == "state.json is not a regular file"

    for link in ("last", "best"):
        (tmp_path / link).unlink(missing_ok=True)
        (tmp_path / link).symlink_to(outside)
        assert refused(tmp_path / link) == "does not lead to a checkpoint beside it"
    (tmp_path / "step_000000066").symlink_to(outside)
    assert find(tmp_path) == saved
    with pytest.raises(CheckpointError, match="no checkpoint 'best'"):
        find(tmp_path, "best")
    with pytest.raises(CheckpointError, match="no checkpoint 66"):
        find(tmp_path, 66)


@pytest.mark.parametrize("name", ["state.json", "manifest.json"])
@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[" * 5000 + "]" * 5000])
def test_bottomless_data_are_refused(saved: Path, name: str, text: str) -> None:
    (saved / name).write_text(text)
    if name == "state.json":
        reseal(saved)
    assert refused(saved) == "its data are nested too deeply"


@pytest.mark.parametrize(
    "text", ['{"progress": NaN}', '{"progress": -Infinity}', "[1]", '"algo"', '{"progress": ' + "9" * 5000 + "}"]
)
def test_data_that_were_not_written_by_us_are_refused(saved: Path, text: str) -> None:
    (saved / "state.json").write_text(text)
    reseal(saved)
    refused(saved)


def test_messages_do_not_pass_on_what_a_terminal_would_obey(saved: Path) -> None:
    entry = array_entry(data="\x1b]0;owned\x07" + "x" * 10_000)
    (saved / "state.json").write_text(json.dumps({"progress": entry}))
    reseal(saved)
    message = refused(saved)
    assert message.startswith("]0;ownedxxx")
    assert len(message) == 300


def test_dtypes_that_numpy_lacks_are_refused(saved: Path) -> None:
    save_torch_file({"algo.weights": torch.zeros(2, dtype=torch.float8_e5m2)}, saved / "algo.safetensors")
    reseal(saved)
    refused(saved)


def test_any_change_of_the_data_is_refused_or_harmless(saved: Path) -> None:
    """Data with one value replaced by another load or are refused in one line; nothing else happens."""
    draw = random.Random(0)
    state = json.loads((saved / "state.json").read_text())
    values = [None, -1, 1e308, "", "object", [], [1], {}, {"$": "int", "hex": "x"}, {"$": None}, "uint8", 2**70]

    def mutate(node: Any) -> None:
        key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if isinstance(node[key], (dict, list)) and node[key] and draw.random() < 0.8:
            mutate(node[key])
        else:
            node[key] = draw.choice(values)

    outcomes = collections.Counter[bool]()
    for _ in range(300):
        changed = json.loads(json.dumps(state))
        mutate(changed)
        (saved / "state.json").write_text(json.dumps(changed))
        reseal(saved)
        try:
            load(saved)
            outcomes[True] += 1
        except CheckpointError as error:
            outcomes[False] += 1
            assert "\n" not in str(error)
    assert min(outcomes[True], outcomes[False]) > 20


# Failure to write.


def test_a_full_disk_leaves_the_old_checkpoints(saved: Path) -> None:
    root = saved.parent
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (100, 50_000):  # too little for the plain data; too little for the weights
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(SaveError, match=r"step 30 was not saved: .*File too large") as caught:
                save(root, state_at(30) | {"text": "long" * 100}, 30)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.exit_code == 1
        assert "\n" not in str(caught.value)
        assert sorted(path.relative_to(root) for path in root.rglob("*")) == before
    assert same(load_latest(root, pytest.fail)[1], state_at(20))


def test_everything_is_synced_before_it_is_named_and_named_before_anything_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, state_at(10), 10)
    log: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def note(descriptor: int) -> None:
        log.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.partition("-")[0])
        fsync(descriptor)

    def move(act: Callable[..., None], source: Path, target: Path) -> None:
        log.append("name " + Path(target).name.partition("-")[0])
        act(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "rename", lambda source, target: move(rename, source, target))
    monkeypatch.setattr(os, "replace", lambda source, target: move(replace, source, target))
    save(tmp_path, state_at(20), 20, keep_last=1)
    named = log.index("name step_000000020")
    assert sorted(log[: named - 1]) == [f"sync {name}" for name in sorted([*FILES, "manifest.json"])]
    assert log[named - 1 :] == [
        *("sync .tmp", "name step_000000020", "name last", f"sync {tmp_path.name}", "name .trash")
    ]


def test_ctrl_c_while_saving_leaves_the_old_checkpoints(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.numpy.save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(saved.parent, state_at(30), 30)
    assert sorted(os.listdir(saved.parent)) == ["last", "step_000000010", "step_000000020"]


def test_leftovers_of_dead_processes_go(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for purpose in ("tmp", "trash"):
        (tmp_path / f".{purpose}-{dead.pid}-abcd" / "inner").mkdir(parents=True)
    (tmp_path / f".tmp-{dead.pid}-link").symlink_to("step_000000001")
    living = tmp_path / f".tmp-{os.getppid()}-abcd"
    living.mkdir()
    save(tmp_path, {}, 1)
    assert sorted(os.listdir(tmp_path)) == [living.name, "last", "step_000000001"]
    os.utime(living, (0, 0))
    save(tmp_path, {}, 2)
    assert sorted(os.listdir(tmp_path)) == ["last", "step_000000001", "step_000000002"]


EVERYWHERE = """
import json, os, shutil, sys
from pathlib import Path
import numpy as np
from rlrun.blocks import Block
from rlrun.rundir.checkpoints import find, load, load_latest, save

EVENTS = {"open", "os.rename", "os.mkdir", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod"}
base, same_step, earlier = Path(sys.argv[1]), sys.argv[2] == "same", json.loads(sys.argv[3])

os.fsync = lambda descriptor: None  # what a killed process wrote is there without it

still = Block(lambda: {"x": np.arange(1000)})  # in every state as it was

def state(step, version):
    progress = {"env_steps": step, "version": version}
    blocks = [still, Block(lambda: {"x": np.full(1000, step)})]
    return {"algo": {"w": np.full(1000, step), "v": np.array(version)}, "progress": progress, "replay": blocks}

def version_of(loaded):
    step, version = loaded["progress"]["env_steps"], loaded["progress"]["version"]
    assert (loaded["algo"]["w"] == step).all() and loaded["algo"]["v"] == version
    first, second = (block.contents()["x"] for block in loaded["replay"])
    assert (first == np.arange(1000)).all() and (second == step).all()
    return step, version

def no_warning(line):
    raise AssertionError(line)

def killed_at(root, k):
    pid = os.fork()
    if pid == 0:
        seen = 0
        def hook(event, args):
            nonlocal seen
            seen += event in EVENTS
            if seen == k:
                os._exit(9)
        sys.addaudithook(hook)
        save(root, state(new, 2), new, best=True, keep_last=2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9

new = earlier[-1] + (0 if same_step else 10)
seen, k, killed = set(), 0, True
while killed:
    k += 1
    root = base / str(k)
    for step in earlier:
        save(root, state(step, 1), step, best=True)
    killed = killed_at(root, k)
    for read in (lambda: load_latest(root, no_warning)[1], lambda: load(find(root)), lambda: load(find(root, "best"))):
        seen.add(version_of(read()))
    save(root, state(new + 10, 3), new + 10, best=True, keep_last=1)
    assert version_of(load_latest(root, no_warning)[1]) == (new + 10, 3)
    assert sorted(os.listdir(root)) == ["best", "last", f"step_{new + 10:09d}"], os.listdir(root)
    assert (root / "last" / "replay.0000.safetensors").stat().st_nlink == 1
    shutil.rmtree(root)
    still.seal = None
print(json.dumps([k, sorted(seen)]))
"""


@pytest.mark.parametrize(
    ("kind", "earlier", "loadable"),
    [
        ("new", [10, 20], [[20, 1], [30, 2]]),
        ("same", [10, 20], [[20, 1], [20, 2]]),
        ("same", [20], [[20, 1], [20, 2]]),
    ],
)
def test_killed_at_every_system_call(tmp_path: Path, kind: str, earlier: list[int], loadable: list[list[int]]) -> None:
    """However far a save came, the old or the new state loads, undamaged, and the next save cleans up."""
    command = [sys.executable, "-c", EVERYWHERE, str(tmp_path), kind, json.dumps(earlier)]
    process = subprocess.run(command, env=ENV, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    kills, seen = json.loads(process.stdout)
    assert kills > 20
    assert seen == loadable


FOREVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from rlrun.rundir.checkpoints import load_latest, save

root = Path(sys.argv[1])
start = load_latest(root, print)[1]["progress"]["env_steps"]
for step in itertools.count(start + 10, 10):
    state = {
        "algo": {"weights": np.full(20_000, step, np.float32), "n": step},
        "source": {"obs": [np.full((3, 7), step, np.int64)]},
        "progress": {"env_steps": step},
    }
    for _ in range(1 + step // 10 % 2):
        save(root, state, step, best=step % 70 == 0)
    print(step, flush=True)
"""


def test_killed_at_random_moments(tmp_path: Path) -> None:
    draw = random.Random(0)
    save(tmp_path, state_at(0), 0, best=True)
    progress = [0]
    for _ in range(15):
        command = [sys.executable, "-c", FOREVER, str(tmp_path)]
        process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        reported = int(process.stdout.readline())
        try:
            process.wait(draw.uniform(0, 0.08))
        except subprocess.TimeoutExpired:
            process.kill()
        rest = process.communicate()[0].split()
        reported = max([reported, *map(int, rest)])
        state = load_latest(tmp_path, pytest.fail)[1]
        step = state["progress"]["env_steps"]
        assert same(state, state_at(step))
        assert step in (reported, reported + 10)
        assert load(find(tmp_path, "best"))["progress"]["env_steps"] % 70 == 0
        progress.append(step)
    assert progress == sorted(set(progress))
    assert process.returncode == -9


def test_a_seed_tree_needs_no_special_care(tmp_path: Path) -> None:
    rng = SeedTree(5).generator(Role.BUFFER)
    state = {"rng": generator_state(rng)}
    assert same(load(save(tmp_path, state, 0)), state)


# While the run goes on, and states that were altered.


def test_the_newest_intact_checkpoint_stands_for_a_damaged_last(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, {"algo": {"step": step}}, step)
    (tmp_path / "step_000000002" / "state.json").write_text("{}")
    said: list[str] = []
    path, state = checkpoints.load_named(tmp_path, "last", ["algo"], said.append)
    assert path.name == "step_000000001" and state == {"algo": {"step": 1}}
    assert len(said) == 1 and "damaged checkpoint skipped" in said[0]
    with pytest.raises(CheckpointError, match=r"state\.json has 2 bytes"):  # a step is that one or nothing
        checkpoints.load_named(tmp_path, 2, None, said.append)


def test_last_can_be_read_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run saves and deletes the one before, at the very moment when that is read."""
    save(tmp_path, {"algo": {"step": 1}}, 1)
    steps = iter(range(2, 7))
    read = checkpoints._read_manifest

    def replaced_meanwhile(path: Path) -> dict[str, Any]:
        listed = read(path)
        if (step := next(steps, None)) is not None:
            save(tmp_path, {"algo": {"step": step}}, step, keep_last=1, best=True)
        return listed

    monkeypatch.setattr(checkpoints, "_read_manifest", replaced_meanwhile)
    said: list[str] = []
    assert checkpoints.load_named(tmp_path, "last", None, said.append)[1] == {"algo": {"step": 6}}
    steps = iter([7, 8])
    assert checkpoints.load_named(tmp_path, "best", None, said.append)[1] == {"algo": {"step": 8}}
    assert said == []


OWN = {
    "count": 3,
    "share": 0.5,
    "on": True,
    "name": "x",
    "weights": np.zeros((2, 3), np.float32),
    "tensor": torch.zeros(2),
    "items": [1, "a"],
    "inner": {"env_steps": 0},
    "unknown": None,
}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("count", "3", "state.count is str '3', not int 3"),
        ("count", math.nan, "state.count is float nan, not int 3"),
        ("count", True, "state.count is bool True, not int 3"),
        ("count", 3.0, "state.count is float 3.0, not int 3"),
        ("share", "x", "state.share is str 'x', not float 0.5"),
        ("share", [0.5], "state.share is list, not float 0.5"),
        ("on", 1, "state.on is int 1, not bool True"),
        ("name", 1, "state.name is int 1, not str 'x'"),
        ("weights", np.zeros((2, 3), np.float64), "state.weights is 2-dimensional float64, not 2-dimensional float32"),
        ("weights", np.zeros(6, np.float32), "state.weights is 1-dimensional float32"),
        ("weights", [[0.0]], "state.weights is list"),
        ("tensor", torch.zeros(2, dtype=torch.int64), "state.tensor is 1-dimensional torch.int64"),
        ("items", {"0": 1}, "state.items is dict, not list"),
        ("items", ["a", 1], "state.items.0 is str 'a', not int 1"),
        ("inner", [], "state.inner is list, not dict"),
        ("inner", {"env_steps": math.nan}, "state.inner.env_steps is float nan, not int 0"),
    ],
)
def test_a_state_of_other_kinds_is_refused(key: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        checkpoints.must_resemble(OWN | {key: value}, OWN)


def test_a_state_may_be_of_another_size() -> None:
    others = {"count": 10, "share": 1, "weights": np.ones((5, 0), np.float32), "items": [2, "b", 3.0], "unknown": [1]}
    checkpoints.must_resemble(OWN | others | {"more": 1}, OWN)
    checkpoints.must_resemble({}, OWN)


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), KeyError("x"), TypeError("x"), RuntimeError(""), OSError(5)]
)
def test_whatever_a_part_trips_over_is_a_line(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match="not a state of this run's config: ") as caught,
        checkpoints.must_fit(tmp_path),
    ):
        raise error
    assert "\n" not in str(caught.value)
