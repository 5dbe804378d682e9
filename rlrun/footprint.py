"""What a component will allocate, as it declares it at its registration (`footprint=…`); config/memory.py adds it up.

    env         footprint(cfg, each) -> needs           each: bytes of one environment in its vector
    vector      footprint = bytes                       of one environment, the arrays of its vector included
    buffer      footprint(cfg, env) -> needs            env: the EnvSpec
    network     footprint(cfg, obs_space, *heads)       -> how many parameters
                remembers(cfg, *heads)                  -> how many numbers it carries from step to step
    algo        footprint(cfg, env, parameters)         parameters(*heads): how many its network has
    experience  footprint(cfg, environments, algo, num_envs=, total_timesteps=) -> needs    algo: the learner, built

A component that declares nothing is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from rlrun.types import EnvSpec, HeadSpec

FLOAT = 4  # bytes of a float32
TRAINED = 4  # a parameter, its gradient and Adam's two moments

Footprint = Callable[[Any, EnvSpec, "Parameters"], "list[Need]"]  # of an algorithm: (cfg, env, parameters)


class Parameters(Protocol):
    """The run's network, as an algorithm asks about it that knows its heads, and what goes with its memory."""

    def __call__(self, *heads: HeadSpec) -> int:
        """How many parameters it has; 0 if it does not say."""

    def memory(self, *heads: HeadSpec) -> int:
        """How many numbers of each environment it carries from step to step."""

    @property
    def stored(self) -> int:
        """How many transitions the run's replay keeps, each with what was remembered then."""


class Need(NamedTuple):
    """Memory that one value of the config asks for."""

    key: str  # whose value it is
    bytes: float
    what: str  # for instance "a replay of 1,000,000 transitions"
    each: float = 0.0  # bytes per unit of the value, where they are in proportion to it
    on_device: bool = False  # lies on the GPU if the run has one
    on_disk: bool = False  # lies in a file
    advice: str = ""  # what can be done where no other value would help


def transition(env: EnvSpec, observations: int = 1) -> int:
    """Bytes of a stored step: so many observations, an action, and two numbers."""
    return observations * env.obs_space.nbytes + env.action_space.nbytes + 2 * FLOAT


def weights(parameters: int, copies: int, what: str = "networks") -> Need:
    """Networks of so many parameters, each kept `copies` times."""
    return Need("network.hidden", FLOAT * copies * parameters, f"{what} of {parameters:,} parameters", on_device=True)


def tables(count: int) -> Footprint:
    """The footprint of an algorithm with `count` tables [S, A] of float64."""

    def footprint(cfg: Any, env: EnvSpec, parameters: Parameters) -> list[Need]:
        return [table(env, count)]

    return footprint


def table(env: EnvSpec, count: int) -> Need:
    """`count` tables [S, A] of float64; one-hot observations number as many states as they have elements."""
    states = env.num_states or (env.obs_space.shape or (1,))[0]
    what = f"{'a table' if count == 1 else f'{count} tables'} of {states:,} states and {env.num_actions:,} actions"
    return Need("env.id", 8 * count * states * env.num_actions, what, advice="a network needs no row per state")


def q_network(copies: int) -> Footprint:
    """The footprint of an algorithm whose network gives a value per action and is kept `copies` times."""

    def footprint(cfg: Any, env: EnvSpec, parameters: Parameters) -> list[Need]:
        return [weights(parameters(HeadSpec("q", env.num_actions)), copies)]

    return footprint
