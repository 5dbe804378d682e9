"""Callbacks that a user names in the config: what they hear, in which order, and that they are resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rlrun import cli

MODULE = '''
import json
import signal
from rlrun import Callback, register


class Diary(Callback):
    """Writes down what it hears; remembers how many episodes there were."""

    def __init__(self, file="diary.jsonl", preempt_at=None):
        self.file, self.preempt_at, self.episodes, self.chunks = file, preempt_at, 0, 0

    def write(self, run, *words):
        with open(self.file, "a") as file:
            file.write(json.dumps([run.progress.env_steps, *words]) + "\\n")

    def on_start(self, run):
        self.write(run, "start")

    def on_chunk(self, run, chunk, metrics):
        self.chunks += 1
        if self.preempt_at and run.progress.env_steps >= self.preempt_at:
            run.interrupt.signum, self.preempt_at = signal.SIGTERM, None

    def on_episode_end(self, run, episode):
        self.episodes += 1
        self.write(run, "episode", self.episodes, episode.length)

    def on_evaluation(self, run, result, kind):
        self.write(run, "evaluation", kind, len(result.returns))

    def on_best(self, run, result):
        self.write(run, "best", result.mean)

    def on_solved(self, run):
        self.write(run, "solved")

    def on_end(self, run):
        self.write(run, "end", self.episodes)

    def state_dict(self):
        return {"episodes": self.episodes, "preempt_at": self.preempt_at}

    def load_state_dict(self, state):
        self.episodes, self.preempt_at = state["episodes"], state["preempt_at"]


@register("callback", name="early")
class Early(Callback):
    """Stops the run."""

    def __init__(self, after: int = 100):
        self.after = after

    def on_chunk(self, run, chunk, metrics):
        run.should_stop = run.should_stop or run.progress.env_steps >= self.after


class Clumsy(Callback):
    def on_evaluation(self, run, result, kind):
        raise ValueError("no paper left")


class Unsaveable(Callback):
    def state_dict(self):
        return {"x": object()}


class NoCallback:
    pass


def broken():
    raise OSError("no diary")


def number():
    return 3
'''

RUN = ["algo=q_learning", "env=frozenlake", "+smoke=on", "total_timesteps=300", "logger.console=off"]


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module beside the user, of a new name for every test."""
    name = "diaries_" + "".join(filter(str.isalnum, request.node.name.lower()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text(MODULE.replace('"early"', f'"early_{name}"'))
    return name


def said(file: str = "diary.jsonl") -> list[list[object]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def test_every_hook_is_heard(module: str) -> None:
    words = ["eval.freq=100", "stop.mean_return=0", "stop.window=1", f"callbacks=[{module}.Diary]"]
    assert cli.main([*RUN, *words, "hydra.run.dir=run"]) == 0
    heard = said()
    assert heard[0] == [0, "start"]
    assert heard[-1][1] == "end"
    assert {str(line[1]) for line in heard} == {"start", "episode", "evaluation", "best", "solved", "end"}
    first_evaluation = next(line for line in heard if line[1] == "evaluation")
    assert heard[heard.index(first_evaluation) + 1][1] == "best", "the first evaluation is the best so far"
    episodes = [line for line in heard if line[1] == "episode"]
    assert [line[2] for line in episodes] == [*range(1, len(episodes) + 1)]
    assert sum(line[1] == "solved" for line in heard) == 1


def test_arguments_names_and_two_of_a_kind(module: str) -> None:
    own = f"callbacks=[{{_target_:{module}.Diary,file:a}},{{_target_:{module}.Diary,file:b}},early_{module}]"
    assert cli.main([*RUN, f"imports=[{module}]", own, "hydra.run.dir=run"]) == 0
    assert said("a") == said("b")
    assert json.loads(Path("run/status.json").read_text())["env_steps"] == 100


def test_a_resumed_callback_goes_on_where_it_was(module: str) -> None:
    for name, preempt in {"alone": "null", "stopped": "100"}.items():
        own = f"callbacks=[{{_target_:{module}.Diary,file:{name},preempt_at:{preempt}}}]"
        code = cli.main([*RUN, own, f"hydra.run.dir=run_{name}"])
        assert code == (75 if name == "stopped" else 0)
    assert cli.main(["resume", "run_stopped"]) == 0
    assert [line for line in said("stopped") if line[1] != "start"] == said("alone")[1:]
    assert [line[0] for line in said("stopped") if line[1] == "start"] == [0, 100]


def test_a_callback_that_fails_is_named(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RUN, f"callbacks=[{module}.Clumsy]", "hydra.run.dir=run"]) == 1
    assert f"callback #1 {module}.Clumsy: on_evaluation() failed: ValueError: no paper left" in capsys.readouterr().err
    assert json.loads(Path("run/status.json").read_text())["state"] == "failed"


@pytest.mark.parametrize(
    ("own", "code", "says"),
    [
        ("[nowhere.Diary]", 2, "callbacks: 'nowhere.Diary' cannot be imported"),
        ("[MODULE.Nothing]", 2, "'MODULE.Nothing' cannot be imported"),
        ("[MODULE.NoCallback]", 2, "derive it from rlrun.Callback"),
        ("[MODULE.number]", 2, "#1 MODULE.number made a int"),
        ("[MODULE.broken]", 1, "callback #1 MODULE.broken cannot be used: OSError: no diary"),
        ("[MODULE.Unsaveable]", 1, "cannot be used: TypeError: state.x: a object cannot be saved"),
        ("[{_target_:MODULE.Diary,fiel:x}]", 2, "callbacks: MODULE.Diary: got an unexpected keyword argument 'fiel'"),
        ("[unheard]", 2, "callbacks: unheard is not registered"),
        ("[3]", 2, "callbacks: 3 names nothing"),
        ("[{file:x}]", 2, "names nothing"),
        ("[{_target_:MODULE.Diary,_args_:[1]}]", 2, "_args_ is not understood"),
    ],
)
def test_what_is_no_callback_is_refused_before_anything_is_made(
    own: str, code: int, says: str, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*RUN, f"callbacks={own.replace('MODULE', module)}", "hydra.run.dir=run"]) == code
    error = capsys.readouterr().err
    assert says.replace("MODULE", module) in error
    assert len(error.splitlines()) <= 5
    assert not os.path.exists("run")
