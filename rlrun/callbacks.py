"""What looks on while a run trains: logging, early stopping, evaluation, checkpoints, and the summary at the end.

Each sees every chunk after the algorithm has learned from it, in this order: `Log` first, so that its numbers hold the
chunk if an evaluation is interrupted; `Checkpoint` after everything that has a state, so that what it saves holds what
the others did with the chunk. No callback touches a random stream of the training.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import checkpoint, checks
from rlrun.errors import CallbackError, ConfigError, Diverged, RlrunError
from rlrun.evaluation import EvalResult, evaluate, player, step_limit
from rlrun.loggers.console import number
from rlrun.loggers.csv import CsvTable
from rlrun.registry import register
from rlrun.schedules import Every
from rlrun.seeding import Role, aside
from rlrun.types import Chunk, EpisodeStat, Metrics, Progress, StateDict

if TYPE_CHECKING:
    from rlrun.runner import Run

log = logging.getLogger(__name__)

MAX_PENDING = 4096  # chunks whose metrics are kept as they came


class Callback:
    """Does nothing; a callback overrides what it needs.

    It looks at the run and may set `run.should_stop`; the rest of the run is not its to change. What it remembers from
    one call to the next belongs into its state, or a resumed run forgets it.
    """

    def on_start(self, run: Run) -> None:
        """Before the first chunk of every attempt; a resumed run stands at its checkpoint."""

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        """After every chunk, and once with an empty one after a resume: work that was cut off is done then."""

    def on_episode_end(self, run: Run, episode: EpisodeStat) -> None:
        """For every training episode that ended in a chunk, before `on_chunk`."""

    def on_evaluation(self, run: Run, result: EvalResult, kind: str) -> None:
        """After an evaluation; `kind` is "periodic" or "final"."""

    def on_best(self, run: Run, result: EvalResult) -> None:
        """After an evaluation whose mean return is the highest so far, the first included."""

    def on_solved(self, run: Run) -> None:
        """Once the mean training return has reached `stop.mean_return`."""

    def on_end(self, run: Run) -> None:
        """After the last chunk, before the last checkpoint; not where a run is interrupted or fails."""

    def state_dict(self) -> StateDict:
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        pass


def listeners(run: Run, hook: str) -> list[Callable[..., None]]:
    """What is to be called at a hook, in the order of the callbacks; nothing of those that do nothing there."""
    nothing = getattr(Callback, hook)
    return [
        _named(name, callback, hook)
        for name, callback in run.callbacks.items()
        if getattr(type(callback), hook, nothing) is not nothing
    ]


def tell(run: Run, hook: str, *args: Any) -> None:
    """Call a hook of all callbacks.

    Raises:
        CallbackError: a callback of the user's failed.
    """
    for listener in listeners(run, hook):
        listener(run, *args)


def _named(name: str, callback: Callback, hook: str) -> Callable[..., None]:
    """A hook of a callback; the failure of a user's says whose it is."""
    call: Callable[..., None] = getattr(callback, hook)
    if type(callback).__module__.startswith("rlrun."):
        return call

    def guarded(*args: Any) -> None:
        try:
            call(*args)
        except RlrunError:
            raise
        except Exception as error:
            raise CallbackError(f"callback {name}: {hook}() failed: {type(error).__name__}: {error}") from error

    return guarded


