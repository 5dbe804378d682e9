"""Callbacks: what they write, when, and that an interruption anywhere leaves no trace in it."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streams import SeedIsLength

from rlrun import cli
from rlrun.compute.spread import Alone
from rlrun.errors import ConfigError, Diverged, Interrupted
from rlrun.interrupt import Interrupt
from rlrun.loggers import Loggers
from rlrun.loggers.csv import CsvLogger
from rlrun.run.callbacks import evaluate as evaluation_callback
from rlrun.run.callbacks import log
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.checkpoint import Checkpoint, CheckpointConfig
from rlrun.run.callbacks.evaluate import EvalConfig, Evaluate
from rlrun.run.callbacks.log import Log, Means, numbers
from rlrun.run.callbacks.stop import StopWhenSolved
from rlrun.run.callbacks.summary import Summary
from rlrun.run.evaluation import Kept, evaluate
from rlrun.rundir import checkpoints
from rlrun.rundir.layout import RunDir
from rlrun.seeding import Role, SeedTree
from rlrun.types import Array, Chunk, EpisodeStat, Progress


class Rows:
    """A logger that keeps its rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.ticks: list[tuple[int, float]] = []
        self.last: dict[str, float] = {}

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        self.rows.append((env_steps, dict(metrics)))
        self.last.update(metrics)

    def tick(self, env_steps: int, elapsed: float) -> None:
        self.ticks.append((env_steps, elapsed))


class Weight:
    """An agent whose action is its weight, plus a random number when it explores."""

    def __init__(self, weight: list[float], rng: np.random.Generator):
        self.weight, self.rng = weight, rng

    def initial_memory(self, num_envs: int) -> None:
        return None

    def act(self, obs: Array, memory: None, *, explore: bool, env_steps: int) -> tuple[Array, None, dict[str, Array]]:
        noise = self.rng.normal(size=len(obs)) if explore else 0.0
        return np.full(len(obs), self.weight[0]) + noise, memory, {}

    def fork(self, rng: np.random.Generator) -> Weight:
        return Weight(self.weight, rng)

    def metrics(self, env_steps: int) -> dict[str, float]:
        return {"liveliness": 0.75}


@dataclass
class Algo:
    weight: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        self.agent = Weight(self.weight, np.random.default_rng(0))


class Source:
    caveat = ""

    def prove(self, check: Any = None) -> None:
        self.proven = True

    def metrics(self) -> dict[str, float]:
        return {"rollout/regret": torch.tensor(0.25)}


class Envs(SeedIsLength):
    """Seeds of 32 bits as lengths of 1 to 5."""

    opened: list[Envs] = []  # noqa: RUF012
    closed = False

    def __init__(self) -> None:
        super().__init__(2)
        Envs.opened.append(self)

    def reset_one(self, env: int, seed: int) -> Array:
        assert not self.closed
        return super().reset_one(env, 1 + seed % 5)

    def close(self) -> None:
        self.closed = True


