"""Films while a run trains, and of its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.evaluate import EvalConfig, playing
from rlrun.run.film import record
from rlrun.schedules import Every
from rlrun.seeding import Role
from rlrun.types import Chunk, Metrics, StateDict

if TYPE_CHECKING:
    from rlrun.run.run import Run


class Video(Callback):
    """Films the first episode of the evaluations every `video_freq` env steps, and that of the final one.

    It is played as an evaluation plays it, in an environment of its own, so a run that is filmed learns the same. After
    a film that failed, which is a warning, there are no more.
    """

    state = ("_every", "_filmed")

    def __init__(self, cfg: EvalConfig):
        self._cfg = cfg
        self._every = Every(cfg.video_freq)
        self._filmed = -1  # the env steps of the newest film
        self._failed = False

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        ends = run.progress.done or run.should_stop  # then that of the final evaluation follows
        if not ends and self._every.due(run.progress.env_steps):
            self._film(run, Role.EVAL)

    def on_end(self, run: Run) -> None:
        if self._filmed != run.progress.env_steps:
            self._film(run, Role.FINAL_EVAL)

    def load_state_dict(self, state: StateDict) -> None:
        if state:  # a run that is filmed from now on has none
            super().load_state_dict(state)

    def _film(self, run: Run, role: Role) -> None:
        env_steps = run.progress.env_steps
        if not self._failed:
            with playing(run, self._cfg, role) as (agent, how):
                path = run.dir.videos / f"step_{env_steps:09d}"
                film = record(agent, run.environments, run.seeds.integer(role), path, **how)
            self._failed = film is None
            if film is not None and film.file is not None:
                run.logger.film(film.file, env_steps)
        self._every.consume(env_steps)
        self._filmed = env_steps