class Log(Callback):
    """Writes a row of metrics every `freq` env steps, and a last one at the end.

    Metrics of the algorithm are averaged over the chunks since the last row. This is the only place where tensors
    become numbers.

    Args:
        freq: env steps between two rows; 0 = only the last.
        window: training episodes that the rollout means look back on.
        info_keys: of the environments' `info`; one that never came is told at the end.

    Raises:
        Diverged: a `train/` metric is not finite. Its row is written first.
    """

    def __init__(self, freq: int, window: int = 100, info_keys: Sequence[str] = ()):
        self._every = Every(freq)
        self._episodes = EpisodeWindow(window)
        self._info_keys = info_keys
        self._means = Means()
        self._steps, self._seconds = 0, 0.0  # at the last row

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        progress = run.progress
        if chunk.episodes:
            self._episodes.add(chunk.episodes)
        if metrics:
            self._means.add(metrics)
        if self._every.due(progress.env_steps):
            self._write(run)
        run.logger.tick(progress.env_steps, progress.wall_seconds)

    def on_end(self, run: Run) -> None:
        if run.progress.env_steps > self._steps:
            self._write(run)
        for key in self._info_keys:
            if f"rollout/info/{key}" not in run.logger.last:
                log.warning("logger.info_keys: no step had a number called %r in its info", key)

    def _write(self, run: Run) -> None:
        progress = run.progress
        own = {name: float(value) for name, value in run.source.metrics().items()}
        row = {**self._time(progress), **self._rollout(progress), **self._means.take(), **own}
        if isinstance(run.buffer, Sized):
            row["train/buffer_size"] = len(run.buffer)
        self._every.consume(progress.env_steps)
        self._steps, self._seconds = progress.env_steps, progress.wall_seconds
        run.logger.log(row, progress.env_steps)
        for name, value in row.items():
            if name.startswith("train/") and not math.isfinite(value):
                raise Diverged(f"{name} is {value} at env step {progress.env_steps:,}")

    def _time(self, progress: Progress) -> dict[str, float]:
        seconds = progress.wall_seconds - self._seconds
        fps = (progress.env_steps - self._steps) / seconds if seconds else math.nan
        return {"time/fps": fps, "time/elapsed": progress.wall_seconds}

    def _rollout(self, progress: Progress) -> dict[str, float]:
        updates = {"train/n_updates": progress.gradient_steps} if progress.gradient_steps else {}
        return {**self._episodes.metrics(), "rollout/episodes": progress.episodes, **updates}

    def state_dict(self) -> StateDict:
        return {
            "every": self._every.state_dict(),
            "episodes": self._episodes.state_dict(),
            "means": self._means.state_dict(),
            "steps": self._steps,
            "seconds": self._seconds,
        }

    def load_state_dict(self, state: StateDict) -> None:
        self._every.load_state_dict(state["every"])
        self._episodes.load_state_dict(state["episodes"])
        self._means.load_state_dict(state["means"])
        self._steps, self._seconds = state["steps"], state["seconds"]


class StopWhenSolved(Callback):
    """Ends the run once the mean return of the last `window` training episodes reaches `mean_return`.

    Args:
        mean_return: the bound.
        window: episodes averaged; there is no verdict before there have been so many.
    """

    def __init__(self, mean_return: float, window: int = 100):
        self._bound = mean_return
        self._episodes = EpisodeWindow(window)
        self._solved = False

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        if chunk.episodes:
            self._episodes.add(chunk.episodes)
            self._solved = self._episodes.is_full and self._episodes.mean_return >= self._bound
        if self._solved and not run.should_stop:
            run.should_stop = True
            mean = number(self._episodes.mean_return)
            run.stop_reason = f"solved: mean return {mean} at env step {run.progress.env_steps:,}"
            log.info("%s", run.stop_reason)
            tell(run, "on_solved")

    def state_dict(self) -> StateDict:
        return {"episodes": self._episodes.state_dict(), "solved": self._solved}

    def load_state_dict(self, state: StateDict) -> None:
        self._episodes.load_state_dict(state["episodes"])
        self._solved = state["solved"]


@dataclass
class CheckpointConfig:
    """What is saved, and when."""

    name: str = "default"  # registered name
    enabled: bool = True  # false: save nothing; such a run cannot be resumed, evaluated or played
    freq: int = 10_000  # env steps between two checkpoints; 0 = only at the end
    at_start: bool = False  # save one before the first step as well; it counts in keep_last
    keep_last: int = 3  # how many of the newest stay; 0 = all
    keep_best: bool = True  # keep one more: that of the best evaluation
    replay: bool = True  # save what a replay buffer holds; without it a resumed run has to collect anew
    grace: float = 5.0  # seconds from a signal to the end; what takes longer is given up for the last checkpoint
    env_state: str = "auto"  # auto (try on two more environments if it can be saved) | off (new episodes at resume)

    def __post_init__(self) -> None:
        checks.one_of("env_state", self.env_state, ("auto", "off"))
        checks.within("freq", self.freq, 0)
        checks.within("keep_last", self.keep_last, 0)
        checks.within("grace", self.grace, 0, 86_400)