@dataclass
class Run:
    """As much of a run as callbacks see."""

    dir: Any = None
    total: int = 1000
    logger: Any = field(default_factory=Rows)
    algo: Algo = field(default_factory=Algo)
    callbacks: dict[str, Callback] = field(default_factory=dict)
    buffer: Any = None
    should_stop: bool = False
    group: Alone = field(default_factory=Alone)

    @property
    def promise(self) -> str:
        return self.source.caveat or "exact"

    def __post_init__(self) -> None:
        self.progress = Progress(self.total)
        self.source, self.seeds, self.interrupt = Source(), SeedTree(5), Interrupt()
        self.evaluation_envs, self.spec = Kept(Envs), SeedIsLength(1).spec

    def chunk(self, env_steps: int, metrics: Mapping[str, Any] | None = None, *episodes: EpisodeStat) -> None:
        """A chunk that took one second per ten env steps."""
        chunk = Chunk(env_steps, list(episodes), None)
        self.progress.advance(chunk)
        self.progress.wall_seconds += env_steps / 10
        self.look_on(chunk, metrics or {})

    def look_on(self, chunk: Chunk, metrics: Mapping[str, Any]) -> None:
        for callback in self.callbacks.values():
            callback.on_chunk(self, chunk, metrics)  # type: ignore[arg-type]

    def finish(self) -> None:
        for callback in self.callbacks.values():
            callback.on_end(self)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        return {
            "progress": self.progress.state_dict(),
            "callbacks": {name: callback.state_dict() for name, callback in self.callbacks.items()},
            "logger": {} if isinstance(self.logger, Rows) else self.logger.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.progress.load_state_dict(state["progress"])
        for name, callback in self.callbacks.items():
            callback.load_state_dict(state["callbacks"][name])
        if not isinstance(self.logger, Rows):
            self.logger.load_state_dict(state["logger"])


def through_a_file(state: dict[str, Any], root: Path) -> dict[str, Any]:
    """A state as a checkpoint gives it back."""
    return checkpoints.load(checkpoints.save(root, state, 0))


def episode(episode_return: float, length: int = 1) -> EpisodeStat:
    return EpisodeStat(episode_return, length, 0)


# Log


def test_a_row_by_hand() -> None:
    run = Run(callbacks={"log": Log(100, window=2)})
    run.chunk(40, {"loss": torch.tensor(1.0), "own/rate": 0.5}, episode(100.0, 7))
    run.chunk(40, {"loss": torch.tensor(3.0), "own/rate": 0.3}, episode(1.0, 10), episode(2.0, 21))
    run.chunk(19)
    assert run.logger.rows == []
    run.chunk(1, {"td_error": 0.125, "loss": 8.0})
    row = {
        "time/fps": 10.0,
        "time/elapsed": 10.0,
        "rollout/ep_rew_mean": 1.5,  # of the last two
        "rollout/ep_rew_std": 0.5,
        "rollout/ep_len_mean": 15.5,
        "rollout/episodes": 3,
        "train/loss": 4.0,  # of the three chunks that had one
        "own/rate": 0.4,  # a group of its own
        "train/td_error": 0.125,
        "rollout/liveliness": 0.75,  # of the agent
        "rollout/regret": 0.25,
    }
    assert run.logger.rows == [(100, row)]
    assert all(type(value) in (float, int) for value in run.logger.rows[0][1].values())


def test_means_begin_anew_after_a_row_and_the_window_does_not() -> None:
    run = Run(callbacks={"log": Log(10)})
    run.chunk(10, {"train/loss": 1.0}, episode(5.0))
    run.chunk(10, {"train/loss": 2.0})
    run.chunk(10)
    losses = [(steps, row.get("train/loss"), row["rollout/ep_rew_mean"]) for steps, row in run.logger.rows]
    assert losses == [(10, 1.0, 5.0), (20, 2.0, 5.0), (30, None, 5.0)]


def test_nothing_is_made_up_before_the_first_episode() -> None:
    run = Run(callbacks={"log": Log(10)})
    run.chunk(10)
    names = ["time/fps", "time/elapsed", "rollout/episodes", "rollout/liveliness", "rollout/regret"]
    assert list(run.logger.rows[0][1]) == names


def test_a_row_tells_how_much_a_replay_buffer_holds() -> None:
    """As it is at that moment, not a mean; without one there is nothing to tell."""
    run = Run(callbacks={"log": Log(10)}, buffer=[0] * 7)
    run.chunk(10)
    assert run.logger.rows[0][1]["train/buffer_size"] == 7
    run.buffer = None
    run.chunk(10)
    assert "train/buffer_size" not in run.logger.rows[1][1]


def test_rows_come_on_crossing_and_one_at_the_end() -> None:
    run = Run(callbacks={"log": Log(100)})
    for env_steps in (64, 64, 64, 364, 64):  # 64 128 192 556 620
        run.chunk(env_steps)
    run.finish()
    assert [steps for steps, _ in run.logger.rows] == [128, 556, 620]
    assert run.logger.rows[-1][1]["time/fps"] == pytest.approx(10.0)
    run.finish()
    assert len(run.logger.rows) == 3
    assert run.logger.ticks[:2] == [(64, 6.4), (128, 12.8)]


def test_only_the_last_row_if_freq_is_0() -> None:
    run = Run(callbacks={"log": Log(0)})
    run.chunk(600, {"train/loss": 1.0})
    run.chunk(300, {"train/loss": 4.0})
    run.finish()
    assert [(steps, row["train/loss"]) for steps, row in run.logger.rows] == [(900, 2.5)]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_divergence_names_metric_and_step_and_is_in_the_log(value: float) -> None:
    run = Run(callbacks={"log": Log(100)})
    run.chunk(50, {"train/loss": torch.tensor(value), "train/q_mean": 1.0, "rollout/odd": math.nan})
    with pytest.raises(Diverged, match=f"^train/loss is {value} at env step 1,050$") as error:
        run.chunk(1000, {"train/loss": torch.tensor(1.0)})
    assert error.value.exit_code == 3
    assert run.logger.rows[0][0] == 1050


def test_means_do_not_depend_on_when_they_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=100) * 10.0 ** rng.integers(-9, 9, 100)).tolist()
    total = 0.0
    for value in values:
        total += value
    monkeypatch.setattr(log, "MAX_PENDING", 7)
    means = Means()
    for i, value in enumerate(values):
        means.add({"a": value} if i % 3 else {"b": 1.0, "a": value}, {})
        if i == 50:
            state, means = json.loads(json.dumps(means.state_dict())), Means()
            means.load_state_dict(state)
    assert len(means._pending) < 7
    assert means.take() == {"train/b": 1.0, "train/a": total / 100}
    assert means.take() == {}


