"""Experience replay (Lin 1992): a ring of the newest transitions, a sampler that chooses among them, goals that they
are given in hindsight, and n steps that are folded into one when they are drawn.

A burst of batches is gathered and copied to the device at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from rlrun.buffers.cells import stored_bytes
from rlrun.buffers.hindsight import STRATEGIES, Given, Hindsight, hindsight
from rlrun.buffers.paths import paths
from rlrun.buffers.ring import NOTHING, Ring
from rlrun.buffers.samplers import Prioritized, Sampler, Uniform
from rlrun.checks import Bounded, Count, OneOf, Positive, Share, Within, only_with
from rlrun.compute.device import Device
from rlrun.errors import ConfigError, RlrunError
from rlrun.footprint import Need, transition
from rlrun.ops.fields import mapped
from rlrun.ops.nstep import fold
from rlrun.registry import register
from rlrun.schedules import Probability, ScheduleConfig, make
from rlrun.types import MASK, Array, Batch, EnvSpec, Rollout, StateDict, Tensor

BURST_BYTES = 2**26  # of transitions are gathered at once


@dataclass
class RingConfig(Bounded):
    """Options of every replay."""

    capacity: Count = 1_000_000  # transitions kept, in whole sweeps over the environments; the oldest are overwritten
    n_step: Annotated[int, Within(1, 1000)] = (
        1  # steps that are folded into one transition: their rewards, and the observation after the last
    )
    # ram | memmap: where observations are kept; in a file of the run directory, of which memory holds what is at hand
    storage: Annotated[str, OneOf("ram", "memmap")] = "ram"
    # none | future | final | episode: give transitions of a goal environment a goal that was achieved in their episode
    hindsight: Annotated[str, OneOf("none", *STRATEGIES)] = "none"
    k: Positive = 4.0  # with hindsight: so many are given one for each that keeps its own

    def __post_init__(self) -> None:
        super().__post_init__()
        only_with(self, "k", "hindsight", *STRATEGIES)


@dataclass
class UniformConfig(RingConfig):
    """Uniform replay."""

    name: str = "uniform"  # registered kind of buffer
    replacement: bool = True  # draw each batch with replacement; without costs time in proportion to what is stored


@dataclass
class PrioritizedConfig(RingConfig):
    """Prioritised replay."""

    name: str = "prioritized"  # registered kind of buffer
    alpha: Share = 0.6  # how much more likely large errors are; 0: all are equally likely
    beta: Probability = field(
        default_factory=lambda: ScheduleConfig("linear", start=0.4, end=1.0, fraction=1.0)
    )  # how much of that the importance weights make up for
    normalize: Annotated[str, OneOf("buffer", "batch")] = "buffer"  # whose largest importance weight becomes 1
    ahead: Count = (
        1  # batches drawn before the errors of the first are known; more is faster where updates are compiled
    )


def footprint(cfg: RingConfig, env: EnvSpec) -> list[Need]:
    """The ring when it is full; an observation more for every episode that ended in it is not counted."""
    seen, each = stored_bytes(env.obs_space), transition(env, 0) + 2 * 8  # its number, and where it goes on
    what = f"a replay of {cfg.capacity:,} transitions"
    if isinstance(cfg, PrioritizedConfig):
        each += 9  # its mass, and its share in the sums
    if cfg.hindsight != "none":
        each += 2 * 8  # where its episode begins and ends
    if cfg.storage == "ram":
        return [Need("buffer.capacity", cfg.capacity * (each + seen), what, each + seen)]
    on_disk = Need("buffer.capacity", cfg.capacity * seen, "its file", seen, on_disk=True)
    return [Need("buffer.capacity", cfg.capacity * each, what, each), on_disk]


@register("buffer", UniformConfig, smoke={"capacity": 1000}, footprint=footprint)
def uniform(
    cfg: UniformConfig,
    env: EnvSpec,
    *,
    gamma: float,
    rng: np.random.Generator,
    device: Device,
    total_timesteps: int = 0,
) -> Replay:
    """Replay of the newest transitions, all equally likely."""
    return replay_of(cfg, env, ring_of(cfg, env, gamma), Uniform(rng, replacement=cfg.replacement), rng, device)


@register("buffer", PrioritizedConfig, smoke={"capacity": 1000}, footprint=footprint)
def prioritized(
    cfg: PrioritizedConfig,
    env: EnvSpec,
    *,
    gamma: float,
    rng: np.random.Generator,
    device: Device,
    total_timesteps: int = 50_000,
) -> Replay:
    """Replay of the newest transitions, more often of those that the learner was wrong about (Schaul et al. 2016).

    Args:
        total_timesteps: env steps that the run will take; the schedule of beta ends there.
    """
    ring, beta = ring_of(cfg, env, gamma), make(cfg.beta, total_timesteps)
    sampler = Prioritized(ring.capacity, rng, alpha=cfg.alpha, beta=beta, normalize=cfg.normalize, ahead=cfg.ahead)
    return replay_of(cfg, env, ring, sampler, rng, device)


def replay_of(
    cfg: RingConfig, env: EnvSpec, ring: Ring, sampler: Sampler, rng: np.random.Generator, device: Device
) -> Replay:
    """What draws from a ring as the config says; ConfigError if the environment has no goals to be given."""
    strategy = cfg.hindsight
    given = None if strategy == "none" else hindsight(ring, env, rng, strategy=strategy, k=cfg.k)
    return Replay(ring, sampler, n_step=cfg.n_step, hindsight=given, device=device)


def ring_of(cfg: RingConfig, env: EnvSpec, gamma: float) -> Ring:
    """The storage; ConfigError if a transition could be longer than all of it."""
    ring = Ring(cfg.capacity, env, gamma=gamma, in_file=cfg.storage == "memmap")
    if cfg.n_step > (rows := ring.capacity // env.num_envs):
        problem = f"{cfg.n_step} steps are more than the {rows} of each environment that buffer.capacity={cfg.capacity}"
        raise ConfigError("buffer.n_step", f"{problem} holds", "make one smaller or the other larger")
    return ring


class Replay:
    """Transitions of up to `n_step` steps.

    A transition stops before at an episode's end, or where nothing newer is known yet; its discount tells.

    Args:
        hindsight: gives goals to some of what is drawn; it draws from the sampler's stream.
    """

    def __init__(
        self, ring: Ring, sampler: Sampler, *, n_step: int = 1, hindsight: Hindsight | None = None, device: Device
    ):
        self.ring, self.sampler, self.n_step, self.hindsight, self.device = ring, sampler, n_step, hindsight, device
        self._weight = torch.ones(0)  # of what is drawn uniformly: the same tensor again and again

    @property
    def capacity(self) -> int:
        """Most transitions that can be held."""
        return self.ring.capacity

    @property
    def ahead(self) -> int | None:
        """Batches that are drawn before it must hear how wrong the learner was about them; None: it need not hear."""
        return self.sampler.ahead

    def place(self, path: Path, ahead: int) -> None:
        """Where its file may lie, if it has one (see `Ring.lie_in`)."""
        if self.ring.in_file:
            self.ring.lie_in(path, ahead)

    def __len__(self) -> int:
        return len(self.ring)

    def add(self, rollout: Rollout) -> None:
        """Store T x E transitions."""
        numbers = self.ring.add(rollout)
        self.sampler.add(numbers)
        if self.hindsight:
            self.hindsight.add(numbers)

    def sample(self, batch_size: int) -> Batch:
        """One batch [B]; RlrunError if fewer transitions are stored."""
        return self._gather(self._draw(1, batch_size)[0])

    def bursts(self, count: int, batch_size: int) -> Iterator[Batch]:
        """`count` batches with nothing added between them, in stacks [n, B] of as many as are gathered at once.

        n is a multiple of 8, except in the last stack, where 8 batches are too large for one, and where fewer may be
        drawn before it is known how wrong the learner was about them (`ahead`).
        """
        each = 2 * self.ring.transition_bytes + (32 * self.n_step if self.n_step > 1 else 0)  # and what is folded
        size = max(1, BURST_BYTES // (batch_size * each))
        size -= size % 8 if size > 8 else 0
        at_once = self.ahead or max(1, count)
        for begun in range(0, count, at_once):
            slots = self._draw(min(at_once, count - begun), batch_size)
            for start in range(0, len(slots), size):
                yield self._gather(slots[start : start + size])

    def sequences(self, count: int, batch_size: int, length: int, burn_in: int) -> Iterator[Batch]:
        """`count` batches of sequences (see paths.py), for networks that remember, in stacks of one [1, L x B].

        B is as many as make `batch_size` steps if none ends early. `obs` and `next_obs` are what such a network takes
        alone: one path, and where along it they stand. Rows behind the end of a sequence weigh nothing, the others so
        much more, and have the number -1.
        """
        each = max(1, batch_size // length)
        at_once = self.ahead or max(1, count)
        for begun in range(0, count, at_once):
            for slots in self._draw(min(at_once, count - begun), each):
                yield mapped(lambda x: x[None], self._unroll(slots, length, burn_in))

    def _unroll(self, slots: Array, length: int, burn_in: int) -> Batch:
        """The sequences of these slots [B], as tensors on the device."""
        found = paths(self.ring, slots, length, burn_in, self.n_step)
        take, tensor = self.ring.cells.take, self.device.tensor
        path = tensor(take(found.cells))
        shared = {"path": path, "memory": tensor(found.memory)}
        if burn_in:
            shared |= {"before": tensor(take(found.before)), "warm": tensor(found.warm)}
        obs, next_obs = ({**shared, "place": tensor(place)} for place in (found.place, found.following))
        if isinstance(path, dict) and MASK in path:
            for seen in (obs, next_obs):
                seen[MASK] = path[MASK][seen["place"]]
        number = found.number.reshape(length, -1)
        weights = self.sampler.weights(number % self.capacity, number >= 0)
        share = found.share if weights is None else found.share * np.tile(weights, length)
        columns = [np.ascontiguousarray(column) for column in (found.action, found.reward, found.discount, share)]
        action, reward, discount, weight = map(tensor, columns)
        return Batch(obs, action, next_obs, reward, discount, weight, torch.from_numpy(found.number))

    def _draw(self, count: int, batch_size: int) -> Array:
        if (held := len(self.ring)) < batch_size:
            raise RlrunError(f"a batch of {batch_size} was asked of a buffer that holds {held} transitions")
        return self.sampler.draw(held, count, batch_size)

    def _gather(self, slots: Array) -> Batch:
        """The transitions in these slots [..., B], as tensors on the device."""
        ring, tensor = self.ring, self.device.tensor
        given = self.hindsight.draw(slots) if self.hindsight else None
        if self.n_step == 1:
            first = last = ring.take(slots)
            reward, discount = first["reward"], first["discount"]
            if given is not None:
                (reward,), (discount,), _ = self._worth(first[None], given)
        else:
            steps = ring.windows(slots, self.n_step)
            reward, discount, count = fold(*self._worth(steps, given))
            at = (count - 1) * slots.size + np.arange(slots.size).reshape(slots.shape)
            first, last = steps[0], steps.ravel().take(at)
        obs, next_obs = ring.observations(first), ring.next_observations(last)
        if given is not None:
            given.write(obs)
            given.write(next_obs)
        weights = self.sampler.weights(slots)
        if weights is not None:
            self._weight = tensor(weights)
        elif self._weight.shape != slots.shape:
            self._weight = torch.ones(slots.shape, device=self.device.torch)
        return Batch(
            tensor(obs),
            tensor(np.ascontiguousarray(first["action"])),
            tensor(next_obs),
            tensor(np.ascontiguousarray(reward)),
            tensor(np.ascontiguousarray(discount)),
            self._weight,
            torch.from_numpy(np.ascontiguousarray(first["number"])),
        )

    def _worth(self, steps: Array, given: Given | None) -> tuple[Array, Array, Array]:
        """Rewards and discounts of steps [n, ..., B], and behind which of all but the last of them none follows."""
        if given is not None and self.hindsight:
            return self.hindsight.judge(steps, given)
        return steps["reward"], steps["discount"], self.ring.stops(steps[:-1])

    def update_priorities(self, index: Tensor, td_error: Tensor) -> None:
        """How wrong the learner was about a batch [B] or [k, B]; news of what was overwritten meanwhile is ignored."""
        if self.ahead:
            slots, there = self.ring.slots(index.cpu().numpy())
            errors = td_error.cpu().numpy()
            self.sampler.weigh(slots, errors.ravel() if there is None else errors[there])

    def state_dict(self, contents: bool = True) -> StateDict:
        """What is stored and the random stream, or the stream alone."""
        return (self.ring.state_dict() if contents else NOTHING) | self.sampler.state_dict(contents)

    def load_state_dict(self, state: StateDict) -> None:
        self.ring.load_state_dict(state)
        self.sampler.load_state_dict({"added": self.ring.added} | state)  # older ones did not count
        if self.hindsight:
            self.hindsight.episodes.clear()
