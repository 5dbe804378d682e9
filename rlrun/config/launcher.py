"""Hydra's launcher for our sweeps, `hydra/launcher=processes`: it hands each batch of jobs to whoever runs them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

NAME = "processes"

Run = Callable[[Sequence[Sequence[str]], int], Sequence[float]]


class ProcessLauncher(Launcher):
    """Runs a batch by `run(overrides of each job, number of the first) -> what each returns to the sweeper`."""

    def __init__(self, run: Run):
        self._run = run

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing of this is needed: jobs are composed in their own processes."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        values = self._run(job_overrides, initial_job_idx)
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=value)
            for overrides, value in zip(job_overrides, values, strict=True)
        ]


@functools.cache
def register() -> None:
    """Make the launcher a choice of Hydra's, once: what has been composed with it stays what would be composed."""
    node = {"_target_": f"{__name__}.{ProcessLauncher.__qualname__}"}
    ConfigStore.instance().store(group="hydra/launcher", name=NAME, node=node, provider="rlrun")
    Plugins.instance().register(ProcessLauncher)


@contextmanager
def launching(run: Run) -> Iterator[None]:
    """Have sweepers get this launcher: Hydra itself makes none that lies outside of its package `hydra_plugins`."""
    from unittest import mock  # brings asyncio along, which a single run does not need

    with mock.patch.object(Plugins, "instantiate_launcher", return_value=ProcessLauncher(run)):
        yield
