"""Exploration of continuous actions by noise that remembers: an Ornstein-Uhlenbeck process for each environment.

Uhlenbeck & Ornstein 1930 (Physical Review 36:823); as exploration Lillicrap et al. 2016 (arXiv:1509.02971), section 7:

    x <- x + theta (mu - x) dt + sigma sqrt(dt) n,   n ~ N(0, 1)

From x = 0 the mean after k steps is mu (1 - (1 - theta dt)^k), and the variance tends to
sigma^2 dt / (1 - (1 - theta dt)^2), about sigma^2 / (2 theta) where theta dt is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.agents.agent import NOTHING
from rlrun.agents.base import BaseAgent
from rlrun.agents.modules import Forward, Preprocessor, as_numpy, default_states_preprocessor
from rlrun.types import Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """The process; its paths are whoever's who calls it: `x = process(x, rng)`, from x = 0.

    The defaults are the paper's, with a step of the environment as the unit of time.
    """

    mu: float = 0.0  # where it is drawn to
    theta: float = 0.15  # how strongly, per unit of time
    sigma: float = 0.2  # spread that a unit of time adds
    dt: float = 1.0  # time of one step

    def __post_init__(self) -> None:
        if self.theta < 0 or self.sigma < 0 or self.dt <= 0:
            raise ValueError(f"need theta >= 0, sigma >= 0 and dt > 0, got {self.theta}, {self.sigma} and {self.dt}")

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """One step of paths x [...] that do not know of each other; a new array."""
        noise = rng.standard_normal(x.shape, dtype=x.dtype)
        return x + self.theta * (self.mu - x) * self.dt + self.sigma * self.dt**0.5 * noise


class OrnsteinUhlenbeckAgent(BaseAgent):
    """Actions of a deterministic policy, and noise on top of them that begins at 0 with every episode.

    The noise is the agent's state, so every environment has its own.

    Args:
        model: a torch module, observations -> actions [E, *action].
        low, high: bounds of the actions [*action], such as `env.action_space.low`; what lies beyond is clipped.
        process: how the noise goes on, in units of the action.
        epsilon: how much of the noise is added; may be assigned at any time.
        rng: draws the noise; without it, a stream of the agent's own, whose draws do not repeat.
        device, preprocessor: see Forward.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        low: Array,
        high: Array,
        process: OrnsteinUhlenbeck | None = None,
        epsilon: float = 1.0,
        rng: np.random.Generator | None = None,
        device: str | torch.device = "cpu",
        preprocessor: Preprocessor | None = default_states_preprocessor,
    ):
        self.network, self._forward = model, Forward(model, device, preprocessor)
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        self.process, self.epsilon, self.rng = process or OrnsteinUhlenbeck(), epsilon, rng or np.random.default_rng()

    def initial_state(self) -> Array:
        return np.zeros(self.low.shape, np.float32)

    def initial_memory(self, num_envs: int) -> Array:
        return np.zeros((num_envs, *self.low.shape), np.float32)

    def __call__(self, states: Any, agent_states: Sequence[Any] | None = None) -> tuple[Array, list[Array]]:
        noise = self.initial_memory(len(states)) if agent_states is None else np.stack(agent_states)
        actions, noise, _ = self.act(states, noise, explore=True, env_steps=self.env_steps)
        return actions, list(noise)

    def act(  # type: ignore[override]  # an agent that always has a memory
        self, obs: Array, memory: Array, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array, Mapping[str, Array]]:
        actions = as_numpy(self._forward(obs))
        if explore:
            memory = self.process(memory, self.rng)
            actions = actions + self.epsilon * memory
        return np.clip(actions, self.low, self.high), memory, NOTHING