def test_the_order_of_columns_does_not_depend_on_a_checkpoint_before_learning_begins() -> None:
    whole, cut = Means(), Means()
    for means in (whole, cut):
        means.add({}, {"exploration_rate": 1.0})
    cut.load_state_dict(json.loads(json.dumps(cut.state_dict())))
    for means in (whole, cut):
        means.add({"loss": 1.0, "mine/own": 2.0}, {"exploration_rate": 0.9})
    assert [*whole.take()] == [*cut.take()] == ["train/loss", "mine/own", "rollout/exploration_rate"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_numbers_from_a_device() -> None:
    assert numbers([torch.tensor(value, device="cuda") for value in (0.5, 1.5)]) == [0.5, 1.5]


def chunks() -> Iterator[tuple[int, dict[str, Any], list[EpisodeStat]]]:
    """Uneven chunks, metrics that come and go, tensors of single precision."""
    rng = np.random.default_rng(3)
    for i in range(30):
        metrics = {"train/loss": torch.tensor(rng.normal())} if i > 9 else {}
        if i % 4 == 0:
            metrics["rollout/exploration_rate"] = rng.random()
        yield int(rng.integers(1, 40)), metrics, [episode(rng.normal(), int(rng.integers(99)))] * int(rng.integers(3))


def logging_run(path: Path) -> Run:
    return Run(total=10_000, logger=Loggers({"csv": CsvLogger(path)}), callbacks={"log": Log(100, window=5)})


@pytest.mark.parametrize("cut", range(31))
def test_metrics_csv_shows_no_interruption(tmp_path: Path, cut: int) -> None:
    whole = logging_run(tmp_path / "whole.csv")
    for env_steps, metrics, episodes in chunks():
        whole.chunk(env_steps, metrics, *episodes)
    whole.finish()

    first = logging_run(tmp_path / "cut.csv")
    for i, (env_steps, metrics, episodes) in enumerate(chunks()):
        if i == cut:
            state = through_a_file(first.state_dict(), tmp_path / "checkpoints")
        first.chunk(env_steps, metrics, *episodes)
    if cut == 30:
        state = through_a_file(first.state_dict(), tmp_path / "checkpoints")
    first.finish()

    second = logging_run(tmp_path / "cut.csv")
    second.load_state_dict(state)
    second.look_on(Chunk(0, [], None), {})
    for env_steps, metrics, episodes in itertools.islice(chunks(), cut, None):
        second.chunk(env_steps, metrics, *episodes)
    second.finish()
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len((tmp_path / "whole.csv").read_text().splitlines()) > 4


# StopWhenSolved


def test_solved_is_the_mean_of_a_full_window() -> None:
    run = Run(callbacks={"stop": StopWhenSolved(10.0, window=3)})
    for episode_return, stops in [(100.0, False), (10.0, False), (0.0, True)]:  # three, mean 36.7
        run.chunk(1, {}, episode(episode_return))
        assert run.should_stop is stops
    run = Run(callbacks={"stop": StopWhenSolved(10.0, window=3)})
    for episode_return, stops in [(9.0, False), (10.0, False), (10.0, False), (10.0, True)]:
        run.chunk(1, {}, episode(episode_return))
        assert run.should_stop is stops


def test_solved_is_not_forgotten_by_a_resume(tmp_path: Path) -> None:
    first = Run(callbacks={"stop": StopWhenSolved(10.0, window=2)})
    first.chunk(1, {}, episode(10.0), episode(10.0))
    second = Run(callbacks={"stop": StopWhenSolved(10.0, window=2)})
    second.load_state_dict(through_a_file(first.state_dict(), tmp_path))
    second.look_on(Chunk(0, [], None), {})
    assert second.should_stop


# Evaluate and Checkpoint


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    Envs.opened.clear()
    return RunDir.create(tmp_path / "run")


def saving_run(
    run_dir: RunDir,
    total: int = 1000,
    every: int = 100,
    save: int = 10**9,
    keep_best: bool = True,
    policy: str = "greedy",
) -> Run:
    saver = Checkpoint(CheckpointConfig(freq=save, keep_last=2, keep_best=keep_best))
    evaluation = Evaluate(EvalConfig(freq=every, episodes=4, policy=policy), run_dir.eval_csv, saver)
    parts = {"evaluate": evaluation, "checkpoint": saver, "summary": Summary(evaluation)}
    return Run(run_dir, total, callbacks=parts)


def lengths(role: Role) -> list[int]:
    return [1 + seed % 5 for seed in SeedTree(5).integers(role, 4)]


def read_eval(run_dir: RunDir) -> list[dict[str, str]]:
    with run_dir.eval_csv.open() as file:
        return [row for row in csv.DictReader(file) if row.pop("time_seconds")]


def saved(run_dir: RunDir) -> dict[str, int]:
    """Checkpoint or link -> its env steps."""
    return {path.name: int(path.resolve().name.removeprefix("step_")) for path in run_dir.checkpoints.iterdir()}


def test_an_evaluation_by_hand(run_dir: RunDir) -> None:
    run = saving_run(run_dir)
    run.chunk(99)
    assert Envs.opened == []
    run.algo.weight[0] = 2.0
    run.chunk(2)
    steps = lengths(Role.EVAL)
    returns = [2.0 * n for n in steps]
    assert read_eval(run_dir) == [
        {
            "env_steps": "101",
            "kind": "periodic",
            "mean": repr(sum(returns) / 4),
            "std": repr(float(np.std(returns))),
            "min": repr(min(returns)),
            "max": repr(max(returns)),
            "mean_length": repr(sum(steps) / 4),
            "episodes": "4",
            "cut": "0",
            "policy": "greedy",
        }
    ]
    metrics = {
        "eval/mean_reward": sum(returns) / 4,
        "eval/std_reward": float(np.std(returns)),
        "eval/mean_ep_length": sum(steps) / 4,
        "eval/best_mean_reward": sum(returns) / 4,
    }
    assert run.logger.rows == [(101, metrics)]
    run.algo.weight[0] = 1.0
    run.chunk(100)
    assert [envs.closed for envs in Envs.opened] == [False]  # kept for the next one
    run.evaluation_envs.close()
    assert [envs.closed for envs in Envs.opened] == [True]


def test_no_episodes_are_no_evaluation(run_dir: RunDir) -> None:
    run = saving_run(run_dir)
    run.callbacks["evaluate"].cfg = EvalConfig(episodes=0)  # type: ignore[attr-defined]
    run.chunk(1000)
    run.finish()
    assert Envs.opened == []
    assert run.callbacks["evaluate"].final is None  # type: ignore[attr-defined]
    assert not run_dir.eval_csv.exists()


def test_an_evaluation_leaves_the_global_streams_alone(run_dir: RunDir) -> None:
    class Careless(Envs):
        def step(self, action: Array) -> Any:
            drawn.append((random.random(), np.random.random(), torch.rand(1).item()))
            return super().step(action)

    drawn: list[Any] = []
    run = saving_run(run_dir)
    run.evaluation_envs = Kept(Careless)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = random.random(), np.random.random(), torch.rand(1).item()
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    run.chunk(100)
    first, drawn = drawn, []
    assert (random.random(), np.random.random(), torch.rand(1).item()) == expected
    run.chunk(100)
    assert drawn == first  # seeded anew for every evaluation


def test_an_evaluation_is_done_as_configured(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        evaluation_callback, "evaluate", lambda *args, **how: asked.update(how) or evaluate(*args, **how)
    )
    run = saving_run(run_dir)
    cfg = EvalConfig(episodes=4, policy="stochastic", max_steps=1)
    run.callbacks["evaluate"] = Evaluate(cfg, run_dir.eval_csv, Checkpoint(CheckpointConfig()))
    run.chunk(77)
    run.finish()
    assert asked == {"explore": True, "env_steps": 77, "max_steps": 1, "interrupt": run.interrupt}
    assert read_eval(run_dir)[0]["mean_length"] == "1.0"


def test_periodic_and_final_have_seeds_of_their_own(run_dir: RunDir) -> None:
    assert lengths(Role.EVAL) != lengths(Role.FINAL_EVAL)
    run = saving_run(run_dir, total=250)
    for _ in range(5):
        run.chunk(50)
    run.finish()
    rows = [(row["env_steps"], row["kind"], float(row["mean_length"])) for row in read_eval(run_dir)]
    often, once = sum(lengths(Role.EVAL)) / 4, sum(lengths(Role.FINAL_EVAL)) / 4
    assert rows == [("100", "periodic", often), ("200", "periodic", often), ("250", "final", once)]


@pytest.mark.parametrize("ends", ["done", "should_stop"])
def test_the_final_evaluation_replaces_one_that_is_due(run_dir: RunDir, ends: str) -> None:
    run = saving_run(run_dir, total=100 if ends == "done" else 1000)
    run.should_stop = ends == "should_stop"
    run.chunk(100)
    run.finish()
    run.finish()
    assert [row["kind"] for row in read_eval(run_dir)] == ["final"]
    longer = saving_run(run_dir, total=1000)  # resumed with more to do: what was due was done by the final one
    longer.load_state_dict(through_a_file(run.state_dict(), run_dir.path / "x"))
    longer.look_on(Chunk(0, [], None), {})
    assert [row["kind"] for row in read_eval(run_dir)] == ["final"]


def test_the_best_is_kept(run_dir: RunDir) -> None:
    run = saving_run(run_dir)
    for weight in (1.0, 3.0, 2.0, 3.0):
        run.algo.weight[0] = weight
        run.chunk(100)
    assert saved(run_dir)["best"] == 200  # the first of the equals
    assert run.callbacks["evaluate"].best["env_steps"] == 200  # type: ignore[attr-defined]
    assert [row["eval/best_mean_reward"] / row["eval/mean_reward"] for _, row in run.logger.rows] == [1, 1, 1.5, 1]
    run.finish()
    assert saved(run_dir)["last"] == 400 and saved(run_dir)["best"] == 200


def test_a_negative_best_is_a_best(run_dir: RunDir) -> None:
    run = saving_run(run_dir)
    run.algo.weight[0] = -5.0
    run.chunk(100)
    assert saved(run_dir)["best"] == 100


def test_the_best_is_not_kept_if_not_wanted(run_dir: RunDir) -> None:
    run = saving_run(run_dir, keep_best=False)
    run.chunk(100)
    assert not run_dir.checkpoints.exists()


def test_best_and_periodic_are_one_checkpoint_that_knows_of_itself(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = []
    real = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *args, **kwargs: saves.append(kwargs) or real(*args, **kwargs))
    run = saving_run(run_dir, save=50)
    run.chunk(100)
    assert saves == [{"best": True, "keep_last": 2}]
    resumed = saving_run(run_dir, save=50)
    resumed.load_state_dict(checkpoints.load(run_dir.checkpoints / "best"))
    resumed.look_on(Chunk(0, [], None), {})
    assert len(saves) == 1 and len(Envs.opened) == 1
    assert run_dir.read_status()["env_steps"] == 100


def test_a_best_is_not_forgotten_before_it_is_saved(run_dir: RunDir) -> None:
    first = saving_run(run_dir)
    first.callbacks["checkpoint"].mark_best()  # type: ignore[attr-defined]
    second = saving_run(run_dir)
    second.load_state_dict(through_a_file(first.state_dict(), run_dir.path / "x"))
    second.look_on(Chunk(0, [], None), {})
    assert saved(run_dir)["best"] == 0


def test_checkpoints_on_crossing_and_at_the_end(run_dir: RunDir) -> None:
    run = saving_run(run_dir, total=300, every=0, save=100, keep_best=False)
    for env_steps in (64, 64, 64, 64, 44):  # 64 128 192 256 300
        run.chunk(env_steps)
        last = saved(run_dir).get("last") if run_dir.checkpoints.exists() else None
        assert last == {64: None, 128: 128, 192: 128, 256: 256, 300: 256}[run.progress.env_steps]
    run.finish()
    assert saved(run_dir) == {"step_000000256": 256, "step_000000300": 300, "last": 300}


def interrupt_in(run: Run, step: int) -> None:
    """Send a signal in a step of the next evaluation."""

    class Interrupting(Envs):
        steps = 0

        def step(self, action: Array) -> Any:
            self.steps += 1
            if self.steps == step:
                run.interrupt.signum = signal.SIGTERM
            return super().step(action)

    run.evaluation_envs = Kept(Interrupting)


@pytest.mark.parametrize("total", [1000, 200])
def test_an_interrupted_evaluation_is_made_up_for(run_dir: RunDir, total: int) -> None:
    """It is periodic if there is more to do after these 200 steps, otherwise final."""
    first = saving_run(run_dir, total)
    first.chunk(100)
    interrupt_in(first, 2)
    with pytest.raises(Interrupted):
        first.chunk(100)
        first.finish()
    assert len(read_eval(run_dir)) == 1
    state = through_a_file(first.state_dict(), run_dir.path / "x")
    second = saving_run(run_dir, total)
    second.load_state_dict(state)
    second.look_on(Chunk(0, [], None), {})
    second.finish()
    kinds = [(row["env_steps"], row["kind"]) for row in read_eval(run_dir)]
    assert kinds == [("100", "periodic"), *[("200", "periodic")] * (total == 1000), ("200", "final")]


def test_eval_csv_is_cut_back(run_dir: RunDir) -> None:
    run = saving_run(run_dir)
    run.chunk(100)
    state, content = run.state_dict(), run_dir.eval_csv.read_bytes()
    run.chunk(100)
    saving_run(run_dir).load_state_dict(through_a_file(state, run_dir.path / "x"))
    assert run_dir.eval_csv.read_bytes() == content


def test_evaluation_leaves_the_random_stream_of_training_alone(run_dir: RunDir) -> None:
    run = saving_run(run_dir, policy="stochastic")
    before = run.algo.agent.rng.bit_generator.state
    run.chunk(100)
    run.chunk(100)
    assert run.algo.agent.rng.bit_generator.state == before
    first, second = read_eval(run_dir)
    assert first["policy"] == "stochastic"
    assert first["mean"] != repr(float(first["mean_length"]))  # greedy, every step earns 1
    assert first["mean"] == second["mean"]  # the same weights, episodes and noise


# Summary


def test_the_summary(run_dir: RunDir) -> None:
    run = saving_run(run_dir, total=200, every=100)
    run.callbacks = {"log": Log(100), **run.callbacks}
    run.chunk(100, {"train/loss": 1.0})
    run.algo.weight[0] = 0.5
    run.chunk(100, {"train/entropy": 3.0})
    run.finish()
    run.callbacks["summary"].write(run, "finished", 200)  # type: ignore[attr-defined]
    summary = json.loads(run_dir.summary.read_text())
    best, final = sum(lengths(Role.EVAL)) / 4, sum(lengths(Role.FINAL_EVAL)) / 8
    assert (summary["best_eval"]["mean"], summary["best_eval"]["env_steps"]) == (best, 100)
    assert (summary["final_eval"]["mean"], summary["final_eval"]["env_steps"]) == (final, 200)
    assert summary["final_eval"]["episodes"] == 4
    assert (summary["train/loss"], summary["train/entropy"], summary["eval/mean_reward"]) == (1.0, 3.0, final)
    assert (summary["env_steps"], summary["wall_seconds"], summary["state"]) == (200, 20.0, "finished")


def test_a_summary_of_a_run_that_did_not_get_far(run_dir: RunDir) -> None:
    run = saving_run(run_dir)
    run.callbacks["summary"].write(run, "preempted", 0)  # type: ignore[attr-defined]
    summary = json.loads(run_dir.summary.read_text())
    assert (summary["state"], summary["final_eval"], summary["best_eval"]) == ("preempted", None, None)


# Configuration


@pytest.mark.parametrize(
    ("schema", "key", "value"),
    [
        (EvalConfig, "freq", -1),
        (EvalConfig, "episodes", -1),
        (EvalConfig, "policy", "gredy"),
        (EvalConfig, "num_envs", 0),
        (EvalConfig, "max_steps", 0),
        (CheckpointConfig, "freq", -1),
        (CheckpointConfig, "keep_last", -1),
    ],
)
def test_impossible_values_name_their_key(schema: Any, key: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        schema(**{key: value})
    assert error.value.key == key


def test_what_is_not_a_number_is_not_saved(run_dir: RunDir) -> None:
    class Broken:
        def state_dict(self) -> dict:
            return {"weights": [np.array([1.0, np.nan])]}

    run = saving_run(run_dir)
    state = run.state_dict()
    run.state_dict = lambda: state | {"algo": Broken().state_dict()}  # type: ignore[method-assign]
    with pytest.raises(Diverged, match="not a number"):
        run.callbacks["checkpoint"].save(run)  # type: ignore[attr-defined]
    assert not list(run_dir.checkpoints.glob("step_*"))


# Through the command: no checkpoints, and one at the start

FROZEN = ["algo=q_learning", "env=frozenlake", "+smoke=on", "total_timesteps=200", "logger.console=off"]


def test_nothing_is_saved_if_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert cli.main([*FROZEN, "checkpoint.enabled=false", "eval.freq=50", f"hydra.run.dir={run}"]) == 0
    assert not (run / "checkpoints").exists()
    assert json.loads((run / "meta.json").read_text())["resume"] == "nothing is saved: it would begin anew"
    assert json.loads((run / "summary.json").read_text())["final_eval"]["episodes"] == 2
    capsys.readouterr()
    assert cli.main(["eval", str(run)]) == 2
    assert "there are none yet" in capsys.readouterr().err


def test_the_state_before_the_first_step_can_be_saved(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli.main([*FROZEN, "checkpoint.at_start=true", f"hydra.run.dir={run}"]) == 0
    start = checkpoints.load(checkpoints.find(run / "checkpoints", 0))
    assert not start["algo"]["q"].any() and start["progress"]["env_steps"] == 0
    end = checkpoints.load(checkpoints.find(run / "checkpoints"), ["algo"])["algo"]["q"]
    assert cli.main(["eval", str(run), "ckpt=0", "episodes=2"]) == 0

    for path in (run / "checkpoints").iterdir():  # as if it had been killed before the next checkpoint
        if path.is_symlink():
            path.unlink()
        elif path.name != "step_000000000":
            shutil.rmtree(path)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "preempted", "env_steps": 0, "saved": 0}))
    assert cli.main(["resume", str(run)]) == 0
    again = checkpoints.load(checkpoints.find(run / "checkpoints"), ["algo"])["algo"]["q"]
    assert again.tobytes() == end.tobytes()
