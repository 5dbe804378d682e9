"""Which run a word means, and the list of runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import DATA

import rlrun
from rlrun import cli
from rlrun.errors import RlrunError
from rlrun.rundir import find


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(path: str, started: int = 0, **status: object) -> Path:
    """A run that was started at a second of the year 2026."""
    place = Path(path)
    place.mkdir(parents=True)
    (place / "config.yaml").write_text("seed: 0\ntotal_timesteps: 50000\n")
    described = {"state": "finished", "env_steps": 50_000, "attempts": 1, "pid": 1, "host": "elsewhere", "reason": ""}
    described |= {"started": f"2026-01-01T00:{started // 60:02}:{started % 60:02}+00:00"}
    (place / "status.json").write_text(json.dumps(described | status))
    return place


def make_sweep(path: str, jobs: list[str], started: int = 0) -> Path:
    for number, job in enumerate(jobs):
        make(f"{path}/{job}", started + number)
    (Path(path) / "multirun.yaml").touch()
    return Path(path)


@pytest.fixture
def several() -> dict[str, Path]:
    """Two single runs, and two sweeps between them in time."""
    found = {
        "old": make("outputs/cartpole/dqn/2026-01-01_000000_s0_abcd", 0),
        "new": make("outputs/cartpole/ppo/2026-01-01_000500_s1_efgh", 300),
        "sweep": make_sweep("outputs/sweeps/2026-01-01_000100_ijkl", ["0_seed=1", "1_seed=2", "10_seed=3"], 60),
        "later": make_sweep("outputs/sweeps/2026-01-01_000200_mnop", ["0_a", "1_b"], 120),
    }
    os.utime(found["old"])  # touched, moved, copied: it is as old as before
    return found


def test_a_word_means_a_run(several: dict[str, Path]) -> None:
    sweep, later = several["sweep"], several["later"]
    expected = {
        "last": several["new"],
        "abcd": several["old"],
        "s1_efgh": several["new"],
        "2026-01-01_000500_s1_efgh": several["new"],
        "outputs/cartpole/dqn/2026-01-01_000000_s0_abcd/": several["old"],
        "cartpole/dqn/2026-01-01_000000_s0_abcd": several["old"],  # as `rlrun runs` shows it
        "1": later / "1_b",
        "ijkl/1": sweep / "1_seed=2",
        "ijkl/10": sweep / "10_seed=3",
        "2026-01-01_000100_ijkl/0": sweep / "0_seed=1",
        f"{sweep}/10/": sweep / "10_seed=3",
        f"{sweep.absolute()}/1": sweep.absolute() / "1_seed=2",
        f"{sweep}/1_seed=2": sweep / "1_seed=2",
        "1_seed=2": sweep / "1_seed=2",
    }
    assert {word: find.open_run(word).path for word in expected} == expected
    assert find.find("mnop") == later


def test_the_sweep_in_the_current_directory_comes_before_the_newest(several, monkeypatch) -> None:
    monkeypatch.chdir(several["sweep"])
    assert find.open_run("1").path == Path("1_seed=2")


def test_last_is_a_job_where_that_was_started_last(several: dict[str, Path]) -> None:
    make_sweep("outputs/sweeps/qrst", ["0_a", "1_b"], 900)
    assert find.open_run("last").path.name == "1_b"


def test_a_path_comes_before_a_name(several: dict[str, Path]) -> None:
    for word in ("last", "1", "abcd", "x=y", "ünï cödé"):
        assert find.open_run(word := str(make(word))).path == Path(word)


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "me"))
    make("me/run")
    assert find.open_run("~/run").path == folder / "me" / "run"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("abcx", ["abcx: there is no such run directory", "the newest run under outputs is"]),
        ("2026-01-01_000000_s0_abxd", ["no such run directory", "did you mean outputs/cartpole/dqn/"]),
        ("bcd", ["bcd: there is no such run directory"]),
        ("7", ["7: the sweep outputs/sweeps/2026-01-01_000200_mnop has no such job", "there are 0, 1"]),
        ("ijkl/7", ["no such job", "there are 0, 1, 10"]),
        ("mnop", ["mnop is a sweep, not a run", "mnop/0_a", "mnop/1_b"]),
        ("nowhere/1", ["nowhere/1: there is no such run directory"]),
        ("outputs/cartpole", ["not a run directory, it has no config.yaml and no status.json"]),
        ("", ["no config.yaml"]),
        ("²", ["there is no such run directory"]),
    ],
)
def test_an_unknown_word_costs_a_few_lines(several, word: str, says: list[str]) -> None:
    with pytest.raises(RlrunError) as caught:
        find.open_run(word)
    assert all(text in str(caught.value) for text in says)
    assert len(str(caught.value).splitlines()) <= 5 and caught.value.exit_code == 2


def test_the_nearest_run_is_suggested(several: dict[str, Path]) -> None:
    for word, hint in {
        str(several["old"]).replace("abcd", "abxd"): f"did you mean {several['old']}?",
        "outputs": f"the newest run under outputs is {several['new']}",
        "outputs/cartpole/dqn": f"the newest run under outputs/cartpole/dqn is {several['old']}",
        "nowhere": f"the newest run under outputs is {several['new']}",
    }.items():
        with pytest.raises(RlrunError) as caught:
            find.open_run(word)
        assert str(caught.value).splitlines()[1] == hint


def test_where_there_is_no_run_one_can_be_started() -> None:
    with pytest.raises(RlrunError, match="start one: `rlrun algo=dqn env=cartpole`"):
        find.open_run("best")


def test_an_ambiguous_word_lists_the_candidates(several: dict[str, Path]) -> None:
    more = [make(f"outputs/cartpole/dqn/2026-01-0{day}_s0_abcd") for day in range(2, 6)]
    with pytest.raises(RlrunError) as caught:
        find.open_run("abcd")
    lines = str(caught.value).splitlines()
    assert lines[0] == "abcd: there are 5 of that name" and lines[-1] == "… and 2 more" and len(lines) == 5
    assert str(more[0]) in lines


def test_a_sweep_of_two_jobs_of_one_number_is_ambiguous() -> None:
    make_sweep("s", ["3_a", "3_b"])
    with pytest.raises(RlrunError, match="s/3: there are 2 of that name\ns/3_a\ns/3_b"):
        find.open_run("s/3")


def test_links_that_lead_back_and_hidden_folders_are_passed_over(several: dict[str, Path]) -> None:
    Path("outputs/loop").symlink_to(".")
    Path("outputs/dangling").symlink_to("nowhere")
    make("outputs/.hidden/run", 1000)
    assert len(find.under(find.OUTPUTS)) == 7


def test_a_config_of_something_else_hides_no_runs(several: dict[str, Path]) -> None:
    Path("config.yaml").write_text("a: 1\n")
    assert several["new"] in [run.path for run in find.under(Path())]


def test_what_may_not_be_looked_into_is_passed_over(several: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    make("outputs/closed/run", 1000)
    is_dir = Path.is_dir

    def refuse(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert find.find("last") == several["new"]


@pytest.mark.parametrize("verb", ["resume", "eval", "play", "inspect"])
def test_every_verb_takes_a_name(several: dict[str, Path], verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "mnop"]) == 2
    assert "rlrun: mnop is a sweep, not a run" in capsys.readouterr().err


# The list.


def test_runs_are_listed_the_newest_last(several: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (several["new"] / "summary.json").write_text('{"final_eval": {"mean": 487.25, "std": 21.0}}')
    make("outputs/cartpole/dqn/broken", 400)
    Path("outputs/cartpole/dqn/broken/status.json").write_text("{")
    running = make("outputs/cartpole/dqn/now", 3000, state="running", env_steps=12_345)
    (running / "eval.csv").write_text("env_steps,kind,mean,std\n5000,periodic,20.5,1\n10000,periodic,-31.5,2\n")
    assert cli.main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "steps", "score", "age"]
    assert all(len(line) <= 80 for line in lines)
    rows = {line.split()[0]: line.split()[1:4] for line in lines[1:]}
    names = list(rows)
    assert names[0] == "cartpole/dqn/2026-01-01_000000_s0_abcd" and rows[names[0]] == ["finished", "50k/50k", "-"]
    assert names.index("cartpole/ppo/2026-01-01_000500_s1_efgh") == 6
    assert rows["cartpole/ppo/2026-01-01_000500_s1_efgh"] == ["finished", "50k/50k", "487.2"]
    assert rows["cartpole/dqn/now"] == ["running", "12.3k/50k", "-31.50"]
    assert rows["cartpole/dqn/broken"] == ["damaged", "-", "-"]


def test_runs_of_a_folder(several: dict[str, Path], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", str(several["sweep"])]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        f"sweeps/2026-01-01_000100_ijkl/{job}" for job in ("0_seed=1", "1_seed=2", "10_seed=3")
    ]
    make("a=b/run")
    assert cli.main(["runs", "a=b"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "a=b/run"


def test_runs_as_json(several: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (several["new"] / "summary.json").write_text('{"final_eval": {"mean": 487.25, "std": 21.0}}')
    assert cli.main(["runs", "json=true"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 7
    assert rows[-1] == {
        "run": "outputs/cartpole/ppo/2026-01-01_000500_s1_efgh",
        "state": "finished",
        "env_steps": 50_000,
        "total_timesteps": 50_000,
        "mean": 487.25,
        "std": 21.0,
        "started": "2026-01-01T00:05:00+00:00",
        "reason": "",
    }


def test_where_there_are_no_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs"]) == 0
    assert capsys.readouterr().out == "no runs under outputs; start one: rlrun algo=dqn env=cartpole\n"
    assert cli.main(["runs", "json=true"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert cli.main(["runs", "nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert cli.main(["runs", "jsn=true"]) == 2
    assert "did you mean json?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "text"), [(0, "0"), (950, "950"), (49_999, "49.9k"), (50_000, "50k"), (1_500_000, "1.5M")]
)
def test_steps_are_short_and_never_rounded_up(steps: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    make("outputs/run", state="preempted", env_steps=steps)
    assert cli.main(["runs"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[2] == f"{text}/50k"


@pytest.mark.parametrize(
    "status",
    [
        {"state": "\x1b[31mred"},
        {"state": 5},
        {"env_steps": 10**400},
        {"env_steps": -1},
        {"env_steps": True},
        {"pid": "x"},
        {"started": "0001-01-01T00:00:00"},
        {"started": "never"},
        {"started": 5},
        {"reason": ["x"]},
    ],
)
def test_a_strangers_status_breaks_no_list(status: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    file = make("outputs/run") / "status.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | status))
    make("outputs/deep")
    Path("outputs/deep/status.json").write_text("[" * 100_000)
    Path("outputs/run/summary.json").write_text('{"final_eval": {"mean": 1e999, "std": "x"}}')
    assert cli.main(["runs", "json=true"]) == 0
    assert len(json.loads(capsys.readouterr().out, parse_constant=pytest.fail)) == 2
    assert cli.main(["runs"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert cli.main(["eval", "deep"]) == 2


def test_a_run_that_is_meant_but_cannot_be_opened_is_no_reason_to_name_another() -> None:
    make("outputs/other")
    (make("run") / "config.yaml").unlink()
    with pytest.raises(RlrunError) as error:
        find.open_run("run")
    assert "no config.yaml" in str(error.value)
    assert "outputs" not in str(error.value)


def test_the_path_of_a_checkpoint_names_that_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever writes a path gets that checkpoint or a refusal, never another one."""
    shutil.copytree(DATA / "runs" / "q_learning-frozenlake", "run", symlinks=True)
    early = "run/checkpoints/step_000002000"
    for words, said in {
        (f"{early}", "episodes=1"): "step_000002000",
        (f"{early}/", "episodes=1", "ckpt=2000"): "step_000002000",
        ("run/checkpoints/last", "episodes=1"): "step_000006000",
        ("run/checkpoints", "episodes=1"): "step_000006000",
    }.items():
        assert cli.main(["eval", *words, "json=true"]) == 0
        assert json.loads(capsys.readouterr().out)["checkpoint"] == said
    assert cli.main(["eval", early, "episodes=1", "max_steps=3"]) == 0
    written = {file.name for file in Path("run/evaluations").glob("step_000002000*")}
    assert written == {"step_000002000_greedy_1.json", "step_000002000_greedy_1_cut3.json"}, "one cut is another one"
    assert rlrun.load(early).env_steps == 2000
    for command, said in {
        f"eval {early} ckpt=best": "best is another checkpoint",
        "play run/checkpoints/step_000003000": "no checkpoint 3000",
        f"resume {early} total_timesteps=7000": "the newest checkpoint, step_000006000",
    }.items():
        assert cli.main(command.split()) == 2
        assert said in capsys.readouterr().err
