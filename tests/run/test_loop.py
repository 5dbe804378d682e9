"""The loop as a generator: runs that are taken in turns are each as if they were alone."""

from __future__ import annotations

import csv
import itertools
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.loggers.runlog import run_log
from rlrun.run import build
from rlrun.run import loop as loops
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.callbacks import Callbacks
from rlrun.run.loop import loop
from rlrun.run.run import Run
from rlrun.rundir.layout import RunDir

WORDS = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.console=off", "total_timesteps=200"]


def begun(folder: Path, *words: str, own: dict[str, Callback] | None = None) -> tuple[Run, Callbacks]:
    """A run at its beginning, without the command around it."""
    compose.set_up([])
    cfg = validate(compose.compose([*WORDS, *words]).data)
    run = build.begin(build.parts(cfg), RunDir.create(folder))
    return run, build.callbacks(cfg, run.dir, own or {})


def rows(run: Run) -> list[dict[str, str]]:
    with run.dir.metrics_csv.open() as file:
        return [{key: row[key] for key in row if not key.startswith("time/")} for row in csv.DictReader(file)]


class Talks(Callback):
    """Says how far its run is."""

    def __init__(self, name: str):
        self.name = name

    def on_chunk(self, run: Run, chunk: Any, metrics: Any) -> None:
        logging.getLogger("rlrun.talks").info("%s at %d", self.name, run.progress.env_steps)


def test_runs_taken_in_turns_are_as_if_alone(tmp_path: Path) -> None:
    alone, callbacks = begun(tmp_path / "alone", "seed=2")
    for _ in loop(alone, callbacks):
        pass
    alone.close()
    one, two = (begun(tmp_path / f"{seed}", f"seed={seed}", own={"#1": Talks(f"run {seed}")}) for seed in (1, 2))
    with ExitStack() as logs:
        for run, _ in (one, two):
            logs.enter_context(run_log(run.dir.log, "off"))
        for _ in itertools.zip_longest(loop(*one), loop(*two)):
            pass
    for run, _ in (one, two):
        run.close()
    assert rows(two[0]) == rows(alone) != rows(one[0])
    for seed, (run, _) in ((1, one), (2, two)):
        said = [line.rpartition("run ")[2] for line in run.dir.log.read_text().splitlines() if "run " in line]
        assert said == [f"{seed} at {step}" for step in range(1, 201)], "nothing of the other's, all of its own"


def test_what_is_done_between_two_chunks_is_none_of_the_runs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, callbacks = begun(tmp_path / "run")
    now = itertools.count()  # every look at the clock is a second later
    monkeypatch.setattr(loops.time, "monotonic", lambda: float(next(now)))
    stream = loop(run, callbacks)
    next(stream)
    first = run.progress.wall_seconds
    for _ in range(1000):
        next(now)  # the caller takes its time
    next(stream)
    assert run.progress.wall_seconds - first == 2  # this chunk's end, and the moment at which it was handed over
    run.close()


def test_a_loop_that_is_given_up_tells_nobody_of_an_end(tmp_path: Path) -> None:
    class Ends(Callback):
        ended = False

        def on_end(self, run: Run) -> None:
            self.ended = True

    own = Ends()
    run, callbacks = begun(tmp_path / "run", own={"#1": own})
    stream = loop(run, callbacks)
    chunks = [next(stream) for _ in range(3)]
    stream.close()
    run.close()
    assert sum(chunk.env_steps for chunk in chunks) == run.progress.env_steps == 3
    assert not own.ended and not run.dir.checkpoints.exists()


def test_callbacks_are_saved_beside_the_run_and_hear_of_each_other(tmp_path: Path) -> None:
    class Hears(Callback):
        state = ("heard",)

        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_evaluation(self, run: Run, result: Any, kind: str) -> None:
            self.heard.append(kind)

    own = Hears()
    run, callbacks = begun(tmp_path / "run", "eval.freq=100", own={"#1 Hears": own})
    for _ in loop(run, callbacks):
        pass
    run.close()
    assert own.heard == ["periodic", "final"]
    assert list(callbacks.state_dict()) == ["log", "evaluate", "#1 Hears", "checkpoint", "summary", "bandit", "returns"]
    again = Hears()
    _, others = begun(tmp_path / "again", own={"#1 Hears": again})
    others.load_state_dict(callbacks.state_dict())
    assert again.heard == own.heard
