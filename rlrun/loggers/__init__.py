"""Where metrics go: files in the run directory, the console, a tracker. All of them get the same rows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import yaml

from rlrun import files
from rlrun.checks import Bounded, Natural, OneOf, Within
from rlrun.loggers import console
from rlrun.loggers.csv import CsvLogger
from rlrun.loggers.jsonl import JsonlLogger, rows
from rlrun.loggers.tensorboard import TensorBoardLogger
from rlrun.loggers.trackers import TRACKERS
from rlrun.loggers.tracking import Tracked, Tracking
from rlrun.registry import register
from rlrun.types import Logger, StateDict

if TYPE_CHECKING:
    from rlrun.rundir.layout import RunDir


@dataclass
class LoggerConfig(Bounded):
    """What is written while a run goes on, and how often."""

    name: str = "default"
    freq: Natural = 1000  # env steps between two rows; 0 = one row at the end
    # training episodes that rollout/ep_rew_mean and rollout/ep_len_mean look back on
    window: Annotated[int, Within(1, 10**7)] = 100
    # auto | rich (live panel) | plain (lines) | off; auto: rich on a terminal, otherwise plain
    console: Annotated[str, OneOf("auto", "rich", "plain", "off")] = "auto"
    info_keys: list[str] = field(default_factory=list)  # numbers in the environment's `info`: means as rollout/info/KEY
    csv: bool = True  # write metrics.csv
    jsonl: bool = True  # write metrics.jsonl
    tensorboard: bool = True  # write tb/
    # wandb | mlflow | trackio: a tracker that gets everything, too, on this machine and offline; null = none
    tracker: Annotated[str, OneOf("wandb", "mlflow", "trackio")] | None = None
    project: str = "rlrun"  # tracker: the project or experiment that the run belongs to
    tags: list[str] = field(default_factory=list)  # tracker: the run's tags, beside its algo and env
    server: str | None = None  # tracker: where it is, if not here: online, an address, or a Space (user/name)
    artifacts: bool = True  # tracker: it gets films, and at the end the best checkpoint without its replay


class FileLogger(Logger, Protocol):
    """A logger whose file can be cut back to where it stood when a state was taken."""

    def state_dict(self) -> StateDict: ...
    def load_state_dict(self, state: StateDict) -> None: ...


class Panel(Logger, Protocol):
    """A logger that shows progress between two rows."""

    def tick(self, env_steps: int, elapsed: float) -> None: ...


class Loggers:
    """Several loggers as one; it remembers the last value of every metric.

    Args:
        files: loggers by name, part of the checkpoint.
        others: loggers that have no state.
        panel: shows progress between rows.
        tracking: hands them to a tracker; it is no part of the checkpoint, as it cannot be cut back.
    """

    def __init__(
        self,
        files: Mapping[str, FileLogger],
        others: tuple[Logger, ...] = (),
        panel: Panel | None = None,
        tracking: Tracking | None = None,
    ):
        self.last: dict[str, float] = {}
        self.tracking = tracking
        self._files, self._panel = files, panel
        self._all: list[Logger] = [*files.values(), *others]
        self._all += [logger for logger in (panel, tracking) if logger is not None]

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """Write a row everywhere."""
        self.last.update(metrics)
        for logger in self._all:
            logger.log(metrics, env_steps)

    def tick(self, env_steps: int, elapsed: float) -> None:
        """Called after every chunk, to keep the progress display moving."""
        if self._panel is not None:
            self._panel.tick(env_steps, elapsed)

    def film(self, path: Path, env_steps: int) -> None:
        """An mp4 of an episode has been made."""
        if self.tracking is not None:
            self.tracking.film(path, env_steps)

    def close(self) -> None:
        for logger in self._all:
            logger.close()

    def state_dict(self) -> StateDict:
        if self.tracking is not None:
            self.tracking.flush()  # a run that goes on from this state does not come by these rows again
        return {"last": dict(self.last), "files": {name: file.state_dict() for name, file in self._files.items()}}

    def load_state_dict(self, state: StateDict) -> None:
        """Cut all files back to the rows they had; a file that was not written before begins now."""
        self.last = dict(state["last"])
        for name, file in self._files.items():
            if name in state["files"]:
                file.load_state_dict(state["files"][name])


def _text(config: Path) -> str:
    return files.read(config).decode() if config.is_file() else ""


@register("logger", LoggerConfig)
def build(cfg: LoggerConfig, run_dir: RunDir, title: str, total_timesteps: int) -> Loggers:
    """The loggers that a config asks for, writing into a run directory.

    Args:
        title: what is being run, in a few words.
        total_timesteps: env steps of the whole run.
    """
    into: dict[str, FileLogger] = {}
    if cfg.csv:
        into["csv"] = CsvLogger(run_dir.metrics_csv)
    if cfg.jsonl:
        into["jsonl"] = JsonlLogger(run_dir.metrics_jsonl)
    if cfg.tensorboard:
        into["tensorboard"] = TensorBoardLogger(run_dir.tb, _text(run_dir.config))
    panel = None
    if console.mode(cfg.console) == "rich":
        from rlrun.loggers.panel import PanelLogger

        panel = PanelLogger(title, str(run_dir.path), total_timesteps)
    tracking = _tracking(cfg, cfg.tracker, run_dir) if cfg.tracker else None
    return Loggers(into, (console.TableLogger(total_timesteps),), panel, tracking)


def _tracking(cfg: LoggerConfig, name: str, run_dir: RunDir) -> Tracking:
    config = yaml.safe_load(_text(run_dir.config)) or {}
    algo, env = (config.get(group) or {} for group in ("algo", "env"))
    above = run_dir.path.absolute().parent
    about = Tracked(
        project=cfg.project,
        name=run_dir.path.absolute().name,
        id=secrets.token_hex(4),
        resumed=False,
        config=config,
        tags=(algo.get("name", ""), env.get("id") or env.get("name", ""), *cfg.tags),
        group=above.name if (above / "sweep.yaml").is_file() else "",
        directory=run_dir.path.absolute(),
        server=cfg.server,
    )
    tracking = Tracking(name, TRACKERS[name], about, run_dir.tracker, cfg.artifacts)
    for env_steps, metrics in rows(run_dir.metrics_jsonl):  # what it missed, if the run was killed or it is new to it
        tracking.log(metrics, env_steps)
    return tracking
