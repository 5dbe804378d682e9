"""What learners from replay share: storing, warming up, and how many updates are owed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.checks import one_of, positive, within
from rlrun.compute.update import Aux, UpdateMeans
from rlrun.errors import ConfigError
from rlrun.footprint import Need, transition
from rlrun.schedules import Ratio, annealed
from rlrun.types import Batch, EnvSpec, Metrics, Progress, Rollout


@dataclass
class ReplayConfig:
    """Options of every algorithm that learns from replay. All steps are env steps, summed over the environments."""

    gamma: float = 0.99  # discount factor per step
    learning_rate: float = 1e-4  # Adam's step size
    learning_rate_schedule: str = "constant"  # constant | linear (falls to 0 at total_timesteps)
    adam_eps: float = 1e-8  # Adam's epsilon, added to the root of the second moment
    batch_size: int = 32  # transitions per gradient step
    learning_starts: int = 100  # env steps before the first gradient step
    random_steps: int = 0  # env steps with uniformly random actions at the start
    train_freq: int = 4  # env steps between two rounds of gradient steps
    gradient_steps: int = 1  # gradient steps per round
    max_grad_norm: float | None = 10.0  # gradients are scaled down to this global norm; null leaves them
    target_update_interval: int | None = (
        None  # env steps between two copies into the target network (tau=1 only; 10000 if null)
    )
    tau: float = 1.0  # share of the new weights in the target network; below 1 it follows after every gradient step

    def __post_init__(self) -> None:
        within("gamma", self.gamma, 0, 1)
        positive("learning_rate", self.learning_rate)
        positive("adam_eps", self.adam_eps)
        one_of("learning_rate_schedule", self.learning_rate_schedule, ("constant", "linear"))
        within("batch_size", self.batch_size, 1, 10**7)
        within("learning_starts", self.learning_starts, 0)
        within("random_steps", self.random_steps, 0)
        within("train_freq", self.train_freq, 1)
        within("gradient_steps", self.gradient_steps, 1, 10**6)
        positive("max_grad_norm", self.max_grad_norm)
        within("target_update_interval", self.target_update_interval, 1)
        positive("tau", self.tau)
        within("tau", self.tau, 0, 1)
        if self.tau < 1 and self.target_update_interval is not None:
            raise ConfigError(
                "target_update_interval",
                "has no meaning with tau < 1, where the target follows after every gradient step",
                "write target_update_interval=null, or tau=1",
            )


def round_footprint(cfg: ReplayConfig, env: EnvSpec) -> list[Need]:
    """What a round collects, and the batches that are gathered at once to learn from it."""
    each = transition(env, observations=2)
    steps = max(cfg.train_freq, env.num_envs)
    batches = f"{cfg.gradient_steps:,} batches of {cfg.batch_size:,} transitions"
    larger = cfg.batch_size > cfg.gradient_steps
    key, others = ("algo.batch_size", cfg.gradient_steps) if larger else ("algo.gradient_steps", cfg.batch_size)
    gathered = 2 * each * cfg.gradient_steps * cfg.batch_size
    return [
        Need("algo.train_freq", each * steps, f"a chunk of {steps:,} steps", each),
        Need(key, gathered, batches, 2 * each * others),
    ]


class ReplayLearner(Algorithm):
    """Stores every rollout and makes `gradient_steps` updates per `train_freq` env steps once learning has started.

    Metrics are means over all updates of a chunk. A subclass sets `agent` and implements `update`.
    """

    smoke: ClassVar = {"learning_starts": 64, "random_steps": 64, "batch_size": 32}

    def __init__(self, cfg: Any, kit: Kit):
        super().__init__(cfg, kit)
        self.buffer = buffer = kit.replay(cfg.gamma)
        env, total_timesteps = kit.env, kit.total_timesteps
        if cfg.batch_size > buffer.capacity:
            raise ConfigError(
                "algo.batch_size", f"{cfg.batch_size} transitions can't be drawn from a buffer of {buffer.capacity}"
            )
        self.rollout_steps = max(1, cfg.train_freq // env.num_envs)
        if self.rollout_steps * env.num_envs > buffer.capacity:
            raise ConfigError("buffer.capacity", f"{buffer.capacity} transitions are less than one chunk of experience")
        # Counted in what is stored, so that a run resumed without its replay warms up again.
        self.warm = max(cfg.batch_size, min(cfg.learning_starts, buffer.capacity))
        self.ratio = Ratio(cfg.gradient_steps, cfg.train_freq)
        self.updates_ahead = total_timesteps * cfg.gradient_steps // cfg.train_freq
        self.learning_rate = annealed(cfg.learning_rate, cfg.learning_rate_schedule, total_timesteps)

    def update(self, batch: Batch, learning_rate: float) -> Aux:
        """One gradient step on one batch. aux: td_error [B] becomes priorities, the others are 0-d and logged."""
        raise NotImplementedError

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        self.buffer.add(rollout)
        if len(self.buffer) < self.warm:
            return {}
        means, learning_rate = UpdateMeans(), self.learning_rate(progress.begun(rollout))
        owed = self.ratio.owed(rollout.reward.size)
        for batch in self.buffer.batches(owed, self.cfg.batch_size):
            aux = self.update(batch, learning_rate)
            progress.gradient_steps += 1
            self.buffer.update_priorities(batch.index, aux.pop("td_error"))
            means.add(aux)
        if not owed:
            return {}
        return {f"train/{key}": value for key, value in means.take().items()} | {"train/learning_rate": learning_rate}
