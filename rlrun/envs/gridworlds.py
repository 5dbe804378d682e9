"""Grid worlds: mazes with a known model, and how any grid world is laid out, for those who draw it.

import rlrun.envs.gridworlds
gymnasium.make("rlrun/Maze-v0", desc=["S.#", "..G"])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete

from rlrun.errors import ConfigError
from rlrun.types import Array, StateDict, TransitionModel

# The maze of Sutton & Barto 2018, figure 8.2; its shortest way takes 14 steps.
DYNA_MAZE = [
    ".......#G",
    "..#....#.",
    "S.#....#.",
    "..#......",
    ".....#...",
    ".........",
]
START, GOAL, WALL, FREE = "SG#."
COLOURS = {START: (120, 160, 220), GOAL: (110, 190, 110), WALL: (70, 70, 70), FREE: (245, 245, 245)}
AGENT = (210, 80, 60)
CELL = 32  # pixels


class MazeEnv(gym.Env):
    """A maze without chance: reward 1 on reaching a goal, which ends the episode, and 0 for every other step.

    Observations number the cells row by row. Actions go up, right, down, left; a wall or the edge leaves one in place.
    `P` is the model in Gymnasium's form; in a goal or a wall, where one never acts, it stays there.

    Args:
        desc: the map: one S (start), at least one G (goal), # (wall) and . (free).

    Raises:
        ConfigError: the map is not such a rectangle.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012  Gymnasium's own form
    arrows = "↑→↓←"  # where the actions lead

    def __init__(self, desc: Sequence[str] | None = None, render_mode: str | None = None):
        self.desc = check_map(DYNA_MAZE if desc is None else desc)
        self.render_mode = render_mode
        self.P = maze_model(self.desc)
        self.observation_space, self.action_space = Discrete(self.desc.size), Discrete(4)
        self._start = int((self.desc == START).argmax())
        self._s = self._start

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self._s = self._start
        return self._s, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        ((_, self._s, reward, terminated),) = self.P[self._s][action]
        return self._s, reward, terminated, False, {}

    def render(self) -> Any:
        """The map with the agent in it: text, its cell marked @, or a picture [height, width, 3] uint8."""
        if self.render_mode == "ansi":
            cells = self.desc.copy()
            cells.flat[self._s] = "@"
            return "\n".join("".join(row) for row in cells)
        picture = np.array([[COLOURS[cell] for cell in row] for row in self.desc], np.uint8)
        picture = picture.repeat(CELL, axis=0).repeat(CELL, axis=1)
        top, left = (CELL * int(i) + CELL // 4 for i in np.unravel_index(self._s, self.desc.shape))
        picture[top : top + CELL // 2, left : left + CELL // 2] = AGENT
        return picture

    def state_dict(self) -> StateDict:
        return {"s": self._s}

    def load_state_dict(self, state: StateDict) -> None:
        self._s = state["s"]


def check_map(desc: Sequence[str]) -> Array:
    """A map as an array [rows, columns] of single characters; ConfigError if it is none."""
    key = "env.kwargs.desc"
    if len({len(row) for row in desc}) != 1 or not desc[0]:
        raise ConfigError(key, "all rows of a map must have the same length")
    cells = np.array([list(row) for row in desc])
    strange = sorted(set(cells.flat) - set(COLOURS))
    if strange:
        raise ConfigError(key, f"a map has no {str(strange[0])!r}", "S is the start, G a goal, # a wall, . free")
    if (cells == START).sum() != 1 or not (cells == GOAL).any():
        raise ConfigError(key, "a map needs one start S and at least one goal G")
    return cells


def maze_model(cells: Array) -> TransitionModel:
    """`model[state][action]` of a maze with these cells [rows, columns]."""
    rows, columns = cells.shape

    def outcome(s: int, down: int, right: int) -> tuple[float, int, float, bool]:
        if cells.flat[s] in (GOAL, WALL):
            return 1.0, s, 0.0, True
        row, column = s // columns + down, s % columns + right
        blocked = not (0 <= row < rows and 0 <= column < columns) or cells[row, column] == WALL
        after = s if blocked else row * columns + column
        goal = cells.flat[after] == GOAL
        return 1.0, after, float(goal), bool(goal)

    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    return {s: {a: [outcome(s, *move)] for a, move in enumerate(moves)} for s in range(cells.size)}


class Grid(NamedTuple):
    """How a grid world is laid out."""

    cells: Array  # [rows, columns] of single characters; states number them row by row
    arrows: str  # where each action leads, one of ↑ → ↓ ← each

    def is_passable(self, cell: str) -> bool:
        """Whether an agent acts in such a cell, rather than finding a wall or the end there."""
        return cell not in "GH#C"


def grid(env: gym.Env) -> Grid | None:
    """The layout of a grid world: of one with `desc` and `arrows` like MazeEnv's, and of Gymnasium's own two.

    Letters are S (start), G (goal), H (hole), C (cliff), # (wall); any other is free. None if it is not one.
    """
    inner: Any = env.unwrapped
    name = env.spec.id if env.spec else ""
    if name.startswith("CliffWalking"):
        cells = np.full(inner.shape, FREE)
        cells[-1] = [START, *["C"] * (cells.shape[1] - 2), GOAL]
        return Grid(cells, MazeEnv.arrows)
    if name.startswith("FrozenLake"):
        return Grid(inner.desc.astype(str), "←↓→↑")
    if hasattr(inner, "desc") and hasattr(inner, "arrows"):
        return Grid(np.asarray(inner.desc).astype(str), inner.arrows)
    return None


if "rlrun/Maze-v0" not in gym.registry:
    # a random walk takes some 1500 steps to the goal; a policy that goes in circles never gets there
    gym.register("rlrun/Maze-v0", entry_point=f"{__name__}:MazeEnv", max_episode_steps=5000)
