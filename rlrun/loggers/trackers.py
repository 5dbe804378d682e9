"""The adapters of trackers: one class for each library, which is imported when a run begins."""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rlrun.loggers import wandbfile
from rlrun.loggers.tracking import Begun, Row, Tracked, Tracker, leaves

FILM = "videos/episode"


class Wandb:
    """Weights & Biases: offline, in `wandb/` of the run directory, unless `server` or WANDB_MODE says otherwise.

    The x axis of all charts is env steps: they are the library's own steps.
    """

    def init(self, run: Tracked) -> Begun:
        import wandb

        self._wandb = wandb
        mode = "online" if run.server else os.environ.get("WANDB_MODE", "offline")
        url = run.server if run.server and "://" in run.server else None
        settings = wandb.Settings(console="off", silent=True, **({"base_url": url} if url else {}))
        self._run = wandb.init(
            project=run.project,
            id=run.id,
            name=run.name,
            group=run.group or None,
            tags=[tag[:64] for tag in run.tags if tag],  # as long as it takes them
            config=dict(run.config),
            dir=run.directory,
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline the same id is enough, and `resume` a warning
            settings=settings,
        )
        if mode == "online":
            return Begun(run.id, f"run {run.id}, {self._run.url}", self._run.step - 1 if run.resumed else None)
        kept = wandbfile.last_step(run.directory, run.id) if run.resumed else None
        return Begun(run.id, f"run {run.id}; `wandb sync {run.directory}/wandb/offline-run-*` uploads it", kept)

    def log(self, rows: Sequence[Row]) -> None:
        for env_steps, metrics in rows:
            self._run.log(dict(metrics), step=env_steps)

    def film(self, path: Path, env_steps: int) -> None:
        self._run.log({FILM: self._wandb.Video(str(path), caption=path.stem, format="mp4")}, step=env_steps)

    def artifact(self, name: str, directory: Path) -> None:
        artifact = self._wandb.Artifact(name, type="model")
        for file in within(directory):
            artifact.add_file(str(file), str(file.relative_to(directory)))
        self._run.log_artifact(artifact)

    def finish(self, state: str, summary: Mapping[str, float | str]) -> None:
        self._run.summary.update(dict(summary))
        if state == "preempted":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if state == "finished" else 1)


class Mlflow:
    """MLflow: `mlflow.db` where the run was started, unless `server` or MLFLOW_TRACKING_URI names another place.

    The config becomes params, which MLflow never changes: those of a resumed run are the first attempt's.
    """

    BATCH = 100  # params in one call, of which the library takes no more
    METRICS = 1000

    def init(self, run: Tracked) -> Begun:
        from mlflow import MlflowClient, entities

        for name in ("mlflow", "alembic"):  # they tell of every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        self._entities = entities
        local = Path("mlflow.db").absolute()
        uri = run.server or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{local}"
        with alone(local) if uri.startswith("sqlite:") else nullcontext():
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(run.project)
            place = (local.parent / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
            experiment = found.experiment_id if found else self._client.create_experiment(run.project, place)
        known = run.resumed and self._goes_on(run.id)
        if not known:
            tags = {"mlflow.source.name": "rlrun", "run_dir": str(run.directory)} | dict.fromkeys(run.tags, "")
            tags |= {"group": run.group} if run.group else {}
            self._id = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
            params = [entities.Param(plain(key), value[:6000]) for key, value in leaves(run.config)]
            for batch in batches(params, self.BATCH):
                self._client.log_batch(self._id, params=batch)
        return Begun(self._id, f"run {self._id}; `mlflow ui --backend-store-uri {uri}` shows it")

    def _goes_on(self, known: str) -> bool:
        """Whether the run is there; then it is at work again."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.update_run(known, status="RUNNING")
        except MlflowException:
            return False
        self._id = known
        return True

    def log(self, rows: Sequence[Row]) -> None:
        now = int(1000 * time.time())
        found = [
            self._entities.Metric(plain(name), value, now, env_steps)
            for env_steps, metrics in rows
            for name, value in metrics.items()
        ]
        for batch in batches(found, self.METRICS):
            self._client.log_batch(self._id, metrics=batch)

    def film(self, path: Path, env_steps: int) -> None:
        self._client.log_artifact(self._id, str(path), "videos")

    def artifact(self, name: str, directory: Path) -> None:
        self._client.log_artifacts(self._id, str(directory), "run")

    def finish(self, state: str, summary: Mapping[str, float | str]) -> None:
        now, steps = int(1000 * time.time()), int(summary.get("env_steps", 0))
        for key, value in summary.items():
            if isinstance(value, str):
                self._client.set_tag(self._id, plain(key), value[:5000])
            else:  # metrics are what runs are sorted by
                self._client.log_metric(self._id, plain(key), value, now, steps)
        status = {"finished": "FINISHED", "preempted": "KILLED"}.get(state, "FAILED")
        self._client.set_terminated(self._id, status)


class Trackio:
    """Trackio: a SQLite file of its own (TRACKIO_DIR), unless `server` names a Space or the address of a server.

    A run is known by its name there, so the id is a part of it.
    """

    def init(self, run: Tracked) -> Begun:
        import trackio

        self._trackio = trackio
        where: dict[str, Any] = {}
        if run.server:
            where = {"server_url" if "://" in run.server else "space_id": run.server}
        name = f"{run.name}-{run.id}"
        self._run = trackio.init(
            run.project,
            name=name,
            group=run.group or None,
            config={**run.config, "tags": list(run.tags)},
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
            **where,
        )
        following = getattr(self._run, "_next_step", None) if run.resumed else None
        kept = following - 1 if isinstance(following, int) else None
        return Begun(run.id, f"run {name}; `trackio show --project {run.project}` shows it", kept)

    def log(self, rows: Sequence[Row]) -> None:
        for env_steps, metrics in rows:
            self._run.log(dict(metrics), step=env_steps)

    def film(self, path: Path, env_steps: int) -> None:
        self._run.log({FILM: self._trackio.Video(str(path), caption=path.stem, format="mp4")}, step=env_steps)

    def artifact(self, name: str, directory: Path) -> None:
        artifact = self._trackio.Artifact(name, type="model")
        artifact.add_dir(str(directory))
        self._run.log_artifact(artifact)

    def finish(self, state: str, summary: Mapping[str, float | str]) -> None:
        steps = summary.get("env_steps", 0)
        self._run.log(dict(summary), step=int(steps))
        self._trackio.finish()


TRACKERS: Mapping[str, type[Tracker]] = {"wandb": Wandb, "mlflow": Mlflow, "trackio": Trackio}


def within(directory: Path) -> list[Path]:
    """The files below a directory."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def plain(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


@contextmanager
def alone(database: Path) -> Iterator[None]:
    """One process at a time makes a database's tables: the jobs of a sweep begin together."""
    with open(database.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
