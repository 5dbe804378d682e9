"""Spaces come back from what was written down of them, and from nothing that is none."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlrun.envs.recorded import NotRecorded, describe, rebuild

SPACES = [
    spaces.Discrete(5, start=-2),
    spaces.Box(-np.inf, np.inf, (3,)),
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, 2.5], np.float32)),
    spaces.Box(-(2**62), 2**62 - 1, (1,), np.int64),
    spaces.MultiDiscrete([2, 3], start=[1, 0]),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11))),
    spaces.Dict(b=spaces.Box(0, 1, (2,), np.float64), a=spaces.Dict(x=spaces.Discrete(3))),
    gym.make("CartPole-v1").observation_space,
    gym.make("Pendulum-v1").observation_space,
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_comes_back_through_strict_json(space: gym.Space) -> None:
    text = json.dumps(describe(space), allow_nan=False)
    assert len(text) < 500, "images, too, have few bounds"
    found = rebuild(json.loads(text))
    assert found == space and found.dtype == space.dtype
    if isinstance(space, spaces.Dict):
        assert list(found) == list(space), "the order of its fields is the order of what is learned from"


def test_a_space_without_a_fixed_form_is_refused() -> None:
    with pytest.raises(NotRecorded, match="Text"):
        describe(spaces.Dict(a=spaces.Text(5)))


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        {},
        {"kind": "Graph"},
        {"kind": "Box", "shape": [10**12], "dtype": "float32", "low": 0, "high": 1},
        {"kind": "Box", "shape": [-1], "dtype": "float32", "low": 0, "high": 1},
        {"kind": "Box", "shape": [2], "dtype": "O", "low": 0, "high": 1},
        {"kind": "Box", "shape": [2], "dtype": "float32", "low": [1, 2, 3], "high": 1},
        {"kind": "Box", "shape": [2], "dtype": "float32", "low": "x", "high": 1},
        {"kind": "Discrete", "n": -1, "start": 0, "dtype": "int64"},
        {"kind": "Discrete", "n": 2, "start": 0, "dtype": "V3"},
        {"kind": "MultiBinary", "shape": [10**9, 10**9]},
        {"kind": "Dict", "spaces": [["a"]]},
        {"kind": "Dict", "spaces": "ab"},
    ],
    ids=repr,
)
def test_what_is_no_space_is_refused(data: Any) -> None:
    with pytest.raises(NotRecorded):
        rebuild(data)
