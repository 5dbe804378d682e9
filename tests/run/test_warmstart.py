"""`init_from`: weights come from another run, everything else begins anew, and what does not match is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rlrun import cli
from rlrun.config import compose
from rlrun.rundir import checkpoints
from rlrun.sweeps import preflight

TRAIN = ["algo=dqn", "env=cartpole", "+smoke=on", "logger.console=off", "~tuned", "network.hidden=[8]"]
NOTHING_LEARNED = ["algo.learning_starts=1000", "total_timesteps=100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of seed 3 lies, with checkpoints at several steps."""
    folder = tmp_path_factory.mktemp("weights")
    words = ["seed=3", "total_timesteps=300", "checkpoint.freq=100", "eval.freq=100", "checkpoint.keep_last=0"]
    assert cli.main([*TRAIN, *words, f"hydra.run.dir={folder}/first"]) == 0
    return folder


@pytest.fixture
def first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run in the current directory."""
    shutil.copytree(folder / "first", tmp_path / "first", symlinks=True)
    monkeypatch.chdir(tmp_path)


def algo(run: str, which: str | int = "last") -> dict:
    return checkpoints.load(checkpoints.find(Path(run) / "checkpoints", which), ["algo"])["algo"]


def same(a: dict, b: dict, entry: str = "q") -> bool:
    return all(np.array_equal(a[entry][name], b[entry][name]) for name in a[entry])


def test_weights_are_taken_and_all_else_begins_anew(first: None) -> None:
    """The second run learns nothing, so its weights are those it began with."""
    assert cli.main([*TRAIN, *NOTHING_LEARNED, "init_from=first", "hydra.run.dir=second"]) == 0
    before, after = algo("first"), algo("second")
    assert same(before, after)
    assert same(before["q_target"], after["q_target"], "module")
    assert after["q_target"]["copied_at"] == 0, "a counter is no weight"
    assert float(after["optimiser"]["step"]) == 0 < float(before["optimiser"]["step"])
    assert before["agent"] != after["agent"]
    begun = json.loads(Path("second/meta.json").read_text())["init_from"]
    assert begun["checkpoint"] == str(Path("first/checkpoints/last").resolve())
    assert begun["env_steps"] == json.loads(Path("first/status.json").read_text())["env_steps"]
    assert "weights: those of first" in Path("second/run.log").read_text()


def test_a_checkpoint_can_be_chosen(first: None) -> None:
    early = min(int(path.name[5:]) for path in Path("first/checkpoints").glob("step_*"))
    for name, word in {"by_step": f"first@{early}", "by_path": f"first/checkpoints/step_{early:09d}"}.items():
        assert cli.main([*TRAIN, *NOTHING_LEARNED, f"init_from={word}", f"hydra.run.dir={name}"]) == 0
        assert same(algo("first", early), algo(name))
    assert cli.main([*TRAIN, *NOTHING_LEARNED, "init_from=first@best", "hydra.run.dir=best"]) == 0
    assert same(algo("first", "best"), algo("best"))
    assert not same(algo("first", early), algo("first"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["init_from=first", "network.hidden=[16]"], "q.branches.0.0.weight is 8 x 4 in first, and 16 x 4 here"),
        (["init_from=first", "env=acrobot"], "is 8 x 4 in first, and 8 x 6 here"),
        (["init_from=first", "network.hidden=[8,8]"], "in first, and "),
        (["init_from=first", "env.normalize.obs=true"], "init_from: first was trained with env.normalize.obs=false"),
        (["init_from=nowhere"], "init_from: nowhere"),
        (["init_from=first@7"], "init_from: first/checkpoints: no checkpoint 7"),
        (["init_from=first", "algo=ppo"], "init_from: first is a run of dqn, this is one of ppo\nwrite algo=dqn"),
        (["init_from=first", "algo=random"], "init_from: random has no weights to start with\nthese have: "),
    ],
)
def test_what_does_not_match_is_refused(
    first: None, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [word for word in TRAIN if word.partition("=")[0] not in {w.partition("=")[0] for w in words}]
    train = [word for word in train if "algo=random" not in words or not word.startswith("network")]
    assert cli.main([*train, *words, "hydra.run.dir=second"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) <= 5
    assert not Path("second").exists()


def test_a_table_and_normalisation_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.console=off"]
    assert cli.main([*table, "hydra.run.dir=a"]) == cli.main([*table, "init_from=a", "hydra.run.dir=b"]) == 0
    normal = [*TRAIN, "env.normalize.obs=true"]
    assert cli.main([*normal, "hydra.run.dir=c"]) == 0
    assert cli.main([*normal, *NOTHING_LEARNED, "init_from=c", "hydra.run.dir=d"]) == 0

    def count(run: str) -> int:
        state = checkpoints.load(checkpoints.find(Path(run) / "checkpoints"), ["environments"])
        return int(state["environments"]["obs_stats"]["count"])

    assert count("d") >= count("c") + 100


def test_resumed_like_every_run(first: None) -> None:
    """A run that begins again needs the weights that it began with; one that goes on has its own."""
    words = ["init_from=first", "total_timesteps=300", "checkpoint.freq=100", "checkpoint.keep_last=0"]
    assert cli.main([*TRAIN, *words, "hydra.run.dir=alone"]) == 0
    for name in ("from_the_beginning", "from_a_checkpoint"):
        shutil.copytree("alone", name, symlinks=True)
        interrupted_at(Path(name), 0 if name == "from_the_beginning" else 100)
    assert cli.main(["resume", "from_the_beginning"]) == 0
    Path("first").rename("elsewhere")
    assert cli.main(["resume", "from_a_checkpoint"]) == 0
    assert same(algo("alone"), algo("from_the_beginning")) and same(algo("alone"), algo("from_a_checkpoint"))
    interrupted_at(Path("from_the_beginning"), 0)
    assert cli.main(["resume", "from_the_beginning"]) == 2, "its weights are gone"


def test_the_jobs_of_a_sweep_start_from_the_same_checkpoint(first: None) -> None:
    """Whatever `last` is when a job's turn comes."""
    compose.set_up([])
    finding = preflight.check([(0, [*TRAIN, "init_from=first@best", "hydra.mode=MULTIRUN"])])[0]
    assert finding.problem == ""
    assert finding.init_from == str(Path("first/checkpoints/best").resolve())
    finding = preflight.check([(0, [*TRAIN, "init_from=nowhere", "hydra.mode=MULTIRUN"])])[0]
    assert "init_from: nowhere" in finding.problem


def interrupted_at(run: Path, env_steps: int) -> None:
    """Put a finished run back to where one that was killed is found."""
    for path in (run / "checkpoints").iterdir():
        if path.is_symlink():
            path.unlink()
        elif int(path.name[5:]) >= env_steps + 100:
            shutil.rmtree(path)
    status = json.loads((run / "status.json").read_text())
    status |= {"state": "preempted", "env_steps": env_steps, "saved": env_steps}
    (run / "status.json").write_text(json.dumps(status))
