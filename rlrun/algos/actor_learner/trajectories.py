"""What learners from trajectories share: batches of them, learning from each once and more often, and gradients sent.

A rollout [T, E] is E trajectories of one environment each. An update learns from `batch_rollouts` of them side by
side; what is left of a rollout waits for the next. After each new batch a Poisson number of updates learns from old
trajectories (Wang et al. 2017, arXiv:1611.01224, algorithm 1). Who sends rollouts makes no difference: environments of
this process, all actors together, or one after the other.

With `asynchronous` an actor computes the gradient of all that it collected at its own weights and sends that (Mnih et
al. 2016, arXiv:1602.01783); applied here, it is of weights that have moved meanwhile. Without actors there is nobody to
send any, and the same option is the synchronous form.

Letters: T steps, B trajectories, R rows: all observations of a batch, [(T + 1) B + K], in order of time side by side,
and then the K true last ones of episodes that were cut from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from rlrun import networks
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.buffers.trajectories import Batch, Trajectories, rows, trajectories, unrolling
from rlrun.checks import Natural, OneOf, Positive, Share, Within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.rules import GradientConfig
from rlrun.compute.update import Aux, Follower
from rlrun.errors import ConfigError
from rlrun.footprint import FLOAT, Need, transition
from rlrun.ops.fields import mapped
from rlrun.schedules import annealed
from rlrun.types import MASK, EnvSpec, Gradients, Metrics, Progress, Rollout, Tensor


@dataclass
class TrajectoryConfig(GradientConfig):
    """Options of every learner from trajectories."""

    learning_rate: Positive = 5e-4  # step size
    max_grad_norm: Positive | None = 40.0  # gradients are scaled down to this global norm; null leaves them
    gamma: Share = 0.99  # discount factor per step
    n_steps: Annotated[int, Within(1, 10**5)] = 20  # steps of a trajectory, which is of one environment
    batch_rollouts: Annotated[int, Within(1, 10**5)] = 1  # trajectories per update
    # mean | sum: what a loss is over the steps of a batch; with sum the gradient grows with n_steps and batch_rollouts
    reduction: Annotated[str, OneOf("mean", "sum")] = "mean"

    online, replay_ratio, replay_capacity, replay_min = True, 0.0, 0, 0  # each is learned from once, unless replayed


@dataclass
class ReplayedConfig(TrajectoryConfig):
    """Options of those that learn from a trajectory more than once."""

    online: bool = True  # learn from new trajectories before any old ones; false: only from those that are drawn
    # mean number of updates with old trajectories after each new batch; the number is Poisson
    replay_ratio: Annotated[float, Within(0, 1000)] = 0.0
    replay_capacity: Annotated[int, Within(1, 10**8)] = 1000  # replay_ratio above 0: trajectories that are kept
    replay_min: Natural = 100  # replay_ratio above 0: trajectories that there must be before any is learned from again

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.online and not self.replay_ratio:
            problem = "nothing would be learned: new trajectories are not learned from, and old ones are not drawn"
            raise ConfigError("online", problem, "write replay_ratio=4, say, or online=true")
        if self.replay_ratio and self.replay_min > self.replay_capacity:
            problem = f"{self.replay_min} trajectories are more than the {self.replay_capacity} that are kept"
            raise ConfigError("replay_min", problem, f"write a smaller one, or replay_capacity={self.replay_min}")


def footprint(cfg: TrajectoryConfig, env: EnvSpec, recorded: int) -> list[Need]:
    """The trajectories that are kept or wait, as they are collected, and a batch of them on the device.

    Args:
        recorded: how many numbers of each step are kept that the agent records, memory and noise left out.
    """
    each = cfg.n_steps * (transition(env) + recorded * FLOAT)
    held, key = room(cfg, env.num_envs), "algo.replay_capacity" if cfg.replay_ratio else "algo.n_steps"
    moving, batch = env.num_envs + 2 * cfg.batch_rollouts, f"a batch of {cfg.batch_rollouts:,} trajectories"
    return [
        Need(key, held * each, f"{held:,} trajectories of {cfg.n_steps:,} steps", each),
        Need("algo.batch_rollouts", moving * each, batch, 2 * each),
    ]


def room(cfg: TrajectoryConfig, num_envs: int) -> int:
    """How many trajectories there must be room for: those that wait, or all that may be learned from again."""
    return max(cfg.replay_capacity if cfg.replay_ratio else 0, cfg.batch_rollouts - 1 + num_envs)


class TrajectoryLearner(Algorithm):
    """Takes rollouts apart into trajectories and makes an update of each batch. A subclass implements `loss`.

    Metrics are means over all updates of a chunk. A subclass sets `agent` and adds its networks to `state`.

    Args:
        nets: all networks that the loss looks at.
        trains: names of those that are trained, first the one that acts.
        recorded: what the agent records that the loss is given, [T, B, ...].
        followers: networks that follow after every update.
        epochs: updates that are made of each batch.
        asynchronous: actors send gradients.
    """

    any_envs = True
    state: tuple[str, ...] = ("optimiser", "agent", "trajectories")

    def __init__(
        self,
        cfg: Any,
        kit: Kit,
        nets: networks.Nets,
        trains: str | Sequence[str],
        recorded: Sequence[str] = (),
        followers: Sequence[Follower] = (),
        epochs: int = 1,
        asynchronous: bool = False,
    ):
        super().__init__(cfg, kit)
        self.nets, self.recorded, self.epochs = nets, recorded, epochs
        self.device, self.masked = kit.device, kit.env.obs_space.masked
        self.rollout_steps, self.draws = cfg.n_steps, False
        self.memory_size = getattr(getattr(nets, trains if isinstance(trains, str) else trains[0]), "memory_size", 0)
        self.trajectories = Trajectories(room(cfg, kit.env.num_envs), kit.sampling)
        self.learning_rate = annealed(cfg.learning_rate, cfg.learning_rate_schedule, kit.total_timesteps)
        batches = kit.total_timesteps / (cfg.n_steps * cfg.batch_rollouts)
        self.optimiser = kit.update(
            self.loss,
            nets,
            trains=trains,
            cfg=cfg,
            ahead=0 if self.memory_size else int(batches * (cfg.online + cfg.replay_ratio) * epochs),
            bursts=(epochs,),
            followers=followers,
        )
        if asynchronous:
            self.sends, self.gradient_size = "gradients", sum(p.numel() for p in self.optimiser.params)

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The loss of a batch as `tensors` has it."""
        raise NotImplementedError

    # --- from rollouts to updates ------------------------------------------------------------------------------------

    def learn(self, data: Rollout | Gradients, progress: Progress) -> Metrics:
        if isinstance(data, Gradients):
            return self.take_in(data, progress)
        rate, means = self.learning_rate(progress.begun(data)), UpdateMeans()
        for batch in self.batches(data):
            self.before_update(progress)
            is_usual = "cut" not in batch and "memory" not in batch and len(batch["reward"]) == self.rollout_steps
            burst = self.optimiser.burst if is_usual else self.optimiser.eager
            for piece in burst(mapped(lambda x: x.expand(self.epochs, *x.shape), batch), learning_rate=rate):
                progress.gradient_steps += piece.updates
                means.add(piece.aux)
        found = means.take()
        return found | {"learning_rate": rate} if found else {}

    def batches(self, rollout: Rollout) -> Iterator[dict[str, Any]]:
        """What is to be learned from now that a rollout has come. One that was cut short is a batch by itself."""
        new, size = trajectories(rollout, self.recorded, self.draws), self.cfg.batch_rollouts
        if len(rollout.reward) < self.rollout_steps:
            if self.cfg.online:
                yield self.tensors(new)
            return
        held = self.trajectories
        held.add(new)
        while held.waiting >= size:
            batch = held.next(size)
            if self.cfg.online:
                yield self.tensors(batch)
            if self.cfg.replay_ratio and len(held) >= self.cfg.replay_min:
                again = np.array([held.rng.poisson(self.cfg.replay_ratio)])
                for _ in range(int(self.device.group.led(again)[0])):  # as often on every rank
                    yield self.tensors(held.sample(size))

    def before_update(self, progress: Progress) -> None:
        """What is due before a batch is learned from."""

    def tensors(self, batch: Batch) -> dict[str, Any]:
        """What a loss is given of a batch.

        obs [R, *obs]; cut [K], of the steps t B + b that led to the last K rows, if there are any; action [T B, ...];
        reward, discount, ended [T, B], as `rlrun.ops.offpolicy` has them; what was recorded [T, B, ...]; noise [R, U],
        that with which the agent acted; and what takes a network that remembers through the rows.
        """
        columns = batch.columns
        obs, cut = rows(batch)
        action, terminated = columns["action"], columns["terminated"]
        found = {
            "obs": obs,
            "action": action.reshape(-1, *action.shape[2:]),
            "reward": columns["reward"],
            "discount": np.where(terminated, np.float32(0), np.float32(self.cfg.gamma)),
            "ended": terminated | columns["truncated"],
            **{name: columns[name] for name in self.recorded},
        }
        if "noise" in columns:  # of steps; what lies behind the last is worth what it is without
            noise = columns["noise"].reshape(-1, columns["noise"].shape[-1])
            behind = np.zeros((len(obs) - len(noise), noise.shape[1]), noise.dtype)
            found["noise"] = np.concatenate([noise, behind])
        if cut is not None:
            found["cut"] = cut
        if "memory" in columns:
            found |= unrolling(batch)
        return {name: self.device.tensor(column) for name, column in found.items()}

    # --- gradients of actors -----------------------------------------------------------------------------------------

    def gradients(self, rollout: Rollout, env_steps: int) -> Gradients:
        batch = self.tensors(trajectories(rollout, self.recorded, self.draws))
        grads, aux = self.optimiser.gradients(batch)
        values = torch.cat([grad.reshape(-1) for grad in grads]).cpu().numpy()
        said = {name: float(value) for name, value in aux.items()}
        return Gradients(values, said, rollout.reward.size, rollout.policy_version)

    def take_in(self, sent: Gradients, progress: Progress) -> Metrics:
        """The step that follows from an actor's gradients."""
        self.before_update(progress)
        parameters = self.optimiser.params
        values = self.device.tensor(sent.values.copy())  # a step uses up what it is given
        parts = values.split([parameter.numel() for parameter in parameters])
        grads = [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
        rate = self.learning_rate(progress.begun(sent))
        self.optimiser.apply(grads, rate)
        progress.gradient_steps += 1
        return {**sent.aux, "learning_rate": rate}

    # --- what losses share -------------------------------------------------------------------------------------------

    def reduced(self, each: Tensor) -> Tensor:
        """The mean or the sum over all steps."""
        return each.mean() if self.cfg.reduction == "mean" else each.sum()

    def mask(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Which actions could be taken in the steps of a batch [T B, A], where there are masks."""
        mask: Tensor | None = batch["obs"][MASK][: batch["reward"].numel()] if self.masked else None
        return mask


def outputs(network: Any, batch: Mapping[str, Any], noisy: bool = True) -> Any:
    """What the heads say [R, *] of all rows; a network that remembers goes through the episodes in order.

    Args:
        noisy: a noisy network is given the batch's noise, not asked for its mean.
    """
    if "memory" in batch:
        return networks.unrolled(network, batch)
    return network(batch["obs"], batch["noise"]) if noisy and "noise" in batch else network(batch["obs"])


def now(of_rows: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Of the rows [R, ...] those that steps began with [T B, ...]."""
    return of_rows[: batch["reward"].numel()]


def then(of_rows: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Of numbers [R] those of the observations that steps led to [T, B]; of the true last ones where there are some."""
    steps, count = batch["reward"].shape
    size = steps * count
    found = of_rows[count : size + count]
    if "cut" in batch:
        found = found.index_copy(0, batch["cut"], of_rows[size + count :])
    return found.view(steps, count)
