"""How many environments a command opens: one to see what they are like, and those that are played in."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlrun import cli
from rlrun.envs.recipe import Recipe

WORDS = ["algo=dqn", "env=cartpole", "+smoke=on", "logger.console=off", "total_timesteps=200", "env.num_envs=3"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The ids of all environments that are opened."""
    monkeypatch.chdir(tmp_path)
    found: list[str] = []
    make = Recipe.__call__

    def counted(self: Recipe, render_mode: str | None = None) -> object:
        found.append(self.spec.id)
        return make(self, render_mode)

    monkeypatch.setattr(Recipe, "__call__", counted)
    return found


def test_a_run_opens_one_for_its_spec(opened: list[str]) -> None:
    plain = ["eval.episodes=0", "checkpoint.env_state=off", "hydra.run.dir=run"]
    assert cli.main([*WORDS, *plain]) == 0
    assert len(opened) == 1 + 3  # its spec, and those that it trains in


def test_a_check_of_a_run_opens_as_many(opened: list[str]) -> None:
    assert cli.main([*WORDS, "--check"]) == 0
    assert len(opened) == 1 + 3


def test_evaluations_and_the_proof_of_their_state_have_their_own(opened: list[str]) -> None:
    assert cli.main([*WORDS, "eval.num_envs=2", "eval.episodes=4", "eval.freq=100", "hydra.run.dir=run"]) == 0
    assert len(opened) == 1 + 3 + 2 + 2  # all evaluations of a run share theirs


def test_to_look_at_a_run_takes_none_of_its_training(opened: list[str]) -> None:
    words = ["eval.num_envs=2", "eval.episodes=2", "checkpoint.env_state=off", "env.normalize.obs=true"]
    assert cli.main([*WORDS, *words, "hydra.run.dir=run"]) == 0
    opened.clear()
    assert cli.main(["eval", "run", "episodes=4"]) == 0
    assert len(opened) == 1 + 2
