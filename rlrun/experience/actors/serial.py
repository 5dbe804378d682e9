"""`experience=serial`: the actors take turns in this process, on the learner's own weights.

All of a round collect before the first of them is learned from, as if they had begun together: an algorithm that is
given them one by one learns from weights that are 0, 1, ..., N - 1 updates old, as it does with `experience=actors`.
The same seed gives the same run, and one that is resumed goes on exactly; with a single actor it is the run of
`experience=rollouts`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from rlrun.checks import Bounded, Within
from rlrun.errors import ConfigError
from rlrun.experience.actors.actor import Actor
from rlrun.experience.actors.crew import Delivery, Order
from rlrun.experience.actors.source import Actors, places
from rlrun.experience.contracts import Blueprint
from rlrun.interrupt import Interrupt
from rlrun.registry import register
from rlrun.state import generator_state, restore_generator
from rlrun.types import Metrics, StateDict

if TYPE_CHECKING:
    import numpy as np

    from rlrun.algos.algorithm import Algorithm
    from rlrun.envs.environments import Environments


@dataclass
class SerialConfig(Bounded):
    """Options of actors that take turns in this process."""

    name: str = "serial"  # registered kind of source
    actors: Annotated[int, Within(1, 1024)] = 2  # how many share the environments; env.num_envs is a multiple of it


class Turns:
    """The crew in this process.

    Args:
        actors: the crew.
        streams: what the agent of each explores by; None for the learner's own agent.
    """

    mortal, lost_steps = False, 0

    def __init__(self, actors: Sequence[Actor], streams: Sequence[np.random.Generator | None]):
        self.actors, self.streams, self.size, self.version = actors, streams, len(actors), 0
        self._orders: list[deque[Order]] = [deque() for _ in actors]
        self._collected = [False] * self.size  # whether the first order of each is carried out

    @property
    def caveat(self) -> str:
        return next(filter(None, (actor.source.caveat for actor in self.actors)), "")

    def prove(self, check: Callable[[], None] | None = None) -> None:
        for actor in self.actors:
            actor.source.prove(check)

    def publish(self, version: int) -> None:
        self.version = version

    def submit(self, actor: int, order: Order) -> None:
        self._orders[actor].append(order)

    def wait(self, seconds: float) -> Sequence[int]:
        """Everyone collects a chunk who has been asked for one."""
        idle = [actor for actor in range(self.size) if self._orders[actor] and not self._collected[actor]]
        for actor in idle:
            self.actors[actor].collect(self._orders[actor][0], self.version)
        for actor in idle:
            self._collected[actor] = True
        return idle

    def take(self, actor: int) -> Delivery:
        self._orders[actor].popleft()
        self._collected[actor] = False
        return self.actors[actor].deliver()

    def restart(self, actor: int) -> None:
        raise NotImplementedError("nobody is lost in this process")

    def metrics(self) -> Metrics:
        """The mean over the actors that report something."""
        told = defaultdict[str, list[float]](list)
        for actor in self.actors:
            for name, value in actor.source.metrics().items():
                told[name].append(float(value))
        return {name: sum(values) / len(values) for name, values in told.items()}

    def close(self) -> None:
        for actor in self.actors:
            actor.source.close()

    def state_dict(self) -> StateDict:
        streams = [stream and generator_state(stream) for stream in self.streams]
        actors = [actor.state_dict() for actor in self.actors]
        return {"collected": list(self._collected), "streams": streams, "actors": actors}

    def load_state_dict(self, state: StateDict) -> None:
        self._orders = [deque() for _ in self.actors]
        self._collected = list(state["collected"])
        for actor, saved in zip(self.actors, state["actors"], strict=True):
            actor.load_state_dict(saved)
        for stream, position in zip(self.streams, state["streams"], strict=True):
            if stream is not None:
                restore_generator(stream, position)


@register("experience", SerialConfig)
def serial(
    cfg: SerialConfig,
    environments: Environments,
    algo: Algorithm,
    *,
    seeds: Sequence[int],
    interrupt: Interrupt,
    total_timesteps: int,
    blueprint: Blueprint,
) -> Actors:
    """Several actors in turn in this process: as with `actors`, but each time the same."""
    num_envs = len(seeds)
    crew, streams = list[Actor](), list["np.random.Generator | None"]()
    for number, place in enumerate(places(cfg.actors, num_envs)):
        stream = blueprint.stream(number) if number else None
        agent = algo.agent if stream is None else algo.agent.fork(stream)
        envs = environments.train(len(place))
        if number and envs.pulls is not None:
            problem = f"the arms of {envs.spec.id} are counted in one place"
            raise ConfigError("experience.actors", problem, "write experience.actors=1, or experience=rollouts")
        crew.append(Actor(algo, agent, envs, place, num_envs, seeds[place.start : place.stop], interrupt))
        streams.append(stream)
    spec, turns = environments.spec(num_envs), Turns(crew, streams)
    return Actors(turns, algo, spec, interrupt=interrupt, total_timesteps=total_timesteps)
