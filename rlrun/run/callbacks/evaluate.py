"""Evaluations while a run trains, and at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rlrun.agents.agent import Agent
from rlrun.checks import Bounded, Count, Natural, Share, Within
from rlrun.loggers.csv import CsvTable
from rlrun.registry import register
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.checkpoint import Checkpoint
from rlrun.run.evaluation import EvalResult, Policy, check_policy, evaluate, player, step_limit
from rlrun.schedules import Every
from rlrun.seeding import Role, aside
from rlrun.types import Chunk, Metrics

if TYPE_CHECKING:
    from rlrun.run.run import Run

log = logging.getLogger(__name__)


@dataclass
class EvalConfig(Bounded):
    """Evaluation while training and at the end, on environments and seeds of its own."""

    name: str = "default"  # registered name
    freq: Natural = 10_000  # env steps between two evaluations; 0 = only at the end
    # per evaluation, always from the same seeds, the final one from its own; 0 = no evaluation
    episodes: Annotated[int, Within(0, 10**6)] = 20
    policy: Policy = "greedy"  # greedy | stochastic (acts as in training, exploration included)
    # environments stepped together; results of the greedy policy do not depend on it
    num_envs: Annotated[int, Within(1, 10**4)] = 5
    epsilon: Share | None = None  # probability of a random action in place of the greedy one; null = none
    max_steps: Count | None = None  # cut an episode after so many steps; null = 10000 if the environment has no limit
    video_freq: Natural = 0  # env steps between two films of its first episode (videos/), and one at the end; 0 = none

    def __post_init__(self) -> None:
        super().__post_init__()
        check_policy(self.policy, self.epsilon)


@register("eval", EvalConfig)
class Evaluate(Callback):
    """Evaluates every `freq` env steps and at the end; writes `eval.csv` and tells the checkpoint which is the best.

    It has environments of its own and starts them from fixed seeds, so it depends on nothing but these and the weights.

    Args:
        table: path of `eval.csv`.
        saver: keeps the best.
    """

    state = ("_every", "_table", "final", "best")  # the table cuts its file back to what it was

    def __init__(self, cfg: EvalConfig, table: Path, saver: Checkpoint):
        self.cfg = cfg
        self.final: dict[str, float] | None = None  # the last final evaluation, with its env_steps
        self.best: dict[str, float] | None = None  # the evaluation with the highest mean so far
        self._every = Every(cfg.freq)
        self._table = CsvTable(table, ["env_steps", "kind"])
        self._saver = saver

    def on_start(self, run: Run) -> None:
        if self.cfg.episodes and run.spec.max_episode_steps is None:
            steps = f"{step_limit(self.cfg.max_steps, run.spec):,}"
            log.info("%s has no time limit: evaluation cuts episodes at %s steps (eval.max_steps)", run.spec.id, steps)

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        ends = run.progress.done or run.should_stop  # then the final evaluation follows
        if self.cfg.episodes and not ends and self._every.due(run.progress.env_steps):
            self._evaluate(run, "periodic", Role.EVAL)

    def on_end(self, run: Run) -> None:
        if self.cfg.episodes and (self.final is None or self.final["env_steps"] != run.progress.env_steps):
            self.final = self._evaluate(run, "final", Role.FINAL_EVAL)

    def _evaluate(self, run: Run, kind: str, role: Role) -> dict[str, float]:
        """Evaluate, write the result everywhere, and only then count it as done."""
        env_steps, start = run.progress.env_steps, time.perf_counter()
        result = self._play(run, role)
        outcome = {"env_steps": env_steps, **result.to_dict()}
        if self.best is None or not result.mean <= self.best["mean"]:  # a best that is not a number gives way
            self.best = outcome
            self._saver.mark_best()
        if result.cut:
            log.warning("evaluation at %s steps: %s", f"{env_steps:,}", result.cuts)
        how = {"policy": self.cfg.policy, "time_seconds": time.perf_counter() - start}
        how |= {} if self.cfg.epsilon is None else {"epsilon": self.cfg.epsilon}
        self._table.append({"env_steps": env_steps, "kind": kind, **outcome, **how})
        self._table.close()  # until the next one: runs end in many ways
        metrics = {
            "eval/mean_reward": result.mean,
            "eval/std_reward": result.std,
            "eval/mean_ep_length": result.mean_length,
            "eval/best_mean_reward": self.best["mean"],
        }
        run.logger.log(metrics, env_steps)
        self._every.consume(env_steps)
        self.tell(run, "on_evaluation", result, kind)
        if self.best is outcome:
            self.tell(run, "on_best", result)
        return outcome

    def _play(self, run: Run, role: Role) -> EvalResult:
        with playing(run, self.cfg, role) as (agent, how):
            return evaluate(agent, run.evaluation_envs(), run.seeds.integers(role, self.cfg.episodes), **how)


@contextmanager
def playing(run: Run, cfg: EvalConfig, role: Role) -> Iterator[tuple[Agent, dict[str, Any]]]:
    """The agent of a run as it is evaluated, and the arguments that `evaluate` takes besides.

    Inside, whoever draws from the global streams draws from seeded ones, and leaves those of the training alone.

    Args:
        role: of the evaluation's seeds.
    """
    rng = run.seeds.generator(role, cfg.episodes)  # the index behind the episodes' own
    with aside(run.seeds.integer(role, cfg.episodes)), run.interrupt.dispensable():
        yield (
            player(run.algo.agent, rng, cfg.epsilon, run.spec),
            {
                "explore": cfg.policy == "stochastic",
                "env_steps": run.progress.env_steps,
                "max_steps": cfg.max_steps,
                "interrupt": run.interrupt,
            },
        )
