"""Experience replay (Lin 1992): a ring of the newest transitions, a sampler that chooses among them, and n steps that
are folded into one when they are drawn.

A burst of batches is gathered and copied to the device at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from rlrun.buffers.ring import NOTHING, Ring
from rlrun.buffers.samplers import Sampler, Uniform
from rlrun.checks import Bounded, Count, Within
from rlrun.compute.device import Device
from rlrun.errors import RlrunError
from rlrun.footprint import Need, transition
from rlrun.ops.nstep import fold
from rlrun.registry import register
from rlrun.types import Array, Batch, EnvSpec, Rollout, StateDict, Tensor

BURST_BYTES = 2**26  # of transitions are gathered at once


@dataclass
class UniformConfig(Bounded):
    """Uniform replay."""

    name: str = "uniform"  # registered kind of buffer
    capacity: Count = 1_000_000  # transitions kept, in whole sweeps over the environments; the oldest are overwritten
    n_step: Annotated[int, Within(1, 1000)] = (
        1  # steps that are folded into one transition: their rewards, and the observation after the last
    )
    replacement: bool = True  # draw each batch with replacement; without costs time in proportion to what is stored


def footprint(cfg: UniformConfig, env: EnvSpec) -> list[Need]:
    """The ring when it is full; an observation more for every episode that ended in it is not counted."""
    each = transition(env) + 2 * 8  # its number, and where it goes on
    return [Need("buffer.capacity", cfg.capacity * each, f"a replay of {cfg.capacity:,} transitions", each)]


@register("buffer", UniformConfig, smoke={"capacity": 1000}, footprint=footprint)
def uniform(cfg: UniformConfig, env: EnvSpec, *, gamma: float, rng: np.random.Generator, device: Device) -> Replay:
    """Replay of the newest transitions, all equally likely."""
    sampler = Uniform(rng, replacement=cfg.replacement)
    return Replay(Ring(cfg.capacity, env, gamma=gamma), sampler, n_step=cfg.n_step, device=device)


class Replay:
    """Transitions of up to `n_step` steps.

    A transition stops before at an episode's end, or where nothing newer is known yet; its discount tells.
    """

    def __init__(self, ring: Ring, sampler: Sampler, *, n_step: int = 1, device: Device):
        self.ring, self.sampler, self.n_step, self.device = ring, sampler, n_step, device
        self._weight = torch.ones(0)  # of what is drawn uniformly: the same tensor again and again

    @property
    def capacity(self) -> int:
        """Most transitions that can be held."""
        return self.ring.capacity

    def __len__(self) -> int:
        return len(self.ring)

    def add(self, rollout: Rollout) -> None:
        """Store T x E transitions."""
        self.sampler.add(self.ring.add(rollout))

    def sample(self, batch_size: int) -> Batch:
        """One batch [B]; RlrunError if fewer transitions are stored."""
        return self._gather(self._draw(1, batch_size)[0])

    def bursts(self, count: int, batch_size: int) -> Iterator[Batch]:
        """`count` batches with nothing added between them, in stacks [n, B] of as many as are gathered at once.

        n is a multiple of 8, except in the last stack, and where 8 batches are too large for one.
        """
        if not count:
            return
        slots = self._draw(count, batch_size)
        each = 2 * self.ring.transition_bytes + (32 * self.n_step if self.n_step > 1 else 0)  # and what is folded
        size = max(1, BURST_BYTES // (batch_size * each))
        size -= size % 8 if size > 8 else 0
        for start in range(0, count, size):
            yield self._gather(slots[start : start + size])

    def _draw(self, count: int, batch_size: int) -> Array:
        if len(self) < batch_size:
            raise RlrunError(f"a batch of {batch_size} was asked of a buffer that holds {len(self)} transitions")
        return self.sampler.draw(len(self), count, batch_size)

    def _gather(self, slots: Array) -> Batch:
        """The transitions in these slots [..., B], as tensors on the device."""
        ring, tensor = self.ring, self.device.tensor
        if self.n_step == 1:
            last, reward, discount = slots, ring.reward.take(slots), ring.discount.take(slots)
        else:
            windows = ring.windows(slots, self.n_step)
            reward, discount, steps = fold(
                ring.reward.take(windows), ring.discount.take(windows), ring.stops(windows[:-1])
            )
            last = np.take_along_axis(windows, steps[None] - 1, axis=0)[0]
        if self._weight.shape != slots.shape:
            self._weight = torch.ones(slots.shape, device=self.device.torch)
        return Batch(
            tensor(ring.observations(slots)),
            tensor(ring.action.take(slots, axis=0)),
            tensor(ring.next_observations(last)),
            tensor(reward),
            tensor(discount),
            self._weight,
            torch.from_numpy(ring.numbers(slots)),
        )

    def update_priorities(self, index: Tensor, td_error: Tensor) -> None:
        """How wrong the learner was about a batch [B] or [k, B]; news of what was overwritten meanwhile is ignored."""
        if self.sampler.weighs:
            slots, there = self.ring.slots(index.cpu().numpy())
            self.sampler.weigh(slots, td_error.cpu().numpy()[there])

    def state_dict(self, contents: bool = True) -> StateDict:
        """What is stored and the random stream, or the stream alone."""
        return (self.ring.state_dict() if contents else NOTHING) | self.sampler.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        self.ring.load_state_dict(state)
        self.sampler.load_state_dict({"added": self.ring.added} | state)  # older ones did not count