@register("checkpoint", "default", config=CheckpointConfig)
class Checkpoint(Callback):
    """Saves the whole run every `freq` env steps, after a best evaluation, and at the end.

    What a resumed run will be is said in `meta.json`, and in the log where it is not exact or no longer so.
    """

    def __init__(self, cfg: CheckpointConfig):
        self.cfg = cfg
        self._promised = ""  # what was said last
        self._every = Every(cfg.freq)
        self._is_best = False

    def mark_best(self) -> None:
        """The next checkpoint, due with this chunk, is the best so far."""
        self._is_best = self.cfg.keep_best

    def on_start(self, run: Run) -> None:
        if self.cfg.enabled and self.cfg.env_state == "auto":
            run.source.prove(run.interrupt.check)
        self._promise(run, log.info)
        if self.cfg.at_start and not run.progress.env_steps:
            self.save(run)

    def on_chunk(self, run: Run, chunk: Chunk, metrics: Metrics) -> None:
        ends = run.progress.done or run.should_stop  # then it is saved after the final evaluation
        if not ends and (self._is_best or self._every.due(run.progress.env_steps)):
            self.save(run)

    def on_end(self, run: Run) -> None:
        self.save(run)

    def save(self, run: Run) -> bool:
        """Save now, if anything is to be saved; returns whether it is. The saved state already says that it was."""
        if not self.cfg.enabled:
            return False
        env_steps, best = run.progress.env_steps, self._is_best
        self._every.consume(env_steps)
        self._is_best = False
        state = run.state_dict()
        self._promise(run, log.warning)
        if _has_nan(state.get("algo")):  # it would push out the checkpoints from before it diverged
            raise Diverged(f"what was learned is not a number at env step {env_steps:,}; it was not saved")
        with run.interrupt.finishing():
            run.dir.must_be_ours()
            checkpoint.save(run.dir.checkpoints, state, env_steps, best=best, keep_last=self.cfg.keep_last)
        run.dir.set_status("running", env_steps=env_steps, saved=env_steps)
        return True

    def _promise(self, run: Run, say: Callable[[str, str], None]) -> None:
        """Say what a resumed run will be, if that is not what was said before."""
        if run.promise == self._promised:
            return
        self._promised = run.promise
        run.dir.amend_meta(resume=run.promise)
        if run.source.caveat:
            say("a resumed run will not be exact: %s", run.source.caveat)

    def state_dict(self) -> StateDict:
        return {"every": self._every.state_dict(), "is_best": self._is_best}

    def load_state_dict(self, state: StateDict) -> None:
        self._every.load_state_dict(state["every"])
        self._is_best = state["is_best"]


@dataclass
class EvalConfig:
    """Evaluation while training and at the end, on environments and seeds of its own."""

    name: str = "default"  # registered name
    freq: int = 10_000  # env steps between two evaluations; 0 = only at the end
    episodes: int = 20  # per evaluation, always from the same seeds, the final one from its own; 0 = no evaluation
    policy: str = "greedy"  # greedy | stochastic (acts as in training, exploration included)
    num_envs: int = 5  # environments stepped together; results of the greedy policy do not depend on it
    epsilon: float | None = None  # probability of a random action in place of the greedy one; null = none
    max_steps: int | None = None  # cut an episode after so many steps; null = 10000 if the environment has no limit

    def __post_init__(self) -> None:
        checks.within("freq", self.freq, 0)
        checks.within("episodes", self.episodes, 0, 10**6)
        checks.one_of("policy", self.policy, ("greedy", "stochastic"))
        checks.within("num_envs", self.num_envs, 1, 10**4)
        checks.within("epsilon", self.epsilon, 0, 1)
        if self.epsilon is not None and self.policy != "greedy":
            raise ConfigError("epsilon", "goes with the greedy policy", "policy=stochastic explores as in training")
        checks.within("max_steps", self.max_steps, 1)


