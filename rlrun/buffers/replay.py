"""Experience replay (Lin 1992): a ring of the newest transitions, sampled uniformly.

Storage is one preallocated numpy array per column. A burst of batches is gathered and copied to the device at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from rlrun.checks import within
from rlrun.compute.device import Device
from rlrun.errors import RlrunError
from rlrun.footprint import Need, transition
from rlrun.ops.fields import rows
from rlrun.registry import register
from rlrun.state import generator_state, overwrite, restore_generator
from rlrun.types import Array, Batch, EnvSpec, Rollout, StateDict, Tensor

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass
class UniformConfig:
    """Uniform replay."""

    name: str = "uniform"  # registered kind of buffer
    capacity: int = 1_000_000  # transitions kept; the oldest is overwritten
    replacement: bool = True  # draw each batch with replacement; without costs time in proportion to what is stored

    def __post_init__(self) -> None:
        within("capacity", self.capacity, 1)


def footprint(cfg: UniformConfig, env: EnvSpec) -> list[Need]:
    """The ring when it is full."""
    each = transition(env, observations=2)
    return [Need("buffer.capacity", cfg.capacity * each, f"a replay of {cfg.capacity:,} transitions", each)]


@register("buffer", UniformConfig, keeps="replay", smoke={"capacity": 1000}, footprint=footprint)
class UniformRing:
    """The newest `capacity` transitions, every one equally likely.

    Args:
        gamma: discount of one step; goes into `Batch.discount`.
        rng: draws the indices.
    """

    def __init__(self, cfg: UniformConfig, env: EnvSpec, *, gamma: float, rng: np.random.Generator, device: Device):
        self.capacity, self.replacement = cfg.capacity, cfg.replacement
        self.gamma, self.rng, self.device = gamma, rng, device
        self._obs_space, self._action_space = env.obs_space, env.action_space
        self.size = 0
        self.position = 0  # where the next transition goes

    # The columns are allocated when they are first used: who only looks at a run needs no replay.

    @cached_property
    def obs(self) -> Array:
        return self._column(self._obs_space.shape, self._obs_space.dtype)

    @cached_property
    def next_obs(self) -> Array:
        return self._column(self._obs_space.shape, self._obs_space.dtype)

    @cached_property
    def action(self) -> Array:
        return self._column(self._action_space.shape, self._action_space.dtype)

    @cached_property
    def reward(self) -> Array:
        return self._column()

    @cached_property
    def discount(self) -> Array:
        return self._column()

    def _column(self, shape: tuple[int, ...] = (), dtype: DTypeLike = "float32") -> Array:
        return np.zeros((self.capacity, *shape), dtype)

    def __len__(self) -> int:
        return self.size

    def add(self, rollout: Rollout) -> None:
        """Store T x E transitions, time-major. The next observation at an episode's end is the true last one."""
        steps, envs = rollout.reward.shape
        where = (self.position + np.arange(steps * envs)) % self.capacity
        self.obs[where] = rollout.obs[:-1].reshape(-1, *self.obs.shape[1:])
        self.next_obs[where] = rollout.obs[1:].reshape(-1, *self.obs.shape[1:])
        for (t, e), final in rollout.final_obs.items():
            self.next_obs[where[t * envs + e]] = final
        self.action[where] = rollout.action.reshape(-1, *self.action.shape[1:])
        self.reward[where] = rollout.reward.ravel()
        self.discount[where] = np.where(rollout.terminated, 0.0, self.gamma).ravel()
        self.position = (self.position + steps * envs) % self.capacity
        self.size = min(self.size + steps * envs, self.capacity)

    def sample(self, batch_size: int) -> Batch:
        """One batch of `batch_size` transitions; RlrunError if fewer are stored."""
        return next(self.batches(1, batch_size))

    def batches(self, count: int, batch_size: int) -> Iterator[Batch]:
        """`count` batches, gathered at once: nothing is added between them."""
        if self.size < batch_size:
            raise RlrunError(f"a batch of {batch_size} was asked of a buffer that holds {self.size} transitions")
        index = self._draw(count, batch_size)
        obs, action, next_obs, reward, discount = (
            self.device.tensor(column.take(index, axis=0))
            for column in (self.obs, self.action, self.next_obs, self.reward, self.discount)
        )
        weight = torch.ones(batch_size, device=reward.device)
        where = torch.from_numpy(index)
        for k in range(count):
            yield Batch(rows(obs, k), rows(action, k), rows(next_obs, k), reward[k], discount[k], weight, where[k])

    def update_priorities(self, index: Tensor, td_error: Tensor) -> None:
        """Uniform replay has none."""

    def _draw(self, count: int, batch_size: int) -> Array:
        if self.replacement:
            return self.rng.integers(self.size, size=(count, batch_size))
        return np.stack([self.rng.choice(self.size, batch_size, replace=False) for _ in range(count)])

    def state_dict(self, contents: bool = True) -> StateDict:
        """The filled part of the ring, where it stands and the random stream; or an empty ring and the stream."""
        size, position = (self.size, self.position) if contents else (0, 0)
        columns = {key: getattr(self, key)[:size] for key in COLUMNS}
        return columns | {"position": position, "size": size, "rng": generator_state(self.rng)}

    def load_state_dict(self, state: StateDict) -> None:
        self.position, self.size = state["position"], state["size"]
        for key in COLUMNS:
            overwrite(getattr(self, key)[: self.size], state[key])
        restore_generator(self.rng, state["rng"])


COLUMNS = ("obs", "next_obs", "action", "reward", "discount")
