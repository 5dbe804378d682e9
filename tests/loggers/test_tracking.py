"""Trackers: what they are told, and that a run never depends on them; the real ones where they are installed."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import random
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Rlrun

from rlrun import loggers
from rlrun.errors import ConfigError
from rlrun.interrupt import Interrupt
from rlrun.loggers import tracking, wandbfile
from rlrun.loggers.trackers import Mlflow, plain
from rlrun.loggers.tracking import Begun, Row, Tracked, Tracking, leaves, require


class Fake:
    """Notes its calls in `said`; fails at the call that is named in `fails`."""

    kept: int | None = None  # the last step that it wrote down

    def __init__(self, said: list[tuple[Any, ...]] | None = None, fails: str = ""):
        self.said, self.fails = [] if said is None else said, fails

    def _note(self, call: str, *what: Any) -> None:
        print("a tracker talks")
        random.random(), np.random.random()
        self.said.append((call, *what))
        if call == self.fails:
            raise ConnectionError(f"no {call}\nand more")

    def init(self, run: Tracked) -> Begun:
        self._note("init", run)
        return Begun(run.id, "over there", self.kept if run.resumed else None)

    def log(self, rows: Sequence[Row]) -> None:
        self._note("log", list(rows))

    def film(self, path: Path, env_steps: int) -> None:
        self._note("film", path.name, env_steps)

    def artifact(self, name: str, directory: Path) -> None:
        self._note("artifact", name, sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()))

    def finish(self, state: str, summary: Mapping[str, float | str]) -> None:
        self._note("finish", state, dict(summary))


def about(folder: Path, id: str = "abcd") -> Tracked:
    return Tracked("rlrun", "run", id, False, {"seed": 1}, ("dqn",), "", folder, None)


def begun(folder: Path, fake: Fake, id: str = "abcd", name: str = "wandb") -> Tracking:
    return Tracking(name, lambda: fake, about(folder, id), folder / "tracker.json")


@contextlib.contextmanager
def nothing() -> Iterator[Path | None]:
    yield None


def rows(said: list[tuple[Any, ...]]) -> list[Row]:
    return [row for call, *what in said if call == "log" for row in what[0]]


def test_no_metric_is_told_twice_of_a_step(tmp_path: Path) -> None:
    """A killed run goes on from step 100: what it had told up to 300 does not come again, what it had not does."""
    first, second = Fake(), Fake()
    killed = begun(tmp_path, first)
    for steps in (100, 200, 300):
        killed.log({"loss": float(steps)}, steps)
        killed.flush()
    killed.log({"eval": 1.0}, 200)
    killed.flush()
    resumed = begun(tmp_path, second, id="efgh")
    for steps in (200, 300, 400):
        resumed.log({"loss": float(steps), "new": 0.0}, steps)
        resumed.log({"eval": 2.0}, steps)
    resumed.flush()
    assert rows(first.said) == [
        (100, {"loss": 100.0}),
        (200, {"loss": 200.0}),
        (300, {"loss": 300.0}),
        (200, {"eval": 1.0}),
    ]
    assert rows(second.said) == [
        *[(200, {"new": 0.0}), (300, {"new": 0.0}), (300, {"eval": 2.0})],
        *[(400, {"loss": 400.0, "new": 0.0}), (400, {"eval": 2.0})],
    ]
    found = second.said[0][1]
    assert (found.id, found.resumed, first.said[0][1].resumed) == ("abcd", True, False)


def test_what_a_tracker_had_not_written_down_is_told_again(tmp_path: Path) -> None:
    """W&B keeps what it was told last in memory, and a killed process takes that with it."""
    first, second = Fake(), Fake()
    second.kept = 150
    for fake, steps in ((first, (100, 200)), (second, (100, 200, 300))):
        told = begun(tmp_path, fake)
        for step in steps:
            told.log({"loss": 0.0}, step)
        told.flush()
    assert [steps for steps, _ in rows(second.said)] == [200, 300]


def test_rows_are_sent_together_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: now[0])
    fake = Fake()
    told = begun(tmp_path, fake)
    for steps in range(8):
        now[0] += 0.3
        told.log({"a": 0.0}, steps)
    assert [len(what[0]) for call, *what in fake.said if call == "log"] == [4, 4]
    told.log({"a": 0.0}, 8)
    told.film(tmp_path / "x.mp4", 8)
    told.film(tmp_path / "x.mp4", 8)
    assert [call for call, *_ in fake.said[3:]] == ["log", "film"]


def test_a_state_is_taken_when_all_rows_are_sent(tmp_path: Path) -> None:
    fake = Fake()
    several = loggers.Loggers({}, tracking=begun(tmp_path, fake))
    several.log({"a": 1.0}, 5)
    several.film(tmp_path / "film.mp4", 5)
    several.log({"a": 1.0}, 6)
    several.state_dict()
    assert [call for call, *_ in fake.said] == ["init", "log", "film", "log"]


@pytest.mark.parametrize("fails", ["init", "log", "film", "artifact", "finish"])
def test_what_fails_costs_one_warning(
    tmp_path: Path, fails: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake(fails=fails)
    told = begun(tmp_path, fake)

    @contextlib.contextmanager
    def checkpoint() -> Iterator[Path | None]:
        yield tmp_path

    for steps in (1, 2):
        told.log({"a": 0.0}, steps)
        told.flush()
        told.film(tmp_path / f"{steps}.mp4", steps)
    told.finish("finished", {}, checkpoint)
    told.finish("finished", {}, checkpoint)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and warnings[0].endswith(
        f"the run goes on without it: ConnectionError: no {fails} and more"
    )
    assert [call for call, *_ in fake.said].count(fails) == 1 and fake.said[-1][0] == fails
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"tracker": "wandb", "id": "../x", "told": {}}',
        b'{"tracker": "wandb", "id": "abcd", "told": {"a": "x"}}',
        b'{"tracker": "mlflow", "id": "abcd", "told": {"a": 9}}',
    ],
)
def test_a_record_that_is_of_no_use_begins_a_new_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tracker.json").write_bytes(content)
    fake = Fake()
    begun(tmp_path, fake, id="efgh").log({"a": 0.0}, 1)
    assert (fake.said[0][1].id, fake.said[0][1].resumed) == ("efgh", False)
    assert json.loads((tmp_path / "tracker.json").read_text())["id"] == "efgh"


def test_a_tracker_that_has_forgotten_a_run_is_told_all_of_the_rest(tmp_path: Path) -> None:
    class Forgetful(Fake):
        def init(self, run: Tracked) -> Begun:
            return Begun("another" if run.resumed else run.id, "")

    begun(tmp_path, Forgetful()).log({"a": 0.0}, 5)
    tracked = begun(tmp_path, Forgetful())
    tracked.log({"a": 0.0}, 5)
    tracked.flush()
    fake = Forgetful()
    again = begun(tmp_path, fake)
    again.log({"a": 0.0}, 3)
    again.flush()
    assert rows(fake.said) == [(3, {"a": 0.0})]


def test_a_missing_library_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rlrun: Rlrun) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    said = rlrun("algo=random", "logger.tracker=wandb", "hydra.run.dir=run", code=2).stderr
    assert said.splitlines() == [
        "rlrun: logger.tracker: wandb is not installed",
        "get it with `pip install 'rlrun[wandb]'`, or write null",
    ]
    assert not Path("run").exists()
    said = rlrun("algo=random", "logger.tracker=tensorbord", code=2).stderr
    assert said.splitlines()[1] == "choose one of: mlflow, trackio, wandb"
    folder = SimpleNamespace(origin=None)  # such as wandb makes for its runs
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: folder)
    with pytest.raises(ConfigError, match="not installed"):
        require("wandb")


def test_names_that_mlflow_takes() -> None:
    assert plain("rollout/info/a(b)=c") == "rollout/info/a_b__c" and len(plain("x" * 999)) == 250
    assert dict(leaves({"a": {"b": None, "c": [1, "x"]}, "d": 1e-3})) == {
        "a.b": "null",
        "a.c": "[1, 'x']",
        "d": "0.001",
    }


TRAINING = ["algo=q_learning", "env=frozenlake", "total_timesteps=400", "+smoke=on", "logger.freq=100"]
TRAINING += ["eval.episodes=2", "eval.freq=200", "checkpoint.freq=200", "logger.console=off"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """In place of W&B."""
    found = Fake()
    monkeypatch.setattr(loggers, "TRACKERS", {"wandb": lambda: found})
    monkeypatch.setattr("rlrun.loggers.tracking.require", lambda name: None)
    return found


def test_a_run_tells_its_tracker_everything(rlrun: Rlrun, fake: Fake) -> None:
    said = rlrun(
        *TRAINING[:-1], "hydra.run.dir=run", "logger.tracker=wandb", "logger.tags=[mine]", "logger.project=p"
    ).stdout
    assert "wandb: over there" in said and "a tracker talks" not in said
    (_, tracked), *_ = fake.said
    assert (tracked.project, tracked.name, tracked.group, tracked.server) == ("p", "run", "", None)
    assert tracked.tags == ("q_learning", "FrozenLake-v1", "mine")
    assert tracked.config["algo"]["name"] == "q_learning" and tracked.config["total_timesteps"] == 400
    with open("run/metrics.csv") as file:
        table = [({name: float(value) for name, value in row.items() if value}) for row in csv.DictReader(file)]
    assert [{"env_steps": steps, **metrics} for steps, metrics in rows(fake.said)] == table
    (_, name, held), (_, state, summary) = fake.said[-2:]
    assert name == f"run-{tracked.id}" and {"config.yaml", "summary.json"} < set(held)
    assert (state, summary["state"], summary["env_steps"]) == ("finished", "finished", 400)
    assert summary["final_eval.episodes"] == 2 and "eval/mean_reward" not in summary

    rlrun("resume", "run", "total_timesteps=500")
    tracked_again = [what[0] for call, *what in fake.said if call == "init"][1]
    assert (tracked_again.id, tracked_again.resumed) == (tracked.id, True)
    assert [steps for steps, _ in rows(fake.said)].count(500) >= 1
    told = [(steps, name) for steps, metrics in rows(fake.said) for name in metrics]
    assert len(told) == len(set(told))


def test_a_tracker_is_told_what_it_has_missed(rlrun: Rlrun, fake: Fake) -> None:
    """One that comes late, and one that had written down no more than 300 steps."""
    rlrun(*TRAINING, "hydra.run.dir=run")
    rlrun("resume", "run", "total_timesteps=500", "logger.tracker=wandb")
    late = rows(fake.said)
    assert [steps for steps, _ in late] == [100, 200, 200, 300, 400, 400, 500, 500]
    fake.said.clear()
    fake.kept = 300
    rlrun("resume", "run", "total_timesteps=600")
    assert rows(fake.said)[: len(late[4:])] == late[4:] and rows(fake.said)[-1][0] == 600


def test_a_run_computes_the_same_with_a_tracker(rlrun: Rlrun, fake: Fake) -> None:
    """Whatever the tracker draws from the global random streams."""
    rlrun(*TRAINING, "hydra.run.dir=run", "logger.tracker=wandb", "algo=random")
    rlrun(*TRAINING, "hydra.run.dir=plain", "algo=random")
    state = [json.loads(Path(run, "checkpoints/last/state.json").read_text()) for run in ("run", "plain")]
    assert state[0]["random"] == state[1]["random"] and state[0]["source"] == state[1]["source"]
    streams = [Path(run, "checkpoints/last/random.safetensors").read_bytes() for run in ("run", "plain")]
    assert streams[0] == streams[1]


def test_an_interrupted_run_says_so_and_hands_nothing_over(
    rlrun: Rlrun, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = iter(range(10**6))

    def check(self: Interrupt) -> None:
        if next(checks) == 250:
            self.signum = 15
            original(self)

    original = Interrupt.check
    monkeypatch.setattr(Interrupt, "check", check)
    rlrun(*TRAINING, "hydra.run.dir=run", "logger.tracker=wandb", code=75)
    assert fake.said[-1][:2] == ("finish", "preempted") and "artifact" not in [call for call, *_ in fake.said]


def test_what_is_handed_over_can_be_played(rlrun: Rlrun, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the replay, and in another place."""
    monkeypatch.setattr(Fake, "artifact", lambda self, name, directory: shutil.copytree(directory, "copy"))
    rlrun("algo=dqn", "env=cartpole", "+smoke=on", "logger.console=off", "hydra.run.dir=run", "logger.tracker=wandb")
    assert list(Path("run/checkpoints").glob("*/buffer*")) and not list(Path("copy").rglob("buffer*"))
    mine, theirs = (
        json.loads(rlrun("eval", run, "episodes=3", "json=true", "ckpt=best").stdout) for run in ("run", "run")
    )
    found = next(Path("copy/checkpoints").iterdir()).name
    theirs = json.loads(rlrun("eval", "copy", "episodes=3", "json=true").stdout)
    assert theirs["checkpoint"] == mine["checkpoint"] == found and theirs["mean"] == mine["mean"]


