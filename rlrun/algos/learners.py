"""What learners from replay share: storing, warming up, and how many updates are owed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from rlrun import networks
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.buffers.replay import BURST_BYTES
from rlrun.checks import Above0, Count, Natural, Positive, Share, Within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.rules import GradientConfig
from rlrun.compute.update import Aux, LossFn
from rlrun.errors import ConfigError
from rlrun.footprint import Footprint, Need, Parameters, transition
from rlrun.networks.target import TargetNet
from rlrun.ops.fields import rows
from rlrun.schedules import Ratio, annealed
from rlrun.types import Batch, EnvSpec, Metrics, Progress, Rollout, Tensor

if TYPE_CHECKING:
    import torch

    from rlrun.networks import Nets

DRAWN = 64  # updates for which random numbers are drawn at once


class Drawn(NamedTuple):
    """A batch, and the random numbers that its loss takes; or a stack of both."""

    batch: Batch
    drawn: dict[str, Any]


@dataclass
class ReplayConfig(GradientConfig):
    """Options of every algorithm that learns from replay. All steps are env steps, summed over the environments."""

    learning_rate: Positive = 1e-4  # step size
    max_grad_norm: Positive | None = 10.0  # gradients are scaled down to this global norm; null leaves them
    gamma: Share = 0.99  # discount factor per step
    batch_size: Annotated[int, Within(1, 10**7)] = 32  # transitions per gradient step
    learning_starts: Natural = 100  # env steps before the first gradient step
    random_steps: Natural = 0  # env steps with uniformly random actions at the start
    train_freq: Count = 4  # env steps between two rounds of gradient steps
    gradient_steps: Annotated[int, Within(1, 10**6)] = 1  # gradient steps per round
    # env steps between two copies into the target network (tau=1 only; 10000 if null)
    target_update_interval: Count | None = None
    # share of the new weights in the target network; below 1 it follows after every gradient step
    tau: Annotated[float, Above0(1)] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau is not None and self.tau < 1 and self.target_update_interval is not None:
            raise ConfigError(
                "target_update_interval",
                "has no meaning with tau < 1, where the target follows after every gradient step",
                "write target_update_interval=null, or tau=1",
            )


def replay_footprint(networks: Footprint) -> Footprint:
    """The footprint of an algorithm with such networks that learns from replay."""

    def footprint(cfg: ReplayConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
        return [*networks(cfg, env, parameters), *round_footprint(cfg, env)]

    return footprint


def round_footprint(cfg: ReplayConfig, env: EnvSpec) -> list[Need]:
    """What a round collects, and the batches that it learns from: all are drawn, and as many gathered as is fast."""
    each = transition(env, observations=2)
    steps = max(cfg.train_freq, env.num_envs)
    what = f"{cfg.gradient_steps:,} batches of {cfg.batch_size:,} transitions"
    drawn = 8 * cfg.gradient_steps * cfg.batch_size
    one = 2 * each * cfg.batch_size
    if one > BURST_BYTES:
        batches = Need("algo.batch_size", one + drawn, what, 2 * each + 8 * cfg.gradient_steps)
    else:
        gathered = min(one * cfg.gradient_steps, BURST_BYTES)
        batches = Need("algo.gradient_steps", gathered + drawn, what, 8 * cfg.batch_size)
    return [Need("algo.train_freq", each * steps, f"a chunk of {steps:,} steps", each), batches]


class ReplayLearner(Algorithm):
    """Stores every rollout and makes `gradient_steps` updates per `train_freq` env steps once learning has started.

    Metrics are means over all updates of a chunk. A subclass sets `agent`, implements `loss` and adds its networks to
    `state`: each is an attribute of its name in `nets`.

    Args:
        nets: the networks that are trained.
        follow: name of a target network to be made -> name of the one in `nets` that it follows, as `tau` and
            `target_update_interval` say.
        generator: the stream of the loss's random numbers, if it takes any: `draw` says which.
    """

    state: tuple[str, ...] = ("optimiser", "ratio", "agent")
    smoke: ClassVar = {"learning_starts": 64, "random_steps": 64, "batch_size": 32}

    def __init__(
        self,
        cfg: Any,
        kit: Kit,
        nets: Nets,
        follow: Mapping[str, str],
        generator: torch.Generator | None = None,
    ):
        super().__init__(cfg, kit)
        self.nets, trained = nets, [name for name, _ in nets.named_children()]
        for name in trained:
            setattr(self, name, getattr(nets, name))
        interval = None if cfg.tau is None or cfg.tau < 1 else cfg.target_update_interval or 10_000
        self.targets = {name: TargetNet(getattr(nets, source), cfg.tau, interval) for name, source in follow.items()}
        for name, target in self.targets.items():
            setattr(nets, name, target.module)
            setattr(self, name, target)
        self.group = kit.device.group
        self.normalizes = any(isinstance(layer, networks.RunningNorm) for layer in nets.modules())
        self.generator = generator
        if generator is not None:
            self.state = (*self.state, "generator")
        self.buffer = buffer = kit.replay(cfg.gamma)
        env, total_timesteps = kit.env, kit.total_timesteps
        if cfg.batch_size > buffer.capacity:
            problem = f"{cfg.batch_size} transitions can't be drawn from a buffer of {buffer.capacity}"
            raise ConfigError("algo.batch_size", problem, "make it smaller, or buffer.capacity larger")
        self.rollout_steps = max(1, cfg.train_freq // kit.num_envs)
        if self.rollout_steps * env.num_envs > buffer.capacity:
            problem = f"{buffer.capacity} transitions are less than one chunk of experience"
            hint = "make it larger, or algo.train_freq or env.num_envs smaller"
            raise ConfigError("buffer.capacity", problem, hint)
        # Counted in what is stored, so that a run resumed without its replay warms up again.
        self.warm = max(cfg.batch_size, min(-(-cfg.learning_starts // self.group.size), buffer.capacity))
        self.ratio = Ratio(cfg.gradient_steps, cfg.train_freq)
        self.learning_rate = annealed(cfg.learning_rate, cfg.learning_rate_schedule, total_timesteps)
        rounds = max(1, self.rollout_steps * kit.num_envs // cfg.train_freq)  # in a chunk
        in_a_row = rounds * cfg.gradient_steps
        self.remembers = any(getattr(getattr(nets, name), "memory_size", 0) for name in trained)
        self.optimiser = self.updates(
            kit,
            ahead=0 if self.remembers else total_timesteps * cfg.gradient_steps // cfg.train_freq,
            bursts=(min(in_a_row, buffer.ahead or in_a_row),),
        )

    def updates(self, kit: Kit, ahead: int, bursts: Sequence[int]) -> Any:
        """What makes the updates: of all networks by one loss; a subclass may have several.

        Args:
            ahead, bursts: how many they will be, and how many in a row (see `Device.update`).
        """
        return kit.update(
            self.of_drawn(self.loss),
            self.nets,
            trains=[name for name, _ in self.nets.named_children() if name not in self.targets],
            cfg=self.cfg,
            ahead=ahead,
            bursts=bursts,
            followers=list(self.targets.values()),
        )

    def of_drawn(self, loss: LossFn) -> LossFn:
        """A loss as it is, or, where there are random numbers, of a batch and them in one."""
        if self.generator is None:
            return loss
        return lambda nets, inputs: loss(nets, inputs.batch, inputs.drawn)

    def loss(self, nets: Nets, batch: Batch, drawn: Any = None) -> tuple[Tensor, Aux]:
        """The loss of a batch (see `Update`). aux: td_error [B] becomes priorities, the others are 0-d and logged.

        Args:
            drawn: its random numbers, a row of what `draw` gave.
        """
        raise NotImplementedError

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        """Random numbers for the losses of so many batches: tensors [updates, ...], by name, or dicts of such."""
        raise NotImplementedError

    def _stacks(self, owed: int) -> Iterator[Batch]:
        """Stacks of batches for so many updates; of sequences for a network that remembers."""
        cfg = self.cfg
        if self.remembers:
            return self.buffer.sequences(owed, cfg.batch_size, cfg.sequence_length, cfg.burn_in)
        return self.buffer.bursts(owed, cfg.batch_size)

    def _inputs(self, stack: Batch) -> Iterator[tuple[Tensor, Any]]:
        """A stack of batches as the loss takes it, behind its index: as it is, or with random numbers, in pieces."""
        if self.generator is None:
            yield stack.index, stack
            return
        updates, batch_size = stack.reward.shape
        for start in range(0, updates, DRAWN):
            piece = rows(stack, slice(start, start + DRAWN)) if updates > DRAWN else stack
            yield piece.index, Drawn(piece, self.draw(len(piece.reward), batch_size))

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        for target in self.targets.values():
            target.sync(progress.env_steps)
        if self.normalizes:
            networks.gather(self.nets, rollout.obs[:-1].reshape(-1, *rollout.obs.shape[2:]), self.group)
        self.buffer.add(rollout)
        if len(self.buffer) < self.warm:
            return {}
        means, learning_rate = UpdateMeans(), self.learning_rate(progress.begun(rollout))
        owed = self.ratio.owed(rollout.env_steps)
        burst = self.optimiser.eager if self.remembers else self.optimiser.burst
        for stack in self._stacks(owed):
            for index, inputs in self._inputs(stack):
                for piece in burst(inputs, learning_rate=learning_rate):
                    self.buffer.update_priorities(index[piece.rows], piece.aux.pop("td_error"))
                    means.add(piece.aux)
        progress.gradient_steps += owed
        if not owed:
            return {}
        return means.take() | {"learning_rate": learning_rate}
