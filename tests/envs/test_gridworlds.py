"""The maze's map, moves, model and pictures, and how grid worlds are laid out."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlrun.envs.gridworlds import MazeEnv, grid
from rlrun.envs.state import prove
from rlrun.errors import ConfigError

UP, RIGHT, DOWN, LEFT = range(4)
SMALL = ["S.#", "..G"]  # states 0 1 2, 3 4 5


def test_moves_walls_edges_and_the_goal() -> None:
    env = MazeEnv(SMALL)
    assert env.reset() == (0, {})
    actions = [UP, LEFT, RIGHT, RIGHT, DOWN, DOWN, LEFT, UP, DOWN, RIGHT]
    for action, cell in zip(actions, [0, 0, 1, 1, 4, 4, 3, 0, 3, 4], strict=True):
        assert env.step(action) == (cell, 0.0, False, False, {})
    assert env.step(RIGHT) == (5, 1.0, True, False, {})


def test_the_model_is_what_happens() -> None:
    env = MazeEnv()
    for s, actions in env.P.items():
        if env.desc.flat[s] in "#G":
            assert all(outcome == [(1.0, s, 0.0, True)] for outcome in actions.values())
            continue
        for a, outcome in actions.items():
            env.load_state_dict({"s": s})
            after, reward, terminated, _, _ = env.step(a)
            assert outcome == [(1.0, after, reward, terminated)]


def test_the_maze_of_the_book() -> None:
    env = MazeEnv()
    assert (env.desc.shape, (env.desc == "#").sum(), env.reset()[0]) == ((6, 9), 7, 18)
    way = [DOWN] * 2 + [RIGHT] * 4 + [UP] + [RIGHT] * 4 + [UP] * 3  # 18 -> 36 -> 40 -> 31 -> 35 -> 8
    assert [env.step(a)[1] for a in way] == [0.0] * 13 + [1.0]


def test_gymnasium_accepts_it_and_it_can_be_saved_in_mid_episode() -> None:
    check_env(gym.make("rlrun/Maze-v0", render_mode="rgb_array").unwrapped)
    assert prove(lambda: gym.make("rlrun/Maze-v0")).reason == ""


def test_pictures() -> None:
    env = gym.make("rlrun/Maze-v0", desc=SMALL, render_mode="ansi")
    env.reset()
    env.step(RIGHT)
    assert env.render() == "S@#\n..G"
    picture = MazeEnv(SMALL, render_mode="rgb_array")
    picture.reset()
    before = picture.render()
    picture.step(DOWN)
    changed = np.argwhere((before != picture.render()).any(axis=-1))
    assert (before.shape, before.dtype) == ((64, 96, 3), np.uint8)
    assert [*changed.min(axis=0), *changed.max(axis=0)] == [8, 8, 55, 23], "cells 0 and 3, no other"


@pytest.mark.parametrize(
    ("desc", "answer"),
    [
        (["S.", "G"], "same length"),
        ([], "same length"),
        ([""], "same length"),
        (["SxG"], "no 'x'"),
        (["..G"], "one start"),
        (["SSG"], "one start"),
        (["S.."], "goal"),
    ],
)
def test_a_map_that_is_none(desc: list[str], answer: str) -> None:
    with pytest.raises(ConfigError, match=answer) as error:
        MazeEnv(desc)
    assert error.value.key == "env.kwargs.desc"


def test_layouts() -> None:
    lake = grid(gym.make("FrozenLake-v1", desc=["SF", "HG"]))
    assert lake is not None and lake.cells.tolist() == [["S", "F"], ["H", "G"]] and lake.arrows == "←↓→↑"
    cliff = grid(gym.make("CliffWalking-v1"))
    assert cliff is not None and "".join(cliff.cells[3]) == "SCCCCCCCCCCG" and set(cliff.cells[:3].flat) == {"."}
    maze = grid(gym.make("rlrun/Maze-v0", desc=SMALL))
    assert maze is not None and maze.cells.tolist() == [[*"S.#"], [*"..G"]] and maze.arrows == "↑→↓←"
    assert grid(gym.make("Taxi-v4")) is None
    assert grid(gym.make("CartPole-v1")) is None


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1", "rlrun/Maze-v0"])
def test_arrows_point_where_the_actions_lead(env_id: str) -> None:
    options = {"is_slippery": False} if env_id.startswith("Frozen") else {}
    env = gym.make(env_id, **options)
    layout = grid(env)
    assert layout is not None
    move = {"↑": (-1, 0), "→": (0, 1), "↓": (1, 0), "←": (0, -1)}
    shape = layout.cells.shape
    inner = [(0, 4), (1, 1), (2, 3)] if shape[1] > 4 else [(1, 2), (2, 1)]
    for place in inner:
        for action, arrow in enumerate(layout.arrows):
            ((_, after, _, _),) = env.unwrapped.P[int(np.ravel_multi_index(place, shape))][action]
            expected = np.add(place, move[arrow])
            if (expected >= 0).all() and layout.is_passable(layout.cells[tuple(expected)]):
                assert np.unravel_index(after, shape) == tuple(expected)
