"""`experience=actors`: every actor in a process of its own.

An actor builds environments and agent by itself, from a blueprint, when it starts. From then on nothing is pickled:
weights go to it and chunks come back through shared memory, orders and reports are a few bytes in a pipe. It acts by
the newest weights when it begins a chunk, on the CPU with one thread.

An actor that dies, whose environment fails, or that does no sweep for as long as there is `patience` although it was
asked for one, is told of in the run's log and replaced by another with new episodes, up to `restarts` times.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from rlrun import offspring, registry
from rlrun.checks import Above0, Bounded, Within
from rlrun.envs.faults import ChildError, shown
from rlrun.errors import ConfigError, EnvError
from rlrun.experience.actors.child import ALARM, DONE, FAILED, ORDER, Post, work
from rlrun.experience.actors.crew import Delivery, Lost, Order
from rlrun.experience.actors.shared import Shared
from rlrun.experience.actors.slots import Content, Slots
from rlrun.experience.actors.source import Actors, places, successors
from rlrun.experience.contracts import Blueprint
from rlrun.footprint import Need
from rlrun.interrupt import Interrupt
from rlrun.registry import register
from rlrun.types import Metrics, StateDict

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm
    from rlrun.envs.environments import Environments

START = 600.0  # seconds that an actor may take to build itself
LAST_WORDS = 2.0  # seconds that one which is stuck has to say where
LEAVING = 3.0  # seconds to close environments
# Bytes that are an actor's own, 25e6 on CartPole, 55e6 on Atari, or 250e6 where it shares no libraries with others; and
# those of the process that all begin from.
PROCESS = 50e6 if "forkserver" in multiprocessing.get_all_start_methods() else 250e6
SERVER = 200e6


@dataclass
class ActorsConfig(Bounded):
    """Options of actors in processes of their own."""

    name: str = "actors"  # registered kind of source
    actors: Annotated[int, Within(1, 1024)] = 2  # how many share the environments; env.num_envs is a multiple of it
    # chunks that an actor may collect beyond the one that is learned from; 0: it waits for the weights of each update
    ahead: Annotated[int, Within(0, 64)] = 1
    patience: Annotated[float, Above0(1e6)] = 120.0  # seconds without a step after which an actor counts as stuck
    restarts: Annotated[int, Within(0, 10**6)] = 10  # actors that may be replaced before the run is given up


class Place:
    """One place in the crew, and the process that has it.

    Args:
        envs: its environments among those of the run.
    """

    process: BaseProcess
    wire: Connection

    def __init__(self, slots: Slots, envs: range):
        self.slots, self.envs = slots, envs
        self.seeds: Sequence[int] = ()
        self.orders: deque[Order] = deque()  # that are not carried out
        self.untaken: deque[int] = deque()  # sweeps of the chunks that are, and were not taken
        self.chunks, self.sweeps = 0, 0  # that are complete, in all; in these
        self.is_manned, self.is_built = False, False  # there is a process; it has reported for work
        self.seen, self.since = 0, 0.0  # sweeps at the last look, and since when

    @property
    def unfinished(self) -> int:
        """Sweeps that belong to no complete chunk."""
        return int(self.slots.swept[0]) - self.sweeps

    def describe(self, what: str) -> str:
        """What became of it, with its environments and what they were asked last."""
        first, last, said = self.envs[0], self.envs[-1], ""
        action = self.slots.action(self.chunks % self.slots.count, self.unfinished - 1)
        if action is not None:
            said = f", in the sweep behind the actions {shown(action.tolist())}"
        where = f"environment {first}" if first == last else f"environments {first} to {last}"
        return f"{where} of the run (seeds {', '.join(map(str, self.seeds))}){said}: {what}"


class Processes:
    """The crew of processes. They start when the first weights are published.

    Args:
        blueprint: how an actor is made.
        weights: `Weights` of what is published.
        slots: of each actor.
        envs: the environments of each.
        seeds: of all environments.
        patience: seconds without a step after which an actor counts as stuck.
    """

    mortal = True
    caveat = "actors begin new episodes"

    def __init__(
        self,
        blueprint: Blueprint,
        weights: Any,
        slots: Sequence[Slots],
        envs: Sequence[range],
        seeds: Sequence[int],
        patience: float,
    ):
        self.size, self.blueprint, self.weights, self.seeds = len(slots), blueprint, weights, seeds
        self.patience, self.lost_steps = patience, 0
        self.places = [Place(*place) for place in zip(slots, envs, strict=True)]
        self._leave = Shared({"now": ((1,), np.dtype(bool))})
        self._starts = 0  # of actors so far
        self._selector = selectors.DefaultSelector()
        self._lost: deque[Lost] = deque()
        self._running: list[BaseProcess] = []
        Finalize(self, offspring.kill, (self._running,), exitpriority=100)  # before multiprocessing waits for them

    def prove(self, check: Callable[[], None] | None = None) -> None:
        pass

    def publish(self, version: int) -> None:
        self.weights.write(version)
        for place in self.places:
            if not place.is_manned:
                self._start(place)

    def submit(self, actor: int, order: Order) -> None:
        place = self.places[actor]
        if not place.orders:  # it had nothing to do until now
            place.since = time.monotonic()
        place.orders.append(order)
        if place.is_manned:
            self._send(place, order)

    def wait(self, seconds: float) -> Sequence[int]:
        if self._lost:
            raise self._lost.popleft()
        found: list[int] = []
        for actor in {key.data: None for key, _ in self._selector.select(seconds)}:
            found += self._hear(actor)
        if not found:
            for actor in range(self.size):
                found += self._look_after(actor)
        return found

    def take(self, actor: int) -> Delivery:
        place = self.places[actor]
        first = place.chunks - len(place.untaken)
        place.untaken.popleft()
        return place.slots.get(first % place.slots.count)

    def restart(self, actor: int) -> None:
        self._start(self.places[actor])

    def metrics(self) -> Metrics:
        return {}

    def state_dict(self) -> StateDict:
        """Whoever goes on from here begins new episodes: what is under way is lost to them."""
        under_way = sum((place.unfinished + sum(place.untaken)) * len(place.envs) for place in self.places)
        return {"starts": self._starts, "lost_steps": self.lost_steps + under_way}

    def load_state_dict(self, state: StateDict) -> None:
        """Before the processes start."""
        self._starts, self.lost_steps = state["starts"], state["lost_steps"]

    def close(self) -> None:
        self._leave["now"][0] = True
        end = time.monotonic() + LEAVING
        for place in self.places:
            if place.is_manned:
                place.wire.close()
        for process in self._running:
            process.join(max(0.0, end - time.monotonic()))
        offspring.kill(self._running)
        self._selector.close()

    def _start(self, place: Place) -> None:
        """Begin with a new process, which goes on behind the last chunk that is complete."""
        number, self._starts = self._starts, self._starts + 1
        place.seeds = self.seeds[place.envs.start : place.envs.stop]
        if number >= self.size:
            place.seeds = successors(place.seeds, number)
        context = multiprocessing.get_context(offspring.start_method(type(self.blueprint).__module__, work.__module__))
        place.wire, theirs = context.Pipe()
        post = Post(
            self.blueprint,
            stream=number,
            place=place.envs,
            num_envs=len(self.seeds),
            seeds=place.seeds,
            slots=place.slots,
            first=place.chunks % place.slots.count,
            weights=self.weights.shared,
            leave=self._leave,
            wire=theirs,
            patience=self.patience,
        )
        place.process = context.Process(target=work, args=(post,), name=f"rlrun actor {number}")  # type: ignore[attr-defined]
        with offspring.single_threaded():
            place.process.start()
        theirs.close()
        self._running.append(place.process)
        place.is_manned, place.is_built = True, False
        place.seen, place.since = place.sweeps, time.monotonic()
        for end in (place.wire, place.process.sentinel):
            self._selector.register(end, selectors.EVENT_READ, self.places.index(place))
        for order in place.orders:
            self._send(place, order)

    def _send(self, place: Place, order: Order) -> None:
        with contextlib.suppress(OSError):  # whoever is gone is missed later
            place.wire.send_bytes(ORDER.pack(*order))

    def _hear(self, actor: int) -> list[int]:
        """What an actor has to say: once for each chunk that is complete, the actor."""
        place, found = self.places[actor], list[int]()
        try:
            while place.wire.poll():
                message = place.wire.recv_bytes()
                if message == DONE:
                    sweeps = place.orders.popleft().sweeps
                    place.chunks, place.sweeps = place.chunks + 1, place.sweeps + sweeps
                    place.untaken.append(sweeps)
                    found.append(actor)
                elif message[:1] == FAILED:
                    text, trace = json.loads(message[1:])
                    self._lose(actor, text, trace)
                    if not place.is_built:  # nor would another one
                        raise EnvError(f"an actor cannot be made: {text}") from ChildError(trace)
                    return found
                else:
                    place.is_built = True
                place.since = time.monotonic()
            if place.process.is_alive():
                return found
        except (EOFError, OSError):
            place.process.join(LAST_WORDS)
        self._lose(actor, place.describe(f"the process died, {offspring.fate(place.process)}"))
        return found

    def _look_after(self, actor: int) -> list[int]:
        """An actor that is stuck is given up, when it has said where; what it completes before that counts."""
        place, now = self.places[actor], time.monotonic()
        swept = int(place.slots.swept[0])
        if swept != place.seen or not place.orders or not place.is_manned:
            place.seen, place.since = swept, now
            return []
        if now - place.since <= (self.patience if place.is_built else START):
            return []
        with contextlib.suppress(ProcessLookupError):
            os.kill(place.process.pid or 0, ALARM)
        if place.wire.poll(LAST_WORDS):
            return self._hear(actor)
        self._lose(actor, place.describe(f"there was no step for {self.patience:g} seconds, and it does not say why"))
        return []

    def _lose(self, actor: int, why: str, trace: str = "") -> None:
        place = self.places[actor]
        for end in (place.wire, place.process.sentinel):
            self._selector.unregister(end)
        if trace:
            place.process.join(LAST_WORDS)
            why = place.describe(why)
        offspring.kill([place.process])
        self._running.remove(place.process)
        place.wire.close()
        place.is_manned = False
        self.lost_steps += place.unfinished * len(place.envs)
        place.slots.swept[0] = place.sweeps
        place.orders.clear()
        self._lost.append(Lost(actor, why, trace))


def footprint(
    cfg: ActorsConfig, environments: Environments, algo: Algorithm, *, num_envs: int, total_timesteps: int
) -> list[Need]:
    """The actors' processes, and what they share with the learner: slots for chunks and for weights."""
    if (published := algo.published) is None:
        return []
    place = places(cfg.actors, num_envs)[0]
    sent = Content.of(algo, environments.spec(len(place)), place, num_envs, total_timesteps).nbytes
    weights = sum(tensor.nbytes for tensor in (*published.parameters(), *published.buffers()))
    each, count = PROCESS + 3 * weights, cfg.actors * (cfg.ahead + 1)  # its network, and room for two moments
    shared = f"{count:,} chunks of {cfg.actors:,} actors and two versions of the weights"
    smaller = "a smaller algo.n_steps or env.num_envs makes chunks smaller"
    return [
        Need("experience.actors", SERVER + cfg.actors * each, f"{cfg.actors:,} processes of actors", each),
        Need("experience.ahead", count * sent + 2 * weights, shared, cfg.actors * sent, advice=smaller),
    ]


