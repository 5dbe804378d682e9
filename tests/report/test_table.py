"""Runs as NumPy columns: configs, results, and the numbers logged on the way."""

from __future__ import annotations

import builtins
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DATA

import rlrun
from rlrun.errors import RlrunError
from rlrun.report.table import Table, column, columns, runs

RUNS = DATA / "runs"


def test_a_row_per_run_with_its_config_and_results() -> None:
    found = runs(RUNS)
    assert found.rows == 5
    assert [*found][:4] == ["run", "state", "env_steps", "reason"]
    by_name = {Path(run).name: row for row, run in enumerate(found["run"])}
    dqn, q_learning = by_name["dqn-cartpole"], by_name["q_learning-frozenlake"]
    assert found["state"][[dqn, q_learning]].tolist() == ["preempted", "finished"]
    assert found["env_steps"].dtype == np.int64 and found["env_steps"][dqn] == 600
    assert found["env.vector"][by_name["ppo-cartpole-native"]] == "native", "in today's words"
    assert found["algo.name"][dqn] == "dqn" and found["algo.double"][dqn] is True
    assert found["network.hidden"][[dqn, q_learning]].tolist() == ["[16]", ""]
    assert "network" not in found, "null where there is none, and values where there are: only these are columns"
    assert found["final_eval.mean"][q_learning] == 1.0 and np.isnan(found["final_eval.mean"][dqn])


def test_metrics_are_the_rows_of_all_runs() -> None:
    found = runs(RUNS)
    metrics = found.metrics
    assert metrics.rows == sum(len((Path(run) / "metrics.csv").read_text().splitlines()) - 1 for run in found["run"])
    own = metrics["run"] == str(RUNS / "dqn-cartpole")
    assert metrics["env_steps"][own][:3].tolist() == [100, 200, 252]
    assert metrics["train/loss"].dtype == np.float64
    assert np.isnan(metrics["train/loss"][metrics["run"] == str(RUNS / "linear_posterior-gaussian")]).all()


def test_one_run_and_a_folder_without_any(tmp_path: Path) -> None:
    assert runs(RUNS / "dqn-cartpole")["seed"].tolist() == [0]
    nothing = runs(tmp_path)
    assert (nothing.rows, dict(nothing), dict(nothing.metrics)) == (0, {}, {})
    with pytest.raises(RlrunError, match="nowhere: there is no such folder"):
        runs(tmp_path / "nowhere")


def test_a_damaged_run_is_a_row_that_says_so(tmp_path: Path) -> None:
    for name in ("good", "no_status", "no_config", "torn"):
        shutil.copytree(RUNS / "q_learning-frozenlake", tmp_path / name, symlinks=True)
    (tmp_path / "no_status" / "status.json").write_text("{")
    (tmp_path / "no_config" / "config.yaml").write_text("a: &b [*b]")
    (tmp_path / "torn" / "summary.json").write_text("[")
    (tmp_path / "torn" / "metrics.csv").write_bytes(b"\xff\x00")
    found = runs(tmp_path)
    states = dict(zip((Path(run).name for run in found["run"]), found["state"], strict=True))
    assert states == {"good": "finished", "no_status": "damaged", "no_config": "finished", "torn": "finished"}
    rows = len((tmp_path / "good" / "metrics.csv").read_text().splitlines()) - 1
    assert found.metrics.rows == 3 * rows, "of all but the one whose table is torn"


@pytest.mark.parametrize(
    ("values", "dtype", "shown"),
    [
        ([1, 2], np.int64, [1, 2]),
        ([1, 2.5], np.float64, [1, 2.5]),
        ([1, None], np.float64, [1, "nan"]),
        ([True, False], np.bool_, [True, False]),
        ([True, None], np.object_, [True, None]),
        (["a", None], np.dtype("<U1"), ["a", ""]),
        (["a", 1], np.object_, ["a", 1]),
        ([None, None], np.float64, ["nan", "nan"]),
        ([2**70, 1], np.float64, [2.0**70, 1.0]),
    ],
)
def test_the_type_of_a_column(values: list[Any], dtype: Any, shown: list[Any]) -> None:
    found = column(values)
    assert found.dtype == dtype
    assert ["nan" if value != value else value for value in found.tolist()] == shown


def test_to_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = lambda data: ("frame", data)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    small = columns([{"a": 1}, {"a": 2}])
    assert small.to_pandas() == ("frame", {"a": small["a"]})


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError("No module named 'pandas'")
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RlrunError, match="pip install pandas"):
        Table().to_pandas()


def test_a_table_says_what_it_is() -> None:
    assert repr(columns([{"a": 1, "b": "x"}])) == "<Table: 1 rows, 2 columns: a, b>"


def test_it_is_the_packages_own() -> None:
    assert rlrun.runs is runs and "runs" in dir(rlrun)
    with pytest.raises(AttributeError, match="no attribute 'rums'"):
        rlrun.rums  # noqa: B018
