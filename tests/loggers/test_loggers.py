"""Loggers: what stands in the files, that a cut leaves the rows of the checkpoint, and how the console looks."""

from __future__ import annotations

import csv
import fcntl
import json
import logging
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlrun import loggers
from rlrun.errors import ConfigError
from rlrun.files import DiskError
from rlrun.loggers import LoggerConfig, Loggers, tensorboard
from rlrun.loggers.console import HEADER_EVERY, ROWS, TableLogger, mode
from rlrun.loggers.csv import CsvLogger, CsvTable
from rlrun.loggers.jsonl import JsonlLogger, rows
from rlrun.loggers.panel import PanelLogger, shorten
from rlrun.loggers.runlog import run_log
from rlrun.loggers.tensorboard import TensorBoardLogger
from rlrun.rundir.layout import RunDir
from rlrun.text import clock, counted, mean_and_std, number, speed, time_left

ROW_1 = {"time/fps": 100.0, "rollout/ep_rew_mean": 0.1 + 0.2}
ROW_2 = {"time/fps": 200.0, "rollout/ep_rew_mean": -1e-17, "train/loss": 1 / 3}
ROW_3 = {"eval/mean_reward": 500.0, "odd, name": 1.0}
ROW_4 = {"time/fps": 300.0, "train/loss": math.inf}


# metrics.csv


def test_csv_grows_columns_and_keeps_every_digit(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "metrics.csv")
    logger.log(ROW_1, 1000)
    assert (tmp_path / "metrics.csv").read_text() == (
        "env_steps,time/fps,rollout/ep_rew_mean\n1000,100.0,0.30000000000000004\n"
    )
    logger.log(ROW_2, 2000)
    logger.log(ROW_3, 2000)
    logger.log(ROW_4, 3000)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        'env_steps,time/fps,rollout/ep_rew_mean,train/loss,eval/mean_reward,"odd, name"',
        "1000,100.0,0.30000000000000004,,,",
        "2000,200.0,-1e-17,0.3333333333333333,,",
        "2000,,,,500.0,1.0",
        "3000,300.0,,inf,,",
    ]


def test_csv_table_takes_words(tmp_path: Path) -> None:
    table = CsvTable(tmp_path / "eval.csv", ["env_steps", "kind"])
    table.append({"env_steps": 10, "kind": "final", "mean": 1.5})
    assert (tmp_path / "eval.csv").read_text() == "env_steps,kind,mean\n10,final,1.5\n"


# metrics.jsonl


