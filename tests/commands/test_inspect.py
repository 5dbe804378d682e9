"""`rlrun inspect`: hand-made tables as text, a picture, and the real command on what a checkpoint holds."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Rlrun

from rlrun.envs.gridworlds import Grid
from rlrun.report.learned import Table, draw, listing, overview, policy_map, text, value_map
from rlrun.rundir import checkpoints

GRID = Grid(np.array([[*"S.#"], [*".HG"]]), "↑→↓←")


def table(q: list[list[float]]) -> Table:
    array = np.array(q, float)
    return Table(array, array.argmax(axis=1), np.ptp(array, axis=1) > 0)


SIX = table([[0, 0.5, 0.25, 0], [1.25, 1, 1, 1], [9, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 9], [9, 0, 0, 0]])


def test_a_grid_world_is_two_maps() -> None:
    """An arrow for the best action, a dot where all are equal, a letter where nobody acts whatever the table says."""
    assert policy_map(SIX, GRID) == "  → ↑ #\n  · H G"
    assert value_map(SIX, GRID) == "  0.5000  1.2500       #\n  0.0000       H       G"
    assert text(SIX, GRID) == f"policy\n\n{policy_map(SIX, GRID)}\n\nvalue\n\n{value_map(SIX, GRID)}"


@pytest.mark.parametrize(
    ("columns", "value", "shown"), [(12, -13.04, "-13.0"), (12, 0.123, "0.123"), (19, -13.04, "-13")]
)
def test_values_take_the_decimals_that_fit_into_80_columns(columns: int, value: float, shown: str) -> None:
    wide = Grid(np.full((2, columns), "."), "↑→↓←")
    lines = value_map(table([[value, -1000]] * (2 * columns)), wide).split("\n")
    assert [line.split() for line in lines] == [[shown] * columns] * 2
    assert max(map(len, lines)) <= 80


def test_a_map_that_is_too_wide_for_numbers_says_so() -> None:
    wide = Grid(np.full((2, 40), "."), "↑→↓←")
    assert value_map(table([[5, 0]] * 80), wide) == "  (the map is too wide for numbers)"


def test_few_states_have_a_line_each() -> None:
    expected = """\
  state  action 0   action 1
      0         1*      -0.5
      1         0          0
      2     1e-05      0.333*"""
    assert listing(table([[1, -0.5], [0, 0], [1e-5, 1 / 3]])) == expected


def test_many_states_are_counted() -> None:
    expected = """\
  4 states, 3 actions; 3 states prefer an action
  their values: 1 to 5, mean 3

  action    played in    value there
       0            2              2
       1            0              -
       2            1              5"""
    assert overview(table([[1, 0, 0], [3, 0, 0], [0, 0, 5], [7, 7, 7]])) == expected
    assert overview(table([[0, 0]] * 30)) == "  30 states, 2 actions; 0 states prefer an action"


@pytest.mark.parametrize(("states", "actions", "header"), [(20, 6, "  state"), (21, 6, "  21 st"), (20, 7, "  20 st")])
def test_a_listing_keeps_to_80_columns_and_20_lines(states: int, actions: int, header: str) -> None:
    shown = text(table([[-1.23456e-10] * actions] * states), None)
    assert shown.startswith(header)
    assert max(map(len, shown.split("\n"))) <= 80


def test_without_matplotlib_there_is_a_line_instead_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.WARNING):
        assert not draw(tmp_path / "figures" / "values.png", "title", SIX, GRID)
    assert [record.getMessage() for record in caplog.records] == [
        "no picture: matplotlib is not installed; get it with `pip install 'rlrun[plot]'`"
    ]
    assert [*tmp_path.iterdir()] == []


def test_a_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "figures" / "values.png"
    assert draw(path, "title", SIX, GRID)
    height, width, _ = image.imread(path).shape
    assert height > 100 and width > 100


def test_the_command_shows_what_the_checkpoint_holds(rlrun: Rlrun, tmp_path: Path) -> None:
    rlrun("algo=value_iteration", "env=frozenlake", "+smoke=on", "checkpoint.freq=100", "hydra.run.dir=run")
    shown = rlrun("inspect", "run", "picture=false").stdout
    state = checkpoints.load(checkpoints.find(tmp_path / "run" / "checkpoints", "last"), ["algo"])["algo"]
    values = state["q"].max(axis=1).reshape(4, 4)
    assert shown.startswith("value_iteration on FrozenLake-v1 after 500 steps\n")
    assert "  ← ↑ ↑ ↑\n  ← H ← H\n  ↑ ↓ ← H\n  H → ↓ G\n" in shown
    assert f"{values[0, 0]:.4f}" == shown.split("value\n")[1].split()[0]
    assert max(map(len, shown.split("\n"))) <= 80
    assert not [*(tmp_path / "run" / "figures").glob("*_values.png")]
    assert "after 400 steps" in rlrun("inspect", "run", "ckpt=400", "picture=false").stdout


def test_a_run_without_a_table_is_told_which_have_one(rlrun: Rlrun) -> None:
    rlrun("algo=random", "env=frozenlake", "+smoke=on", "hydra.run.dir=run")
    refused = rlrun("inspect", "run", code=2).stderr
    assert refused.startswith("rlrun: inspect: random keeps no table to show\nthese do: ")
    assert "q_learning" in refused and len(refused.strip().split("\n")) == 2


@pytest.mark.parametrize("algo", ["thompson", "eps_greedy", "gradient_bandit"])
def test_a_bandit_shows_what_it_plays_from(algo: str, rlrun: Rlrun) -> None:
    rlrun(f"algo={algo}", "env=bandit/bernoulli", "+smoke=on", "hydra.run.dir=run")
    shown = rlrun("inspect", "run").stdout
    assert "action 4" in shown and "*" in shown
