"""Many runs from one command, `rlrun -m`, and what else Hydra's own command line offers (`--cfg`, `--info`, …).

Hydra expands the overrides and launches the jobs. A job that fails is recorded in its directory and costs nothing but
itself; in the end one table says what became of each.
"""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from rlrun import compose, explain
from rlrun.errors import ConfigError, Interrupted, RlrunError
from rlrun.launch import train_composed
from rlrun.loggers.console import mean_and_std
from rlrun.rundir import RunDir


def sweep(words: Sequence[str]) -> int:
    """Run every combination that the overrides describe, each in its own directory.

    Returns:
        0 if all jobs finished, 1 if one did not, 75 or 130 if a signal ended the sweep.

    Raises:
        ConfigError: a job's config cannot be composed; then none has been started.
    """
    words = [*compose.complete(words, sweep=True), "hydra.mode=MULTIRUN"]
    with compose.session() as loader:
        explain.check_values(words, loader)
        constant = compose.constant_keys(words, loader)
        words = compose.postponed(words, loader)
        try:
            folder = choose_folder(words, loader)
            with unmade(folder):
                code = launch(folder, words, loader, constant)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain.failure(words, error, loader, sweep=True) from error
    rows = [result(run) for run in runs(folder)]
    print_table(folder, rows)
    return code or int(any(state != "finished" for _, state, _ in rows))


def choose_folder(words: Sequence[str], loader: ConfigLoader) -> Path:
    """The directory of the sweep, which no other sweep has."""
    folder = Path(loader.load_configuration(compose.ROOT, list(words), RunMode.MULTIRUN).hydra.sweep.dir)
    if folder.exists():
        raise ConfigError("hydra.sweep.dir", f"{folder} exists already", "choose another directory")
    return folder


@contextmanager
def unmade(folder: Path) -> Iterator[None]:
    """Take back the directories that Hydra makes for a sweep before it refuses it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except (HydraException, OmegaConfBaseException):
        (folder / "multirun.yaml").unlink(missing_ok=True)
        with suppress(OSError):  # up to the first that somebody else uses
            for path in made:
                path.rmdir()
        raise


def launch(folder: Path, words: Sequence[str], loader: ConfigLoader, constant: Sequence[str]) -> int:
    """Let Hydra's sweeper and launcher do their work; returns the exit code of the signal that stopped them, or 0."""
    common = ",".join(repr(key) for key in constant)
    names = f"hydra.job.config.override_dirname.exclude_keys=[{common}]"  # a job is named by what it has of its own
    app: Any = GlobalHydra.instance().hydra
    before = signal.signal(signal.SIGTERM, functools.partial(leave, folder))
    try:
        app.multirun(compose.ROOT, job, [*words, names, f"hydra.sweep.dir='{folder}'"])
    except KeyboardInterrupt:
        return Interrupted(signal.SIGINT).exit_code
    except SystemExit as error:
        return int(error.code or 0)
    except (HydraException, OmegaConfBaseException):
        raise
    except Exception as error:  # a launcher that lost its workers; what they finished is worth a table
        reason = str(error).partition("\n")[0]
        print(f"rlrun: the launcher failed: {type(error).__name__}: {reason}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def leave(folder: Path, signum: int, frame: object) -> None:
    """Answer a signal that is not a run's to answer: between two jobs, or while workers are at theirs.

    The workers are told, and have five seconds to save before they go with this process.
    """
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signum)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(run.is_alive() for run in runs(folder)):
        time.sleep(0.05)
    raise SystemExit(Interrupted(signum).exit_code)


def job(cfg: DictConfig) -> float:
    """One run of a sweep, in this process or a worker's.

    Returns:
        The mean return of the final evaluation; NaN if the run failed: its status.json says why.

    Raises:
        SystemExit: a signal came, which ends the sweep; the run is saved.
    """
    node: Any = HydraConfig.get()
    folder = Path(node.runtime.output_dir)
    try:
        composed = compose.composed(cfg, node, folder, GlobalHydra.instance().config_loader())
        return train_composed(composed, composed.overrides)
    except Interrupted as error:
        raise SystemExit(error.exit_code) from error
    except Exception as error:
        record(folder, error)
        return math.nan


def record(folder: Path, error: Exception) -> None:
    """Say in the job's directory and on stderr what its run could not say itself."""
    reason = str(error) if isinstance(error, RlrunError) else f"{type(error).__name__}: {error}"
    print(f"rlrun: {folder.name}: {reason}", file=sys.stderr)
    if os.environ.get("RLRUN_DEBUG") == "1":
        traceback.print_exception(error)
    run_dir = RunDir(folder) if (folder / "status.json").exists() else RunDir.create(folder)
    if run_dir.read_status()["state"] == "running":
        run_dir.set_status("failed", reason=reason)


def runs(folder: Path) -> list[RunDir]:
    """The runs of a sweep in the order of its jobs."""
    jobs = [path.parent for path in folder.glob("*/status.json")]
    return [RunDir(path) for path in sorted(jobs, key=lambda path: (int(path.name.partition("_")[0]), path.name))]


def result(run: RunDir) -> tuple[str, str, str]:
    """What became of a job: its name, its state, and its final evaluation or what went wrong."""
    status = run.read_status()
    final = None
    with suppress(FileNotFoundError):
        final = json.loads(run.summary.read_text())["final_eval"]
    score = mean_and_std(final["mean"], final["std"]) if final else status["reason"].split("\n")[0]
    return run.path.name, status["state"], score


def print_table(folder: Path, rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("job", "state", "final evaluation", box=box.SIMPLE, title=str(folder), title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def ask_hydra(flags: Sequence[str], words: Sequence[str]) -> int:
    """Let Hydra's own command line answer `--cfg`, `--info`, `--hydra-help` and `--shell-completion`."""
    app = hydra.main(config_path=str(compose.conf_dir()), config_name=compose.ROOT, version_base="1.3")(job)
    argv = ["rlrun", *flags, *compose.complete(words)]
    with mock.patch.object(sys, "argv", argv), mock.patch.dict(os.environ, HYDRA_FULL_ERROR="1"):
        try:
            app()
        except (HydraException, OmegaConfBaseException) as error:  # Hydra leaves it to us to say so
            with compose.session() as loader:
                raise explain.failure(argv[1 + len(flags) :], error, loader) from error
    return 0
