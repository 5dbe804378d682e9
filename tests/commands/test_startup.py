"""What a start costs: help, lists, completion and config errors do not import torch, nor a run the compiler."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from rlrun.commands import table
from rlrun.lazy import StandIn, deferred

# Runs the commands in one process in which importing torch is an error whose traceback names who did it.
WITHOUT_TORCH = """
import sys, traceback
from rlrun import cli

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            traceback.print_stack()
            print("torch is imported", file=sys.stderr)
            raise SystemExit(99)

sys.meta_path.insert(0, NoTorch())
for line in sys.stdin.read().splitlines():
    if not line:
        assert "numpy" not in sys.modules, "NumPy is imported, a tenth of a second, although nothing is computed"
        continue
    code, words = line.split(" ", 1)
    found = cli.main(words.split())
    assert found == int(code), f"{words}: exit {found}, wanted {code}"

sys.meta_path.pop(0)
assert cli.main(["algo=ppo", "env=cartpole", "+smoke=on"]) == 0
assert "torch._inductor" not in sys.modules, "the compiler is imported, a second, although nothing is compiled"
"""

COMMANDS = """
0 --version
0 --help
0 --help algo=ppo env=pendulum
0 list
0 list algo
0 eval --help
0 -sc query=bash
0 --cfg job
2 algo=dqm
2 algo=dqn algo.gama=0.9
2 algo=dqn algo.gamma=7
2 algo=dqn algo.gamma=high
2 algo=ppo network.activation=rely

2 algo=dqn env=pendulum
2 algo=ppo buffer=uniform
2 env.id=CartPole-v1 env.num_envs=0
2 --lr 3e-4
2 resume nothere
2 eval nothere
2 play nothere
2 inspect nothere
0 runs
2 nosuchverb
2 -m algo=dqn,dqm
"""


def test_torch_is_imported_to_train_and_its_compiler_is_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        input=COMMANDS.strip(),
        cwd=tmp_path,
        env={**os.environ, "COMP_LINE": "rlrun algo=d", "COMP_POINT": "12"},  # as bash asks for completions
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of ours that imported `colorsys` while that was deferred."""
    module = types.ModuleType("rlrun.holder")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with deferred("colorsys"):
        exec("import colorsys", vars(module))
        exec("import colorsys as again", vars(module))
    return module


def test_a_deferred_module_is_imported_when_it_is_used(holder: types.ModuleType) -> None:
    assert isinstance(holder.colorsys, StandIn) and "colorsys" not in sys.modules
    assert holder.colorsys.rgb_to_hsv(1, 0, 0) == (0, 1, 1)
    assert holder.colorsys is holder.again is sys.modules["colorsys"]
    assert not isinstance(holder.colorsys, StandIn)


def test_imports_behind_a_deferral_are_the_usual_ones(holder: types.ModuleType) -> None:
    import colorsys

    assert not isinstance(colorsys, StandIn)
    assert holder.colorsys.hsv_to_rgb is colorsys.hsv_to_rgb and holder.colorsys is colorsys


def test_a_name_imported_from_a_deferred_module_is_the_real_one(holder: types.ModuleType) -> None:
    with deferred("colorsys"):
        from colorsys import rgb_to_hsv

    assert rgb_to_hsv is sys.modules["colorsys"].rgb_to_hsv


def test_what_is_there_already_is_not_deferred() -> None:
    with deferred("sys"):
        import sys as imported
    assert imported is sys


def test_an_attribute_that_does_not_exist_is_an_attribute_error(holder: types.ModuleType) -> None:
    with pytest.raises(AttributeError):
        _ = holder.colorsys.rgb_to_nothing


@pytest.mark.parametrize("verb", [table.TRAIN, *table.VERBS.values()])
def test_what_a_verb_names_exists(verb: table.Verb) -> None:
    assert callable(table.found(verb.run))
    assert not verb.options or dataclasses.is_dataclass(table.found(verb.options))
