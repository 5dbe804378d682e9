"""What is remembered of one composition for the next is what would be composed anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rlrun import registry
from rlrun.config import compose, values
from rlrun.config.loader import Loader, Repository
from rlrun.config.schema import RunConfig
from rlrun.config.values import typed


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of a user's with one experiment."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("algo:\n  gamma: 0.5\n")
    compose.set_up([], [str(tmp_path)])
    yield tmp_path
    compose.set_up([])


def composed(*words: str) -> tuple[Any, ...]:
    """All that comes of words, but for the directory, which is another one every time."""
    found = compose.compose(words)
    hydra = OmegaConf.to_container(found.hydra, resolve=False)
    return found.data, found.written, found.record, found.provenance, found.files, found.overrides, hydra


@pytest.mark.parametrize("words", ["algo=ppo env=pendulum", "experiment=mine +smoke=on seed=3", "algo=rainbow ~tuned"])
def test_it_is_what_would_be_composed_anew(words: str, folder: Path) -> None:
    compose.compose([*words.split(), "algo.gamma=0.25", "stop.window=7", "env.kwargs.own=1"])
    remembered = composed(*words.split())
    for memory in (Loader.merged, Repository.known, values._conversions):
        memory.clear()
    assert composed(*words.split()) == remembered


def test_a_file_that_changes_is_read_again(folder: Path) -> None:
    for gamma in (0.5, 0.75):
        (folder / "experiment" / "mine.yaml").write_text(f"algo:\n  gamma: {gamma}\n")
        assert compose.compose(["experiment=mine"]).data["algo"]["gamma"] == gamma


def test_a_component_that_is_registered_again_brings_what_it_declares_now() -> None:
    compose.set_up([])
    known = registry.get("algo", "dqn")
    try:
        for network in ("mlp", "lstm"):
            declared = {"needs": known.needs, "network": network, "smoke": {"batch_size": len(network)}}
            registry.register("algo", known.config, **declared)(known.factory)
            found = compose.compose(["algo=double_dqn", "~tuned", "+smoke=on"]).data
            assert found["algo"]["batch_size"] == len(network)
    finally:
        registry._ENTRIES["algo"]["dqn"] = known


def test_what_is_done_with_a_config_leaves_the_next_one_alone() -> None:
    compose.set_up([])
    first, before = compose.compose([]), composed()
    first.data["algo"]["epsilon"]["start"] = first.data["network"]["hidden"] = "other"
    OmegaConf.update(first.cfg, "algo.epsilon.start", 0.125)
    assert composed() == before
    one = typed(RunConfig, {"imports": ["a"]})
    one.imports.append("b")
    assert typed(RunConfig, {"imports": ["a"]}).imports == ["a"]
