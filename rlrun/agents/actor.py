"""Agents of an actor that is trained with critics, all numpy: one samples its policy, one adds noise to its actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun.agents.agent import NOTHING, Agent
from rlrun.agents.noise import OrnsteinUhlenbeck
from rlrun.agents.q import Forward
from rlrun.checks import Bounded, NotNegative, OneOf, Positive, only_with
from rlrun.errors import ConfigError
from rlrun.ops.distributions import Distribution
from rlrun.types import MASK, Array


class Actor(Agent):
    """Samples a policy while exploring, after some steps of random actions; plays its mode otherwise.

    Args:
        forward: obs [E, *obs] -> what the policy's head says.
        policy: what that means.
        rng: the stream of random and sampled actions.
        random_steps: env steps at the start during which all actions of the space are equally likely.
        masked: obeys the mask that stands in the observations.
    """

    state = ("rng",)

    def __init__(
        self,
        forward: Forward,
        policy: Distribution,
        rng: np.random.Generator,
        random_steps: int = 0,
        masked: bool = False,
    ):
        self.forward, self.policy, self.rng = forward, policy, rng
        self.random_steps, self.masked = random_steps, masked
        self.network = getattr(forward, "network", None)

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        mask = obs[MASK] if self.masked else None
        if explore and env_steps < self.random_steps:
            return self.policy.uniform(len(obs), self.rng, mask), memory, NOTHING
        output = self.forward(obs)
        return self.tried(output, mask) if explore else self.policy.mode(output, mask), memory, NOTHING

    def tried(self, output: Array, mask: Array | None = None) -> Array:
        """Actions that explore, from what the policy's head says."""
        drawn, _ = self.policy.sample(output, self.rng, mask)
        return self.policy.action(drawn)


@dataclass
class NoiseConfig(Bounded):
    """Noise on top of a policy's actions, while it explores."""

    # gaussian (anew at every step) | ornstein_uhlenbeck (goes on through an episode, from 0) | none
    kind: Annotated[str, OneOf("gaussian", "ornstein_uhlenbeck", "none")] = "gaussian"
    std: NotNegative = 0.1  # its standard deviation (ornstein_uhlenbeck: sigma), in units of half an action's range
    theta: NotNegative = 0.15  # ornstein_uhlenbeck: how strongly it is drawn back to 0, per unit of time
    dt: Positive = 1.0  # ornstein_uhlenbeck: time of a step

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("theta", "dt"):
            only_with(self, key, "kind", "ornstein_uhlenbeck")
        if self.theta * self.dt >= 2:  # it would leap over 0, further every time
            problem = f"must be less than 2 / dt = {2 / self.dt:g}, or the noise grows without end; got {self.theta:g}"
            raise ConfigError("theta", problem, f"write theta={1 / self.dt:g} or less")


class NoisyActor(Actor):
    """Plays a policy's mode, with noise on top while exploring; what goes beyond the bounds is cut off.

    Noise that goes on through an episode is the agent's memory, so every environment has its own.

    Args:
        policy: its mode is what is played.
        low, high: bounds of the actions [*action].
        noise: what is added.
        samples: it is added to what the policy samples, and not to its mode.
    """

    replays_memory = False

    def __init__(
        self,
        forward: Forward,
        policy: Distribution,
        rng: np.random.Generator,
        random_steps: int = 0,
        *,
        low: Array,
        high: Array,
        noise: NoiseConfig,
        samples: bool = False,
    ):
        super().__init__(forward, policy, rng, random_steps)
        self.samples = samples
        self.low, self.high, self.half, self.noise = low, high, high / 2 - low / 2, noise
        goes_on = noise.kind == "ornstein_uhlenbeck"
        self.process = OrnsteinUhlenbeck(theta=noise.theta, sigma=noise.std, dt=noise.dt) if goes_on else None

    def initial_memory(self, num_envs: int) -> Array | None:
        return None if self.process is None else np.zeros((num_envs, *self.low.shape), np.float32)

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        action, _, _ = super().act(obs, None, explore=explore, env_steps=env_steps)
        if not explore or env_steps < self.random_steps or self.noise.kind == "none":
            return action, memory, NOTHING
        if self.process is None or memory is None:
            noise = self.noise.std * self.rng.standard_normal(action.shape, np.float32)
        else:
            noise = memory = self.process(memory, self.rng)
        return np.minimum(np.maximum(action + self.half * noise, self.low), self.high), memory, NOTHING

    def tried(self, output: Array, mask: Array | None = None) -> Array:
        return super().tried(output, mask) if self.samples else self.policy.mode(output, mask)
