"""What neural contextual bandits share: all that was observed, when to train on it, and the learning rate.

A network maps a context to the expected reward of every arm. Every `update_interval` env steps it is trained for
`train_steps` gradient steps on random batches of all observations; a reward tells only of the arm that was pulled, so
the loss looks at that output alone (Riquelme, Tucker & Snoek 2018, arXiv:1802.09127, appendix). Within a round of
training the learning rate falls as learning_rate / (1 + lr_decay * i) with the gradient step i = 0, 1, ...

Letters: E environments, K arms, N observations, B batch, T gradient steps of a round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch

from rlrun import networks
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.algos.contextual.agent import ContextualAgent
from rlrun.checks import Count, Natural, NotNegative, Positive, Within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.rules import OptimizerConfig
from rlrun.compute.update import Aux
from rlrun.ops.losses import gather
from rlrun.schedules import Ratio, ScheduleConfig, make
from rlrun.types import Array, Metrics, Progress, Rollout, StateDict, Tensor

Batch = dict[str, Tensor]  # rows by name: obs, action, reward, noise, ...

DropoutRate = Annotated[float, Within(0, 0.99)]  # dropping every unit leaves nothing


@dataclass
class NeuralConfig(OptimizerConfig):
    """Options of every neural contextual bandit. All steps are env steps, summed over the environments."""

    learning_rate: Positive = 0.01  # step size
    lr_decay: NotNegative = 0.05  # the step size falls as learning_rate / (1 + lr_decay * gradient steps)
    lr_reset: bool = True  # every round starts at learning_rate; otherwise it goes on falling where the last one ended
    max_grad_norm: Positive | None = 1.0  # gradients are scaled down to this global norm; null leaves them
    init_pulls: Natural = 3  # how often every arm is played first, in turn
    update_interval: Count = 20  # env steps between two rounds of training
    learning_starts: Natural = 0  # env steps before the first round
    # gradient steps per round
    train_steps: Annotated[ScheduleConfig, Within(0, 10**6)] = field(default_factory=lambda: ScheduleConfig(start=20))
    batch_size: Annotated[int, Within(1, 10**7)] = 64  # observations per gradient step


class History:
    """Everything that was observed, one row per pull, on the learner's device. Storage doubles when it is full."""

    def __init__(self, device: torch.device):
        self.device, self.size = device, 0
        self._storage: dict[str, Tensor] = {}

    def add(self, columns: Mapping[str, Array]) -> None:
        """Append rows [n, ...] of every column; the arrays are copied."""
        added = len(next(iter(columns.values())))
        for key, rows in columns.items():
            values = torch.from_numpy(rows)
            storage = self._storage.setdefault(key, values.new_empty((0, *rows.shape[1:]), device=self.device))
            if self.size + added > len(storage):
                spare = storage.new_empty((self.size + 2 * added, *storage.shape[1:]))
                storage = self._storage[key] = torch.cat([storage[: self.size], spare])
            storage[self.size : self.size + added] = values
        self.size += added

    def __getitem__(self, key: str) -> Tensor:
        """All rows of a column [N, ...]."""
        return self._storage[key][: self.size]

    def rows(self, index: Tensor) -> Batch:
        """The rows [*index, ...] of every column."""
        return {key: storage[index] for key, storage in self._storage.items()}

    def state_dict(self) -> StateDict:
        return {key: self[key] for key in self._storage}

    def load_state_dict(self, state: StateDict) -> None:
        self._storage = {key: rows.to(self.device, copy=True) for key, rows in state.items()}
        self.size = len(next(iter(self._storage.values()), ()))


class NeuralLearner(Algorithm):
    """Stores every reward and trains the network at the configured times.

    Metrics are means over all updates of a chunk. A subclass sets `agent`; it may put another loss in place of the
    squared error of the pulled arm.

    Args:
        network: `network(obs [B, *obs], noise [B, units])`, with a method `noise(shape, generator)` that draws noise.
        batch_shape: of a gradient step's batch.
    """

    agent: ContextualAgent
    rollout_steps = 1  # every pull sees what the learner knows after the one before
    smoke: ClassVar = {"learning_starts": 64, "batch_size": 32}
    state: tuple[str, ...] = (
        "network",
        "optimiser",
        "history",
        "generator",
        "rounds",
        "gradient_steps",
        "agent",
    )

    def __init__(self, cfg: NeuralConfig, kit: Kit, network: Any, batch_shape: tuple[int, ...] | None = None):
        super().__init__(cfg, kit)
        self.network, self.nets = network, networks.Nets(network=network)
        self.batch_shape = batch_shape or (cfg.batch_size,)
        self.history = History(kit.device.torch)
        self.generator = kit.generator
        self.rounds = Ratio(1, cfg.update_interval)
        self.train_steps = make(cfg.train_steps, kit.total_timesteps)
        self.gradient_steps = 0
        most = max(cfg.train_steps.start, cfg.train_steps.end or 0)
        self.optimiser = kit.update(
            self.loss,
            self.nets,
            trains="network",
            cfg=cfg,
            ahead=int(kit.total_timesteps * most / cfg.update_interval),
        )
        self.means = UpdateMeans()

    def loss(self, nets: networks.Nets, batch: Batch) -> tuple[Tensor, Aux]:
        """Mean squared error of the arms that were pulled."""
        predicted = gather(nets.network(batch["obs"], batch["noise"]), batch["action"])  # [B]
        return torch.nn.functional.mse_loss(predicted, batch["reward"]), {}

    def columns(self, rollout: Rollout) -> dict[str, Array]:
        """What is stored of a rollout, one row per pull."""
        return {
            "obs": rollout.obs[:-1].reshape(-1, *rollout.obs.shape[2:]),
            "action": rollout.action.ravel(),
            "reward": rollout.reward.ravel(),
        }

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        self.history.add(self.columns(rollout))
        metrics: Metrics = {}
        before = self.gradient_steps
        if progress.env_steps >= self.cfg.learning_starts:
            steps = round(self.train_steps(progress.begun(rollout)))
            for _ in range(self.rounds.owed(rollout.reward.size)):
                metrics = self.train(steps)
        progress.gradient_steps += self.gradient_steps - before
        return {**self.means.take(), **metrics}

    def train(self, steps: int) -> Metrics:
        """One round of so many gradient steps; returns what is to be said of the round as a whole."""
        for i, batch in enumerate(self.batches(steps), start=0 if self.cfg.lr_reset else self.gradient_steps):
            learning_rate = self.cfg.learning_rate / (1 + self.cfg.lr_decay * i)
            self.means.add(self.optimiser(batch, learning_rate=learning_rate) | {"learning_rate": learning_rate})
        self.gradient_steps += steps
        return {}

    def batches(self, count: int) -> Iterator[Batch]:
        """Random batches of all observations, drawn with replacement, each with the network's noise."""
        for _ in range(count):
            index = torch.randint(
                self.history.size, self.batch_shape, generator=self.generator, device=self.generator.device
            )
            yield self.history.rows(index) | {"noise": self.noise(self.batch_shape)}

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        """The network's noise for as many rows."""
        noise: Tensor = self.network.noise(shape, self.generator)
        return noise