@register("experience", ActorsConfig, footprint=footprint)
def actors(
    cfg: ActorsConfig,
    environments: Environments,
    algo: Algorithm,
    *,
    seeds: Sequence[int],
    interrupt: Interrupt,
    total_timesteps: int,
    blueprint: Blueprint,
) -> Actors:
    """Several actors, each in a process of its own with some of the environments."""
    from rlrun.experience.actors.weights import Weights  # needs torch as soon as it is imported

    must_act_elsewhere(environments, algo)
    num_envs, envs = len(seeds), places(cfg.actors, len(seeds))
    content = Content.of(algo, environments.spec(len(envs[0])), envs[0], num_envs, total_timesteps)
    slots = [Slots(content, cfg.ahead + 1) for _ in envs]
    crew = Processes(blueprint, Weights(algo.published), slots, envs, seeds, cfg.patience)
    return Actors(crew, algo, environments.spec(num_envs), cfg.ahead, cfg.restarts, interrupt, total_timesteps)


def must_act_elsewhere(environments: Environments, algo: Algorithm) -> None:
    """ConfigError if what the run's agent does is not told by weights alone, or its environments share statistics."""
    if algo.published is None:
        problem = f"{algo.cfg.name} cannot act in other processes, where there is nothing but its network to act by"
        raise ConfigError("experience", problem, "write experience=rollouts")
    if key := environments.gathers:
        by_network = key == "env.normalize.obs" and "obs" in registry.get("algo", algo.cfg.name).needs.statistics
        hint = "write network.normalize_obs=true in its place" if by_network else "leave it out"
        problem = "gathers in one process what the environments of other processes show"
        raise ConfigError(key, problem, f"{hint}, or experience=rollouts")