def test_jsonl_is_strict_json(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.log({"a": 0.1 + 0.2, "b": math.nan, "c": -math.inf}, 7)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    row = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert abs(row.pop("time") - (tmp_path / "metrics.jsonl").stat().st_mtime) < 5
    assert row == {"env_steps": 7, "a": 0.30000000000000004, "b": None, "c": None}


# tb/


def read_events(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """tag -> (step, value) of every scalar, read by TensorBoard itself."""
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def read_csv(path: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of a csv file, rounded to TensorBoard's single precision."""
    found: dict[str, list[tuple[int, float]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name != "env_steps" and value:
                    found.setdefault(name, []).append((int(row["env_steps"]), float(np.float32(value))))
    return found


def test_rows_that_were_written_can_be_read(tmp_path: Path) -> None:
    """Whatever else a file holds that is not of this run's making."""
    path = tmp_path / "metrics.jsonl"
    assert list(rows(path)) == []
    logger = JsonlLogger(path)
    logger.log({"loss": 0.5, "fps": math.nan, "n": 3}, 10)
    logger.close()
    with open(path, "a") as file:
        file.write(
            '{"env_steps": 20, "a": "x", "b": [1], "c": 1e400, "d": true, "e": 1' + "0" * 400 + '}\nnonsense\n{"env'
        )
    assert list(rows(path)) == [(10, {"loss": 0.5, "n": 3}), (20, {"c": math.inf})]


def test_tensorboard_reads_the_rows(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path / "tb")
    logger.log(ROW_1, 1000)
    assert read_events(tmp_path / "tb")["time/fps"] == [(1000, 100.0)]  # without a close: every row is flushed
    logger.log(ROW_2, 2**40)
    assert read_events(tmp_path / "tb") == {
        "time/fps": [(1000, 100.0), (2**40, 200.0)],
        "rollout/ep_rew_mean": [(1000, float(np.float32(0.3))), (2**40, float(np.float32(-1e-17)))],
        "train/loss": [(2**40, float(np.float32(1 / 3)))],
    }


CONFIG = """seed: 3
algo:
  name: dqn
  epsilon:
    start: 1.0
  double: true
  max_grad_norm: null
network:
  hidden: [64, 64]
logger:
  freq: 10
"""


def test_tensorboard_shows_the_config_as_text_and_as_hyperparameters(tmp_path: Path) -> None:
    """As its text and HParams plug-ins read them, in front of the first row and only there."""
    from tensorboard.plugins.hparams import metadata as hparams

    first = TensorBoardLogger(tmp_path, CONFIG)
    first.log(ROW_1, 1000)
    state = first.state_dict()
    first.log(ROW_2, 2000)
    second = TensorBoardLogger(tmp_path, CONFIG)
    second.load_state_dict(state)
    second.log(ROW_2, 3000)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (text,) = events.Tensors("config")
    assert text.tensor_proto.string_val[0].decode() == textwrap.indent(CONFIG, "    ")
    content = events.PluginTagToContent("hparams")[hparams.SESSION_START_INFO_TAG]
    found = hparams.parse_session_start_info_plugin_data(content).hparams
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}
    assert values == {
        "seed": 3,
        "algo.name": "dqn",
        "algo.epsilon.start": 1.0,
        "algo.double": True,
        "algo.max_grad_norm": "null",
        "network.hidden": "[64, 64]",
    }
    assert read_events(tmp_path)["time/fps"] == [(1000, 100.0), (3000, 200.0)]


def test_tensorboard_is_imported_at_the_first_row_only() -> None:
    code = "import sys, rlrun.loggers; assert not {'tensorboard', 'rich'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Cutting back


LOGGERS: dict[str, Callable[[Path], loggers.FileLogger]] = {
    "metrics.csv": CsvLogger,
    "metrics.jsonl": JsonlLogger,
    "events.out.tfevents.rlrun": lambda path: TensorBoardLogger(path.parent, CONFIG),
}
each_format = pytest.mark.parametrize("name", LOGGERS)


@pytest.fixture(autouse=True)
def frozen_clock(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Rows written twice are the same to the byte."""
    if "name" in request.fixturenames:
        monkeypatch.setattr("time.time", lambda: 1.5e9)


@each_format
@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4])
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path: Path, name: str, kept: int) -> None:
    rows = [ROW_1, ROW_2, ROW_3, ROW_4]
    whole = LOGGERS[name](tmp_path / "whole" / name)
    for step, row in enumerate(rows):
        whole.log(row, step)

    first = LOGGERS[name](tmp_path / "cut" / name)
    for step, row in enumerate(rows[:kept]):
        first.log(row, step)
    state = json.loads(json.dumps(first.state_dict()))
    for step in range(kept, kept + 3):  # what the killed process did after its last checkpoint
        first.log({"never/seen/again": 1.0, **ROW_1}, step)

    second = LOGGERS[name](tmp_path / "cut" / name)
    second.load_state_dict(state)
    for step, row in enumerate(rows[kept:], kept):
        second.log(row, step)
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert os.listdir(tmp_path / "cut") == [name]


@each_format
def test_a_kill_in_the_middle_of_a_row_loses_only_that_row(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    logger = LOGGERS[name](path)
    logger.log(ROW_2, 1)
    logger.log(ROW_2, 2)
    state, two_rows = logger.state_dict(), path.read_bytes()
    logger.log(ROW_2, 3)
    three_rows = path.read_bytes()
    for size in range(len(two_rows), len(three_rows)):
        path.write_bytes(three_rows[:size])
        resumed = LOGGERS[name](path)
        resumed.load_state_dict(state)
        assert path.read_bytes() == two_rows
        resumed.log(ROW_2, 3)
        assert path.read_bytes() == three_rows


@each_format
def test_without_a_state_the_file_begins_anew(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for _ in range(2):
        logger = LOGGERS[name](path)
        before = path.read_bytes() if path.exists() else b""
        assert before == (path.read_bytes() if path.exists() else b"")  # looking at a run changes nothing
        logger.log(ROW_1, 1)
        once = path.read_bytes()
    assert before == once


@each_format
@pytest.mark.parametrize("half", [False, True])
def test_lost_rows_are_said(tmp_path: Path, name: str, half: bool, caplog: pytest.LogCaptureFixture) -> None:
    """As after a power cut, which takes what the disk had not got yet."""
    path = tmp_path / name
    logger = LOGGERS[name](path)
    logger.log(ROW_1, 1)
    one_row = path.read_bytes()
    logger.log(ROW_1, 2)
    state, two_rows = logger.state_dict(), path.read_bytes()
    path.write_bytes(two_rows[:-1] if half else one_row)
    LOGGERS[name](path).load_state_dict(state)
    assert path.read_bytes() == one_row
    assert caplog.messages == [f"{path}: 1 of its first {next(iter(state.values()))} records are lost"]


def test_a_viewer_keeps_the_file_it_has_open(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.rlrun"
    logger = TensorBoardLogger(tmp_path)
    logger.log(ROW_1, 1)
    state, inode = logger.state_dict(), path.stat().st_ino
    logger.log(ROW_1, 2)
    TensorBoardLogger(tmp_path).load_state_dict(state)
    assert path.stat().st_ino == inode


# All together


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def test_all_files_hold_the_same_rows_after_a_kill_and_a_resume(run_dir: RunDir) -> None:
    cfg = LoggerConfig(console="off")
    first = loggers.build(cfg, run_dir, "title", 10)
    first.log(ROW_1, 1)
    first.log(ROW_2, 2)
    state = json.loads(json.dumps(first.state_dict()))
    first.log({"lost": 0.0}, 3)
    for path in (run_dir.metrics_csv, run_dir.metrics_jsonl, *run_dir.tb.iterdir()):
        with path.open("ab") as file:
            file.write(b"half a r")

    second = loggers.build(cfg, run_dir, "title", 10)
    second.load_state_dict(state)
    second.log(ROW_3, 4)
    second.close()
    rows = [json.loads(line) for line in run_dir.metrics_jsonl.read_text().splitlines()]
    assert [row["env_steps"] for row in rows] == [1, 2, 4]
    expected = {
        name: [(row["env_steps"], float(np.float32(row[name]))) for row in rows if name in row]
        for name in ROW_1 | ROW_2 | ROW_3
    }
    assert read_events(run_dir.tb) == read_csv(run_dir.metrics_csv) == expected
    assert second.last == ROW_1 | ROW_2 | ROW_3


def test_only_what_is_asked_for_is_written(run_dir: RunDir) -> None:
    logger = loggers.build(LoggerConfig(console="off", csv=False, tensorboard=False), run_dir, "title", 10)
    logger.log(ROW_1, 1)
    assert [path.name for path in run_dir.path.iterdir()] == ["metrics.jsonl"]


def test_a_file_switched_on_later_begins_then(run_dir: RunDir) -> None:
    first = loggers.build(LoggerConfig(console="off", csv=False), run_dir, "title", 10)
    first.log(ROW_1, 1)
    second = loggers.build(LoggerConfig(console="off"), run_dir, "title", 10)
    second.load_state_dict(first.state_dict())
    second.log(ROW_1, 2)
    assert run_dir.metrics_csv.read_text().splitlines()[1:] == ["2,100.0,0.30000000000000004"]


def test_ticks_go_to_the_panel() -> None:
    class Panel(TableLogger):
        ticks: list[tuple[int, float]] = []  # noqa: RUF012

        def tick(self, env_steps: int, elapsed: float) -> None:
            self.ticks.append((env_steps, elapsed))

    Loggers({}).tick(1, 0.1)
    Loggers({}, panel=Panel(10)).tick(2, 0.2)
    assert Panel.ticks == [(2, 0.2)]


@pytest.mark.parametrize(("key", "value"), [("freq", -1), ("window", 0), ("console", "richh")])
def test_impossible_values_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        LoggerConfig(**{key: value})  # type: ignore[arg-type]
    assert error.value.key == key


# The console


METRICS = {
    "time/fps": 12345.6,
    "time/elapsed": 2.0,
    "rollout/ep_rew_mean": 187.32,
    "rollout/ep_rew_std": 64.213,
    "rollout/ep_len_mean": 187.32,
    "rollout/episodes": 1512,
    "rollout/exploration_rate": 0.042,
    "train/loss": 0.0132,
    "train/a_name_that_is_much_too_long": -34.2,
}
BANDIT = {
    "time/fps": 12345.6,
    "time/elapsed": 2.0,
    "rollout/ep_rew_mean": 0.71,
    "bandit/reward": 0.72,
    "bandit/regret": 0.031,
    "bandit/cumulative_regret": 82.4,
    "bandit/optimal_share": 0.913,
}
EVALUATION = {"eval/mean_reward": 412.5, "eval/std_reward": 83.14, "eval/best_mean_reward": 487.3}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1e-7, "1.0e-07"),
        (0.0421, "0.04210"),
        (22.126, "22.13"),
        (-500, "-500.0"),
        (999.94, "999.9"),
        (999.96, "1,000"),
        (1234567.8, "1,234,568"),
        (2.5e9, "2.500e+09"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_spread_is_as_exact_as_the_mean() -> None:
    assert mean_and_std(487.3, 21.04) == "487.3 ± 21.0"
    assert mean_and_std(0.74, 0.43863) == "0.7400 ± 0.4386"
    assert mean_and_std(-1230.4, 1200.2) == "-1,230 ± 1,200"
    assert mean_and_std(3.0, None) == "3.000"
    assert (counted(1, "episode"), counted(1000, "episode")) == ("1 episode", "1,000 episodes")


def test_speed_is_whole_unless_slow() -> None:
    assert [speed(value) for value in (12345.6, 940.86, 99.96, 9.5, None)] == ["12,346", "941", "99.96", "9.500", "-"]


def test_clock() -> None:
    assert [clock(0.4), clock(59.6), clock(3661)] == ["0:00:00", "0:01:00", "1:01:01"]
    assert [clock(359_999), clock(360_000), clock(math.nan)] == ["99:59:59", "4.2d", "-"]


def test_time_left_is_by_the_average_speed() -> None:
    assert time_left(250, 1000, 10.0) == 30.0
    assert time_left(1000, 1000, 10.0) == time_left(1100, 1000, 10.0) == 0.0
    assert math.isnan(time_left(0, 1000, 10.0))


def test_the_table_lines_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    table = TableLogger(100_000_000)
    table.log({"time/fps": 9.5, "time/elapsed": 100.0}, 1000)
    table.log(METRICS, 100_000_000)
    table.log(METRICS | {"train/loss": -0.007313, "time/elapsed": 200.0}, 100_000_000)
    table.log(EVALUATION, 100_000_000)
    assert caplog.messages == [
        "      steps    %  episodes   return  length     loss  steps/s  elapsed     left",
        "      1,000   0%         0        -       -        -    9.500  0:01:40   115.7d",
        "100,000,000 100%     1,512    187.3   187.3  0.01320   12,346  0:00:02  0:00:00",
        "100,000,000 100%     1,512    187.3   187.3 -0.007313   12,346  0:03:20  0:00:00",
        "evaluation at 100,000,000 steps: 412.5 ± 83.1, best 487.3",
    ]


def test_a_bandit_shows_its_regret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    TableLogger(3000).log(BANDIT, 2000)
    assert caplog.messages == [
        "      steps    %   reward  regret/step  regret optimal  steps/s  elapsed     left",
        "      2,000  66%   0.7200      0.03100   82.40     91%   12,346  0:00:02  0:00:01",
    ]


def test_rows_within_a_second_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The first, those a second later, and the last before an evaluation and before the end."""
    caplog.set_level(logging.INFO)
    table = TableLogger(100)
    for step in range(1, 31):
        table.log({"time/elapsed": step / 10}, step)
        if step == 25:
            table.log(EVALUATION, step)
    table.close()
    table.close()
    first = [line.split()[0] for line in caplog.messages if line.startswith(" ")]
    assert first == ["steps", "1", "11", "21", "25", "30"]


def test_the_header_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    table = TableLogger(100)
    for step in range(HEADER_EVERY + 1):
        table.log({}, step)
    assert [i for i, line in enumerate(caplog.messages) if "return" in line] == [0, HEADER_EVERY + 1]


def test_the_loss_of_several(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    TableLogger(10).log({"train/entropy": 1.0, "train/actor_loss": 2.0, "train/value_loss": 3.0}, 1)
    assert caplog.messages[-1].split()[5] == "2.000"
    TableLogger(10).log({"train/entropy": 1.0, "train/actor_loss": 2.0, "train/loss": 3.0}, 1)
    assert caplog.messages[-1].split()[5] == "3.000"


def drawn(width: int, metrics: dict[str, float]) -> list[str]:
    console = Console(record=True, width=width, force_terminal=True, file=open(os.devnull, "w"))  # noqa: SIM115
    panel = PanelLogger("dqn · CartPole-v1 · seed 1", "outputs/cartpole/dqn/2026-02-03_s1_abcd", 50_000, console)
    panel.log(metrics, 27_000)
    panel.log(EVALUATION, 20_000)
    panel.tick(25_000, 4.0)
    console.export_text()  # drop what was drawn so far
    panel.close()
    return console.export_text().splitlines()


def test_the_panel_at_80_columns() -> None:
    assert drawn(80, METRICS) == [
        "╭─ dqn · CartPole-v1 · seed 1 ─────────────────────────────────────────────────╮",
        "│ ━━━━━━━━━━━━━━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━ 50%  25,000 / 50,000 steps │",
        "│                                                                              │",
        "│ episodes  1,512         epsilon                  0.04200   steps/s  12,346   │",
        "│ return    187.3 ± 64.2  loss                     0.01320   elapsed  0:00:04  │",
        "│ length    187.3         a_name_that_is_much_to…  -34.20    left     0:00:04  │",
        "│                                                                              │",
        "│ evaluation  412.5 ± 83.1 at 20,000 steps     best  487.3                     │",
        "╰──────────────────────────────────── outputs/cartpole/dqn/2026-02-03_s1_abcd ─╯",
    ]


def test_the_panel_of_a_bandit() -> None:
    text = "\n".join(drawn(80, BANDIT))
    for words in ("reward       0.7200", "regret/step  0.03100", "regret       82.40", "optimal      91%"):
        assert words in text
    assert "length" not in text


@pytest.mark.parametrize("width", [40, 56, 64, 72, 80, 100, 120, 200])
def test_the_panel_fits_and_keeps_its_numbers_at_every_width(width: int) -> None:
    """Names are cut only where there is no space for them; numbers never are."""
    metrics = METRICS | {"train/policy_gradient_loss": -0.012}
    del metrics["train/a_name_that_is_much_too_long"]
    lines = drawn(width, metrics)
    text = "\n".join(lines)
    assert {len(line) for line in lines} == {min(width, 120)}
    for words in ("steps/s  12,346", "elapsed  0:00:04", "left     0:00:04", "1,512", "187.3 ± 64.2", "-0.01200"):
        assert words in text
    assert ("policy_gradient_loss  -0.01200" in text) == (width != 72)


def test_the_panel_is_drawn_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    panel = PanelLogger("title", "path", 1000, Console(width=80, file=open(os.devnull, "w")))  # noqa: SIM115
    monkeypatch.setattr(panel, "render", lambda: drawn.append(panel) or "")
    for step in range(1000):
        panel.tick(step, step / 100)  # ten seconds
    panel.close()
    assert len(drawn) == 20 + 1


def test_long_paths_keep_their_end() -> None:
    assert shorten("a/b", 4) == "a/b"
    assert shorten("abc/def", 4) == "…def"


ON_TERMINAL = """
import logging, warnings
from pathlib import Path
from rlrun import loggers
from rlrun.loggers.console import mode
from rlrun.loggers.runlog import run_log
from rlrun.rundir.layout import RunDir
METRICS = {"rollout/ep_rew_mean": 187.32, "rollout/ep_len_mean": 187.32, "train/loss": 0.0132}
run_dir = RunDir(Path("run"))
run_dir.path.mkdir()
cfg = loggers.LoggerConfig(csv=False, jsonl=False, tensorboard=False)
with run_log(run_dir.log, mode(cfg.console)):
    logger = loggers.build(cfg, run_dir, "dqn on a terminal", 1000)
    logger.tick(0, 0.0)
    logger.log(METRICS, 500)
    warnings.warn("look out [red]")
    logger.tick(500, 2.0)
    logger.close()
    logging.getLogger("rlrun").info("the end")
"""


def on_terminal(code: str, cwd: Path, columns: int = 80, **env: str) -> str:
    """What a program writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", **env}
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = b""
    while True:
        try:
            output += (piece := os.read(ours, 65536))
        except OSError:  # Linux's way to say that the other end is closed
            piece = b""
        if not piece:
            os.close(ours)
            assert process.wait() == 0, output.decode()
            return output.decode()


def test_on_a_terminal_there_is_a_panel(tmp_path: Path) -> None:
    output = on_terminal(ON_TERMINAL, tmp_path)
    moved_up = output.replace("\x1b[1A", "\n").replace("\r", "")
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", moved_up).split("\n")
    assert max(map(len, lines)) == 80
    assert any("dqn on a terminal" in line for line in lines)
    assert any("50%  500 / 1,000 steps" in line for line in lines)
    assert any("look out [red]" in line for line in lines)
    assert not any("187.3   187.3  0.01320" in line for line in lines)  # the table's line
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # the cursor is back
    assert lines[-2] == "the end"
    log = (tmp_path / "run" / "run.log").read_text()
    assert "look out [red] (UserWarning" in log
    assert "187.3   187.3  0.01320" in log
    assert "\x1b" not in log


def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    output = on_terminal(ON_TERMINAL, tmp_path, TERM="dumb")
    assert "\x1b" not in output
    assert "187.3   187.3  0.01320" in output


def test_a_pipe_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert mode("auto") == "plain"
    assert [mode(wanted) for wanted in ("rich", "plain", "off")] == ["rich", "plain", "off"]


# run.log


@pytest.mark.parametrize(
    ("console", "out", "err"),
    [
        ("plain", "a row\na message\n", "warning: WARN: old id"),
        ("rich", "a message\n", "warning: WARN: old id"),
        ("off", "", "warning: WARN: old id"),
    ],
)
def test_run_log_and_console(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    console: str,
    out: str,
    err: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers = list(logging.getLogger().handlers)
    caplog.set_level(logging.DEBUG)  # of the root logger, as libraries may do
    with run_log(tmp_path / "run.log", console):
        ROWS.info("a row")
        logging.getLogger("rlrun.somewhere").info("a message")
        logging.getLogger("somebody.else").info("not ours")
        warnings.warn("\x1b[33mWARN: old id\x1b[0m", DeprecationWarning, stacklevel=1)
    ROWS.info("after the end")
    captured = capsys.readouterr()
    assert captured.out == out
    assert captured.err.startswith(err) and captured.err.count("\n") == 1 and "\x1b" not in captured.err
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [re.sub(r"^[\d-]{10} [\d:]{8} ", "", line) for line in lines[:2]] == ["INFO    a row", "INFO    a message"]
    assert "WARNING WARN: old id (DeprecationWarning, " in lines[2]
    assert len(lines) == 3
    assert logging.getLogger().handlers == handlers


def test_run_log_tells_of_all_attempts(tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        with run_log(tmp_path / "run.log", "off"):
            ROWS.info(attempt)
    assert [line.split()[-1] for line in (tmp_path / "run.log").read_text().splitlines()] == ["first", "second"]


@each_format
def test_rows_are_never_taken_for_others(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A file that was deleted gets later rows; going on from an earlier state, none of them passes for a lost one."""
    path = tmp_path / name
    logger = LOGGERS[name](path)
    for step in (1, 2, 3):
        logger.log(ROW_1, step)
    earlier = logger.state_dict()
    logger.close()
    path.unlink()
    second = LOGGERS[name](path)
    second.load_state_dict(earlier)
    for step in (4, 5, 6, 7):
        second.log(ROW_1, step)
    second.close()
    third = LOGGERS[name](path)
    third.load_state_dict(earlier)
    third.log(ROW_1, 4)
    third.close()
    assert "records are lost" in caplog.text
    alone = LOGGERS[name](tmp_path / "alone" / name)
    alone.log(ROW_1, 4)
    assert steps_in(path) == steps_in(tmp_path / "alone" / name)


def steps_in(path: Path) -> list[int]:
    """The env steps of a file's rows."""
    content = path.read_bytes()
    if path.suffix == ".csv":
        return [int(line.split(b",")[0]) for line in content.splitlines()[1:]]
    if path.suffix == ".jsonl":
        return [json.loads(line)["env_steps"] for line in content.splitlines()]
    return [tensorboard.env_steps(record) for record in tensorboard.records(content)]


@pytest.mark.parametrize("name", ["metrics.csv", "metrics.jsonl"])
@pytest.mark.parametrize("damage", [b"\xff\xfe\x00garbage\n", b"\n", b"a,b,c\n", b"[1]\n", b"{}\n"])
def test_a_damaged_row_costs_itself(tmp_path: Path, name: str, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / name
    logger = LOGGERS[name](path)
    for step in (1, 2, 3):
        logger.log(ROW_1, step)
    state = logger.state_dict()
    logger.log(ROW_1, 3)
    logger.close()
    rows = path.read_bytes().splitlines(keepends=True)
    second = len(rows) - 3
    path.write_bytes(b"".join([*rows[:second], damage, *rows[second + 1 :]]))
    resumed = LOGGERS[name](path)
    resumed.load_state_dict(state)
    resumed.log(ROW_1, 4)
    assert steps_in(path) == [1, 3, 4]
    assert "1 of its first" in caplog.text


def test_a_full_disk_is_told_by_the_file(tmp_path: Path) -> None:
    """/dev/full takes nothing."""
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.log(ROW_1, 1)
    logger._file._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.raises(DiskError) as caught:
        logger.log(ROW_1, 2)
    assert str(caught.value).startswith(
        f"{tmp_path}/metrics.jsonl: cannot be written: No space left on device\nthe disk"
    )
    assert caught.value.exit_code == 1
