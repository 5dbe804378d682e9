"""The source whose chunks come from a crew of actors."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.agents.agent import Agent
from rlrun.envs.faults import ChildError
from rlrun.errors import ConfigError, Diverged, EnvError
from rlrun.experience.actors.crew import Crew, Delivery, Lost, Order
from rlrun.experience.rows import COLUMNS, Rows
from rlrun.interrupt import Interrupt
from rlrun.seeding import LARGEST
from rlrun.state import Stateful
from rlrun.types import Chunk, EnvSpec, EpisodeStat, Metrics, Rollout, StateDict

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm

log = logging.getLogger(__name__)

TICK = 0.2  # seconds between two looks whether a signal has come


class Actors:
    """Endless chunks that several actors collect, each in environments of its own.

    An algorithm that takes `any_envs` gets what an actor delivers when it comes, all others a round: a chunk of every
    actor, side by side in the order of the environments. Every actor is asked for `ahead` chunks more than the one that
    is learned from. Env steps are asked for until there are `total_timesteps`, and counted when they are delivered; an
    actor that is lost is replaced, and its successor is asked for what it had not delivered.

    Args:
        crew: the actors.
        algo: learns from what they collect.
        env: of all environments of the run.
        ahead: chunks.
        restarts: how many actors may be replaced before the run is given up.
        interrupt: asked while chunks are waited for.
        total_timesteps: env steps of the whole run.
    """

    def __init__(
        self,
        crew: Crew,
        algo: Algorithm,
        env: EnvSpec,
        ahead: int = 0,
        restarts: int = 0,
        interrupt: Interrupt | None = None,
        total_timesteps: int | None = None,
    ):
        self.crew, self.algo, self.spec, self.ahead, self.most_restarts = crew, algo, env, ahead, restarts
        self.interrupt, self.total = interrupt or Interrupt(), total_timesteps
        self.version = 0  # of the learner's weights: how often they have been published
        self.asked = 0  # env steps
        self.restarts = 0
        self._orders: list[deque[Order]] = [deque() for _ in range(crew.size)]  # of each actor, not yet taken
        self._ready: list[int] = []  # whose next chunk can be taken, in the order in which they came
        self._lag = Lag()
        self._rows = Rows(env, algo.rollout_steps) if crew.size > 1 and not algo.any_envs else None

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        self.crew.publish(self.version)
        while True:
            if self.algo.any_envs:
                self._ask_each()
                yield self._take(self._next()).chunk
            else:
                self._ask_all()
                yield self._round()

    def _ask_each(self) -> None:
        """Every actor has as much to do as it may have; together not more than is left."""
        each = self.spec.num_envs // self.crew.size
        for orders in range(self.ahead + 1):
            for actor, asked in enumerate(self._orders):
                if len(asked) == orders and (sweeps := self._sweeps(each)):
                    self._ask(actor, sweeps, each)

    def _ask_all(self) -> None:
        """The same for all alike."""
        every = self.spec.num_envs
        while len(self._orders[0]) <= self.ahead and (sweeps := self._sweeps(every)):
            for actor in range(self.crew.size):
                self._ask(actor, sweeps)
            self.asked += sweeps * every

    def _ask(self, actor: int, sweeps: int, envs: int = 0) -> None:
        order = Order(sweeps, self.asked)
        self._orders[actor].append(order)
        self.crew.submit(actor, order)
        self.asked += sweeps * envs

    def _sweeps(self, envs: int) -> int:
        """How many sweeps over so many environments to ask for next; 0 if what has been asked for is enough."""
        steps, least = self.algo.rollout_steps, 0 if any(self._orders) else 1
        if self.total is None:
            return steps
        return min(steps, max(least, -(-(self.total - self.asked) // envs)))  # rounded up

    def _await(self) -> None:
        """Wait until one more chunk can be taken."""
        known = len(self._ready)
        while len(self._ready) == known:
            self.interrupt.check()
            try:
                self._ready += self.crew.wait(TICK)
            except Lost as lost:
                self._replace(lost)

    def _next(self) -> int:
        """The actor whose chunk comes next."""
        if not self._ready:
            self._await()
        return self._ready.pop(0)

    def _take(self, actor: int) -> Delivery:
        delivery = self.crew.take(actor)
        self._orders[actor].popleft()
        self._lag.add(self.version - delivery.version)
        return delivery

    def _round(self) -> Chunk:
        """A chunk of every actor, as one."""
        every = range(self.crew.size)
        while not {*every} <= {*self._ready}:
            self._await()
        for actor in every:
            self._ready.remove(actor)
        deliveries = [self._take(actor) for actor in every]
        return deliveries[0].chunk if self._rows is None else _beside(deliveries, self._rows)

    def _replace(self, lost: Lost) -> None:
        """Put another actor in the place of one that was lost.

        Raises:
            Diverged: no actor could act by the weights there are.
            EnvError: there have been enough.
        """
        why = f"actor {lost.actor} was lost: {lost}"
        weights = self.algo.published.parameters() if self.algo.published is not None else ()
        if not all(parameter.isfinite().all() for parameter in weights):
            raise Diverged(f"what was learned is not a number\n{why}")
        if self.restarts == self.most_restarts:
            raise EnvError(f"{why}\n{self.restarts} were replaced before (experience.restarts)") from (
                ChildError(lost.trace) if lost.trace else None
            )
        self.restarts += 1
        log.warning("%s", why)
        if lost.trace:
            log.info("%s", lost.trace.rstrip())
        self.crew.restart(lost.actor)
        log.info("actor %d is replaced; %s env steps were lost so far", lost.actor, f"{self.crew.lost_steps:,}")
        delivered = self._ready.count(lost.actor)
        for order in [*self._orders[lost.actor]][delivered:]:
            self.crew.submit(lost.actor, order)

    @property
    def caveat(self) -> str:
        return self.crew.caveat

    def prove(self, check: Callable[[], None] | None = None) -> None:
        self.crew.prove(check)

    def publish(self, agent: Agent) -> None:
        """The learner's weights are new."""
        self.version += 1
        self.crew.publish(self.version)

    def metrics(self) -> Metrics:
        """`actors/...`: how many updates old the weights were, since the last call; who was lost, in all."""
        lost = {"actors/restarts": self.restarts, "actors/lost_steps": self.crew.lost_steps} if self.crew.mortal else {}
        return {**self.crew.metrics(), **self._lag.take(), **lost}

    def close(self) -> None:
        self.crew.close()

    def state_dict(self) -> StateDict:
        return {
            "version": self.version,
            "asked": self.asked,
            "restarts": self.restarts,
            "orders": [[list(order) for order in asked] for asked in self._orders],
            "ready": [] if self.crew.mortal else list(self._ready),
            "lag": self._lag.state_dict(),
            "crew": self.crew.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        if len(state["orders"]) != self.crew.size:
            raise ValueError(f"there were {len(state['orders'])} actors, expected {self.crew.size}")
        self.version, self.asked = state["version"], state["asked"]
        self.restarts = state["restarts"]
        self._ready = list(state["ready"])
        self._lag.load_state_dict(state["lag"])
        self.crew.load_state_dict(state["crew"])
        for actor, asked in enumerate(state["orders"]):
            self._orders[actor] = deque(Order(*order) for order in asked)
            for order in self._orders[actor]:
                self.crew.submit(actor, order)


class Lag(Stateful):
    """How old the weights were that chunks were acted by, in updates: `add` to it, and `take` mean and maximum."""

    state = ("_sum", "_count", "_most")

    def __init__(self) -> None:
        self._sum, self._count, self._most = 0, 0, 0

    def add(self, updates: int) -> None:
        self._sum, self._count, self._most = self._sum + updates, self._count + 1, max(self._most, updates)

    def take(self) -> dict[str, float]:
        """Since the last call; nothing if there were no chunks."""
        if not self._count:
            return {}
        found = {"actors/policy_lag_mean": self._sum / self._count, "actors/policy_lag_max": float(self._most)}
        self._sum, self._count, self._most = 0, 0, 0
        return found


def places(actors: int, num_envs: int) -> list[range]:
    """The environments of each actor; ConfigError if they cannot have equally many."""
    if num_envs % actors:
        near = [n for n in (num_envs // actors * actors, -(-num_envs // actors) * actors) if n]
        problem = f"{actors} actors cannot have equally many of {num_envs} environments"
        hint = f"write env.num_envs={' or '.join(map(str, near))}, or experience.actors=1"
        raise ConfigError("experience.actors", problem, hint)
    each = num_envs // actors
    return [range(first, first + each) for first in range(0, num_envs, each)]


def successors(seeds: Sequence[int], number: int) -> list[int]:
    """The seeds of the actor of this number, which follows one with these: other episodes than any before."""
    return [int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) & LARGEST for seed in seeds]


def _beside(deliveries: Sequence[Delivery], rows: Rows) -> Chunk:
    """Chunks of different environments and equally many sweeps as one.

    Args:
        rows: where it is written.
    """
    steps = len(deliveries[0].chunk.data.reward)
    episodes: list[EpisodeStat] = []
    final_obs: dict[tuple[int, int], Any] = {}
    first = 0
    for chunk, _ in deliveries:
        part: Rollout = chunk.data
        envs = slice(first, first + part.reward.shape[1])
        rows.obs[: steps + 1, envs] = part.obs
        for name in COLUMNS:
            getattr(rows, name)[:steps, envs] = getattr(part, name)
        for key, value in part.extras.items():
            rows.extra(key, value[0])[:steps, envs] = value
        final_obs.update({(t, first + e): final for (t, e), final in part.final_obs.items()})
        episodes += chunk.episodes
        first = envs.stop
    columns = {name: getattr(rows, name)[:steps] for name in COLUMNS}
    extras = {key: value[:steps] for key, value in rows.extras.items()}
    version = min(delivery.version for delivery in deliveries)
    whole = Rollout(rows.obs[: steps + 1], **columns, final_obs=final_obs, extras=extras, policy_version=version)
    return Chunk(whole.env_steps, episodes, whole)