# The real ones, without a network.


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they keep outside of a run's directory goes here."""
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "TRACKIO_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)


def seen_by_wandb(run: Path, known: str) -> tuple[list[tuple[str, int]], set[str], set[str]]:
    steps, words, others = [], set(), set()
    for record in wandbfile.records(run, known):
        if record.HasField("run"):
            assert (record.run.run_id, record.run.project) == (known, "rlrun")
            words |= {*record.run.tags, *(item.key for item in record.run.config.update)}
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            steps += [(name, record.history.step.num)] if not name.startswith(("_", "videos")) else []
            others |= {"film"} if name.startswith("videos") else set()
        others |= {"artifact"} if record.HasField("artifact") else set()
    return steps, words, others


def seen_by_mlflow(run: Path, known: str) -> tuple[list[tuple[str, int]], set[str], set[str]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{Path('mlflow.db').absolute()}")
    found = client.get_run(known)
    assert client.get_experiment(found.info.experiment_id).name == "rlrun" and found.info.status == "FINISHED"
    assert found.data.metrics["final_eval.episodes"] == 2 and found.data.tags["state"] == "finished"
    steps = [
        (name, m.step) for name in found.data.metrics for m in client.get_metric_history(known, name) if "/" in name
    ]
    words = {*found.data.tags, *(key.partition(".")[0] for key in found.data.params)}
    names = {"videos": "film", "run": "artifact"}
    return steps, words, {names[file.path] for file in client.list_artifacts(known)}


def seen_by_trackio(run: Path, known: str) -> tuple[list[tuple[str, int]], set[str], set[str]]:
    from trackio.sqlite_storage import SQLiteStorage

    name = f"run-{known}"
    config = SQLiteStorage.get_run_config("rlrun", name)
    steps, others = [], set()
    for row in SQLiteStorage.get_logs("rlrun", name):
        for key in row.keys() - {"step", "timestamp"}:
            others |= {"film"} if key.startswith("videos") else set()
            steps += [(key, row["step"])] if "/" in key and not key.startswith("videos") else []
    others |= {"artifact"} if any(Path(sys.modules["trackio"].utils.TRACKIO_DIR).rglob("artifacts/*")) else set()
    return steps, {*config, *config["tags"]}, others


SEEN = {"wandb": seen_by_wandb, "mlflow": seen_by_mlflow, "trackio": seen_by_trackio}


@pytest.mark.parametrize("name", SEEN)
def test_a_real_tracker_holds_a_run_that_went_back_once(rlrun: Rlrun, alone: None, name: str) -> None:
    """It had told its tracker of 400 steps when it was lost, and went on from its checkpoint at 200."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    pytest.importorskip("moviepy")
    said = rlrun(
        *TRAINING[:-1], "hydra.run.dir=run", f"logger.tracker={name}", "logger.tags=[mine]", "eval.video_freq=400"
    )
    assert f"{name}: run " in said.stdout and not said.stderr
    known = json.loads(Path("run/tracker.json").read_text())["id"]
    shutil.rmtree("run/checkpoints/step_000000400")
    Path("run/checkpoints/last").unlink()
    said = rlrun("resume", "run", "total_timesteps=500")
    assert not [line for line in said.stderr.splitlines() if name in line]
    assert json.loads(Path("run/tracker.json").read_text())["id"] == known
    steps, words, others = SEEN[name](Path("run"), known)
    assert len(steps) == len(set(steps))
    assert {step for metric, step in steps if metric == "rollout/ep_rew_mean"} == {100, 200, 300, 400, 500}
    assert {"mine", "q_learning", "FrozenLake-v1", "algo", "seed"} <= words
    assert others == {"film", "artifact"}


def test_offline_files_of_wandb_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    """A record in two blocks, and one whose end was never written."""
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    folder = tmp_path / "wandb" / "offline-run-20260101_000000-abcd"
    folder.mkdir(parents=True)
    content, steps = bytearray(7), (1000, 2000, 3000)
    for step, size in zip(steps, (30000, 9000, 500), strict=True):
        record = proto.Record()
        record.history.step.num = step
        record.history.item.add(key="a", value_json="1" * size)
        left = bytes(record.SerializeToString())
        kind = 0
        while left:
            room = 32768 - len(content) % 32768 - 7
            piece, left = left[:room], left[room:]
            kind = (1 if not left else 2) if kind == 0 else (4 if not left else 3)
            content += struct.pack("<IHB", 0, len(piece), kind) + piece
    file = folder / "run-abcd.wandb"
    file.write_bytes(content)
    assert [record.history.step.num for record in wandbfile.records(tmp_path, "abcd")] == [*steps]
    file.write_bytes(content[:-1])
    assert wandbfile.last_step(tmp_path, "abcd") == 2000
    assert wandbfile.last_step(tmp_path, "efgh") == -1


def test_mlflow_begins_anew_where_its_store_is_another(tmp_path: Path, alone: None, monkeypatch: Any) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    known = Mlflow().init(about(tmp_path)).id
    assert Mlflow().init(Tracked(**{**vars(about(tmp_path)), "id": known, "resumed": True}))[0] == known
    assert Mlflow().init(Tracked(**{**vars(about(tmp_path)), "id": "0" * 32, "resumed": True}))[0] not in (
        known,
        "0" * 32,
    )
