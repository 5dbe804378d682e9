"""The contract of algorithms finds what breaks it, and the comparison of two runs what they do not share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DATA

from rlrun import registry
from rlrun.agents.table import TableAgent
from rlrun.algos.tabular.q_learning import QLearning
from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.errors import ConfigError
from rlrun.run.build import parts
from rlrun.rundir.layout import RunDir
from rlrun.testing import check_algorithm, differences, different, environment, interrupted

WORDS = ["env=cliffwalking"]
learn = QLearning.learn


def unseeded(self: Any, data: Any, progress: Any) -> Any:
    self.q[40] += np.random.default_rng().normal()  # in the cliff, where nobody stands: all else is the same
    return learn(self, data, progress)


def counting(self: Any, data: Any, progress: Any) -> Any:
    self.calls = getattr(self, "calls", 0) + 1
    return learn(self, data, progress)


def remembering(self: Any, data: Any, progress: Any) -> Any:
    self.last = getattr(self, "last", np.zeros(len(self.q))) + 1
    self.q[0] += self.last[0]
    return learn(self, data, progress)


@pytest.mark.parametrize(
    ("attribute", "broken", "sentence"),
    [
        ("learn", unseeded, "the same seed does not give the same numbers: state.algo.q$"),
        ("learn", lambda self, data, progress: {}, "learning changes nothing"),
        ("learn", lambda self, data, progress: None, "learn returns None, not a dict of metrics"),
        ("learn", counting, "learning changes what `state` does not name: calls"),
        ("learn", remembering, "learning changes what `state` does not name: last"),
        ("state_dict", lambda self: {"q": self.q.copy()}, "loaded again, it goes on in another way"),
    ],
)
def test_what_breaks_the_contract_is_found(
    attribute: str, broken: Callable[..., Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QLearning, attribute, broken)
    if attribute == "state_dict":
        monkeypatch.setattr(QLearning, "load_state_dict", lambda self, state: self.q.__setitem__(..., state["q"]))
    with pytest.raises(AssertionError, match=f"q_learning: .*({sentence})"):
        check_algorithm("q_learning", *WORDS)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda action: (action[:, None], None, {}),
            r"its actions are int64 \(2, 1\), two of the space are int64 \(2,\)",
        ),
        (lambda action: (action.astype(float), None, {}), "its actions are float64"),
        (lambda action: (action.tolist(), None, {}), r"its actions are list \(2,\)"),
        (lambda action: action, r"act returns array\(.*, not \(actions, memory, extras\)"),
    ],
)
def test_actions_that_are_none_of_the_space_are_found(
    act: Callable[..., Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TableAgent, "act", lambda self, obs, memory, **_: act(np.zeros(len(obs), np.int64)))
    with pytest.raises(AssertionError, match=f"q_learning: {sentence}"):
        check_algorithm("q_learning", *WORDS)


def test_an_evaluation_that_disturbs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlrun.agents.table import TableAgent

    monkeypatch.setattr(TableAgent, "fork", lambda self, rng: self)
    with pytest.raises(AssertionError, match="an evaluation in between changes how it goes on"):
        check_algorithm("q_learning", *WORDS)


def test_a_run_that_is_not_resumed_exactly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlrun.run.callbacks.log import Log

    monkeypatch.setattr(Log, "load_state_dict", lambda self, state: None)
    with pytest.raises(AssertionError, match="resumed, a run is not like the one left alone"):
        check_algorithm("q_learning", *WORDS)


def test_a_signal_comes_when_there_is_something_to_resume() -> None:
    compose.set_up([])
    config = validate(compose.compose(["algo=q_learning", "env=frozenlake"]).data)
    with interrupted() as asked, closing(parts(config)) as made:
        made.source.prove(made.interrupt.check)
        assert made.source.caveat == ""
        assert asked == [0]
        next(iter(made.source))
        assert asked == [1]


def test_a_class_is_as_good_as_its_name_if_it_is_registered() -> None:
    check_algorithm(registry.get("algo", "random").factory, "env=toy")
    with pytest.raises(ConfigError, match="Path is not registered"):
        check_algorithm(Path)


def test_an_environment_that_fits() -> None:
    assert environment("ppo")[0].startswith("env=")
    assert environment("lin_ucb")[0].startswith("env=bandit/")
    assert environment("fixed") == ["env=cartpole"]


def test_two_states() -> None:
    one = {"a": 1, "b": [np.nan, {"c": np.arange(3)}]}
    assert different(one, {"a": 1, "b": [np.nan, {"c": np.arange(3)}]}) == []
    assert different(one, {"a": 2, "b": [np.nan, {"c": np.arange(3)}]}) == ["/a"]
    assert different(one, {"a": 1, "b": [np.nan, {"c": np.arange(4)}]}) == ["/b/1/c/shape/0", "state.b.1.c"]
    assert different(one, {"a": 1})[0].startswith("/b")


def test_two_runs(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for run in (one, two):
        shutil.copytree(DATA / "runs" / "q_learning-frozenlake", run, symlinks=True)
    assert differences(one, two) == []
    csv = RunDir(two).metrics_csv
    csv.write_text(csv.read_text().replace("\n1000,", "\n1001,"))
    assert [text.partition(" !=")[0][:20] for text in differences(one, two)] == ["metrics.csv: row 1: "]
    state = two / "checkpoints" / "last" / "state.json"
    state.write_text(state.read_text().replace('"episodes": ', '"episodes": 1', 1))
    assert differences(one, two)[1:] == ["checkpoint: state.json:/progress/episodes"]
