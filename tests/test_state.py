"""State by declaration: every kind of attribute comes back, in place where others may hold it."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from rlrun import state
from rlrun.rundir.codec import decode, encode
from rlrun.state import Stateful


class Counter(Stateful):
    state = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Everything(Stateful):
    state = ("counter", "layer", "table", "scalar", "weights", "rng", "stream", "tables", "pair", "window", "_plain")

    def __init__(self, seed: int = 0):
        self.counter = Counter()
        self.layer = torch.nn.Linear(2, 1)
        self.table = np.zeros((2, 3))
        self.scalar = np.zeros(())
        self.weights = torch.zeros(2)
        self.rng = np.random.default_rng(seed)
        self.stream = torch.Generator().manual_seed(seed)
        self.tables = {"a": np.zeros(2), "b": np.zeros(1, np.int64)}
        self.pair = (np.zeros(1), Counter())
        self.window: deque[float] = deque(maxlen=2)
        self._plain: Any = None

    def live(self) -> Everything:
        self.counter.count += 3
        with torch.no_grad():
            self.layer.weight += 1
            self.weights += 0.5
        self.table[0, 1], self.scalar[...] = 7, 8
        self.rng.random(5), torch.rand(5, generator=self.stream)
        self.tables["a"][1], self.tables["b"][0] = 2, 3
        self.pair[0][0], self.pair[1].count = 4, 5
        self.window.extend([1.0, 2.0, 3.0])
        self._plain = {"waiting": [None, (1, 2.5)], "residual": np.inf, "name": "x", "on": True}
        return self


def through_a_file(saved: Any) -> Any:
    return decode(*encode(saved))


def test_everything_comes_back() -> None:
    one, other = Everything().live(), Everything(seed=9)
    other.load_state_dict(through_a_file(one.state_dict()))
    assert other.counter.count == 3
    assert torch.equal(other.layer.weight, one.layer.weight)
    assert other.table.tolist() == [[0, 7, 0], [0, 0, 0]]
    assert other.scalar == 8
    assert other.weights.tolist() == [0.5, 0.5]
    assert other.rng.random() == one.rng.random()
    assert torch.equal(torch.rand(3, generator=other.stream), torch.rand(3, generator=one.stream))
    assert other.tables["a"].tolist() == [0, 2]
    assert other.tables["b"].tolist() == [3]
    assert (other.pair[0].tolist(), other.pair[1].count) == ([4], 5)
    assert list(other.window) == [2, 3]
    assert other.window.maxlen == 2
    assert other._plain == {"waiting": [None, (1, 2.5)], "residual": np.inf, "name": "x", "on": True}


def test_an_underscore_is_no_part_of_the_entry_s_name() -> None:
    assert list(Everything().state_dict())[-2:] == ["window", "plain"]


def test_what_others_hold_is_put_back_in_place() -> None:
    one = Everything()
    names = ("counter", "layer", "table", "scalar", "weights", "rng", "stream", "tables", "window")
    before = {name: getattr(one, name) for name in names} | {"first": one.pair[0], "a": one.tables["a"]}
    one.load_state_dict(Everything().live().state_dict())
    after = {name: getattr(one, name) for name in names} | {"first": one.pair[0], "a": one.tables["a"]}
    assert all(before[name] is after[name] for name in before)


def test_a_saved_state_does_not_move_with_what_it_was_taken_of() -> None:
    one = Everything().live()
    saved = one.state_dict()
    del saved["layer"]  # a module's is its own
    kept = encode(saved)
    plain, arrays = kept[0], {name: array.copy() for name, array in kept[1].items()}
    one.live()
    one._plain["waiting"].append(1)
    plain_now, arrays_now = encode(saved)
    assert plain_now == plain
    assert all(np.array_equal(arrays[name], arrays_now[name]) for name in arrays)


def test_and_what_goes_on_does_not_move_with_the_state() -> None:
    saved = Everything().live().state_dict()
    one = Everything()
    one.load_state_dict(saved)
    saved["plain"]["waiting"].clear()
    saved["table"][:] = 0
    assert one._plain["waiting"] == [None, (1, 2.5)]
    assert one.table[0, 1] == 7


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("table", np.zeros((3, 2)), r"Everything.table: an array of shape \(3, 2\) was saved, expected \(2, 3\)"),
        ("table", np.zeros(3), "an array of shape"),  # would broadcast
        ("weights", torch.zeros(1), r"Everything.weights: a tensor of shape \(1,\) was saved, expected \(2,\)"),
        ("pair", (np.zeros(1),), "Everything.pair: "),
    ],
)
def test_another_shape_is_refused(name: str, entry: Any, message: str) -> None:
    saved = Everything().state_dict() | {name: entry}
    with pytest.raises(ValueError, match=message):
        Everything().load_state_dict(saved)


def test_a_missing_entry_is_refused() -> None:
    saved = Everything().state_dict()
    del saved["tables"]["b"]
    with pytest.raises(KeyError, match="b"):
        Everything().load_state_dict(saved)


def test_what_has_no_state_is_named() -> None:
    one = Everything()
    one._plain = {"deep": [object()]}
    with pytest.raises(TypeError, match=r"Everything\._plain: a object has no state"):
        one.state_dict()


def test_overwrite_of_a_number() -> None:
    array = np.zeros(())
    state.overwrite(array, np.array(3.0))
    assert array == 3