@register("eval", "default", config=EvalConfig)
class Evaluate(Callback):
    """Evaluates every `freq` env steps and at the end; writes `eval.csv` and tells the checkpoint which is the best.

    It has environments of its own and starts them from fixed seeds, so it depends on nothing but these and the weights.
    Whoever draws from the global streams meanwhile draws from seeded ones, and leaves those of the training alone.

    Args:
        table: path of `eval.csv`.
        saver: keeps the best.
    """

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
        metrics = {
            "eval/mean_reward": result.mean,
            "eval/std_reward": result.std,
            "eval/mean_ep_length": result.mean_length,
            "eval/best_mean_reward": self.best["mean"],
        }
        run.logger.log(metrics, env_steps)
        self._every.consume(env_steps)
        tell(run, "on_evaluation", result, kind)
        if self.best is outcome:
            tell(run, "on_best", result)
        return outcome

    def _play(self, run: Run, role: Role) -> EvalResult:
        cfg = self.cfg
        rng = run.seeds.generator(role, cfg.episodes)  # the index behind the episodes' own
        with aside(run.seeds.integer(role, cfg.episodes)), run.interrupt.dispensable():
            return evaluate(
                player(run.algo.agent, rng, cfg.epsilon, run.spec),
                run.evaluation_envs(),
                run.seeds.integers(role, cfg.episodes),
                explore=cfg.policy == "stochastic",
                env_steps=run.progress.env_steps,
                max_steps=cfg.max_steps,
                interrupt=run.interrupt,
            )

    def state_dict(self) -> StateDict:
        return {
            "every": self._every.state_dict(),
            "table": self._table.state_dict(),
            "final": self.final,
            "best": self.best,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a state; `eval.csv` is cut back to it."""
        self._every.load_state_dict(state["every"])
        self._table.load_state_dict(state["table"])
        self.final, self.best = state["final"], state["best"]


class Summary(Callback):
    """Writes `summary.json`: the last value of every metric, the final and the best evaluation, and how it ended."""

    def __init__(self, evaluation: Evaluate):
        self._evaluation = evaluation

    def write(self, run: Run, state: str, env_steps: int) -> None:
        summary = {
            **run.logger.last,
            "final_eval": self._evaluation.final,
            "best_eval": self._evaluation.best,
            "env_steps": env_steps,
            "wall_seconds": run.progress.wall_seconds,
            "state": state,
        }
        run.dir.write_json(run.dir.summary, summary)


class EpisodeWindow:
    """Returns and lengths of the last `size` episodes."""

    def __init__(self, size: int):
        self._returns: deque[float] = deque(maxlen=size)
        self._lengths: deque[int] = deque(maxlen=size)

    def add(self, episodes: Iterable[EpisodeStat]) -> None:
        for episode in episodes:
            self._returns.append(episode.episode_return)
            self._lengths.append(episode.length)

    @property
    def is_full(self) -> bool:
        return len(self._returns) == self._returns.maxlen

    @property
    def mean_return(self) -> float:
        return float(np.mean(self._returns))

    def metrics(self) -> dict[str, float]:
        """Means over the window; nothing before the first episode has ended."""
        if not self._returns:
            return {}
        return {
            "rollout/ep_rew_mean": self.mean_return,
            "rollout/ep_rew_std": float(np.std(self._returns)),
            "rollout/ep_len_mean": float(np.mean(self._lengths)),
        }

    def state_dict(self) -> StateDict:
        return {"returns": list(self._returns), "lengths": list(self._lengths)}

    def load_state_dict(self, state: StateDict) -> None:
        self._returns.clear()
        self._returns.extend(map(float, state["returns"]))
        self._lengths.clear()
        self._lengths.extend(map(int, state["lengths"]))


class Means:
    """Means of metrics over the chunks that had them.

    Taking a chunk in costs an append: tensors stay where they are, without waiting for the device, until a mean is
    asked for. Sums are taken one after the other in the order of the chunks, so it makes no difference to any digit
    when that is or whether a checkpoint lies in between.
    """

    def __init__(self) -> None:
        self._pending: list[Metrics] = []
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Metrics) -> None:
        self._pending.append(metrics)
        if len(self._pending) == MAX_PENDING:
            self._settle()

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        self._settle()
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def _settle(self) -> None:
        names = dict.fromkeys(name for metrics in self._pending for name in metrics)
        for name in names:
            values = numbers([metrics[name] for metrics in self._pending if name in metrics])
            total = self._sums.get(name, 0.0)
            for value in values:
                total += value
            self._sums[name] = total
            self._counts[name] = self._counts.get(name, 0) + len(values)
        self._pending.clear()

    def state_dict(self) -> StateDict:
        self._settle()
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: StateDict) -> None:
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


def _has_nan(node: Any) -> bool:
    """Whether a state holds a NaN anywhere in its arrays and tensors."""
    if isinstance(node, Mapping):
        return any(_has_nan(value) for value in node.values())
    if isinstance(node, list | tuple):
        return any(_has_nan(value) for value in node)
    return hasattr(node, "shape") and bool((node != node).any())


def numbers(values: list[Any]) -> list[float]:
    """Floats of numbers or 0-d tensors; tensors on a device are fetched in one go."""
    if all(getattr(value, "is_cuda", False) for value in values):
        import torch

        return torch.stack(values).tolist()
    return [float(value) for value in values]
