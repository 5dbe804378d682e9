"""`experience=ray`: the actors are those of a Ray cluster, on one machine or on many.

An actor builds its environments and its agent from the blueprint, once, and carries out orders one after the other.
Weights go through Ray's object store: one object for each version, which a node fetches once. An actor takes them in
beside its work, and acts by the newest that it has when a chunk begins. What it has collected comes back as arrays,
through the store as well. The learner, its checkpoints and all that is logged stay with this process.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import torch

from rlrun.checks import Within
from rlrun.compute import raycluster
from rlrun.envs.faults import ChildError
from rlrun.errors import EnvError, described
from rlrun.experience.actors.actor import Actor
from rlrun.experience.actors.crew import Delivery, Lost, Order
from rlrun.experience.actors.processes import START, ActorsConfig, must_act_elsewhere
from rlrun.experience.actors.source import Actors, places, successors
from rlrun.experience.contracts import Blueprint
from rlrun.interrupt import Interrupt
from rlrun.registry import register
from rlrun.types import Array, Metrics, Rollout, StateDict

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm
    from rlrun.envs.environments import Environments

log = logging.getLogger(__name__)

MAIL = "mail"  # the thread of an actor that answers while another collects
SLOW = 60.0  # seconds after which it is said that an actor has not begun
PULSE = 1.0  # seconds between two questions whether an actor is at work


@dataclass
class RayConfig(ActorsConfig):
    """Actors of a Ray cluster."""

    name: str = "ray"
    # of the cluster: HOST:PORT, ray://HOST:PORT, local = one of its own, auto = found or local
    address: str = "auto"
    num_cpus: Annotated[float, Within(0, 1024)] = 1.0  # that an actor has to itself
    num_gpus: Annotated[float, Within(0, 64)] = 0.0  # the same for GPUs; for environments, since agents act on the CPU


class Home(NamedTuple):
    """Where the user's modules and files are."""

    folder: str
    path: list[str]  # where modules are sought

    @classmethod
    def here(cls) -> Home:
        return cls(os.getcwd(), [os.path.abspath(place) for place in sys.path])

    def settle(self) -> None:
        """Be at home there, as far as this node has it."""
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        sys.path += [place for place in self.path if place not in sys.path]


class Failure(NamedTuple):
    """What was raised in an actor: in words, since not every exception can be sent."""

    why: str
    trace: str
    building: bool = False  # nor could another one be built


class Worker:
    """An actor in a process of Ray's.

    Args:
        home: of the run.
        stream: what its agent explores by.
        place: the indices of its environments among the `num_envs` of the run.
        seeds: one for each of them.
    """

    def __init__(
        self, home: Home, blueprint: Blueprint, stream: int, place: range, num_envs: int, seeds: Sequence[int]
    ):
        self.home, self.blueprint, self.stream = home, blueprint, stream
        self.place, self.num_envs, self.seeds = place, num_envs, seeds
        self.actor: Actor | None = None
        self.loaded = -1  # version of the weights
        self._newest: tuple[int, Sequence[Array]] = (-1, ())
        self._arrived = threading.Condition()

    def receive(self, version: int, weights: Sequence[Array]) -> None:
        """In the thread for mail."""
        with self._arrived:
            self._newest = max(self._newest, (version, weights), key=lambda mail: mail[0])
            self._arrived.notify_all()

    def pulse(self) -> int:
        """In the thread for mail: a number that changes with every sweep."""
        return -1 if self.actor is None else self.actor.source.env_steps

    def collect(self, order: Order, version: int) -> tuple[Delivery, Metrics] | Failure:
        """Carry out an order with weights that are of this version, or newer. Also what the environments report."""
        building = self.actor is None
        try:
            actor = self.actor = self.actor or self._build()
            building = False
            self._load(actor.algo, version)
            actor.collect(order, self.loaded)
            return actor.deliver(), actor.source.metrics()
        except Exception as error:
            return Failure(described(error), "".join(traceback.format_exception(error)), building)

    def _build(self) -> Actor:
        self.home.settle()
        torch.set_flush_denormal(True)  # holds for one thread, which is this
        environments, algo = self.blueprint(self.stream)
        envs = environments.train(len(self.place))
        return Actor(algo, algo.agent, envs, self.place, self.num_envs, self.seeds)

    def _load(self, algo: Algorithm, version: int) -> None:
        """Take in the newest weights, once those of this version are there."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._newest[0] >= version)
            newest, weights = self._newest
        if newest != self.loaded:
            for tensor, array in zip(tensors(algo), weights, strict=True):
                np.copyto(tensor.numpy(), array)
            self.loaded = newest


class RayCrew:
    """The crew on Ray.

    Args:
        ray: the module, connected.
        connection: closed in the end.
        cfg: of the source.
        algo: whose weights are published.
        blueprint: from which actors are built.
        seeds: one for each environment of the run.
    """

    mortal = True
    caveat = "actors begin new episodes"

    def __init__(
        self,
        ray: Any,
        connection: ExitStack,
        cfg: RayConfig,
        algo: Algorithm,
        blueprint: Blueprint,
        seeds: Sequence[int],
    ):
        self.ray, self.cfg, self.blueprint, self.seeds = ray, cfg, blueprint, seeds
        self.places, self.size, self.version = places(cfg.actors, len(seeds)), cfg.actors, -1
        self.starts, self.lost_steps = 0, 0  # of actors so far; env steps
        self._connection, self._tensors = connection, tensors(algo)
        self._remote = ray.remote(
            num_cpus=cfg.num_cpus, num_gpus=cfg.num_gpus, max_restarts=0, concurrency_groups={MAIL: 1}
        )(Worker)
        self._plan = ray.put(blueprint)
        self._weights: Any = None  # of this version, in the store
        self._workers: list[Any] = [None] * self.size
        self._asked: list[deque[tuple[Any, Order]]] = [deque() for _ in range(self.size)]
        self._arrived: list[deque[Delivery]] = [deque() for _ in range(self.size)]
        self._lost: dict[int, Lost] = {}
        self._told: list[Metrics] = [{} for _ in range(self.size)]
        self._hearts = [Heart() for _ in range(self.size)]
        self._looked = 0.0

    def prove(self, check: Callable[[], None] | None = None) -> None:
        """Nothing to find out."""

    def publish(self, version: int) -> None:
        self.version = version
        self._weights = self.ray.put([tensor.cpu().numpy() for tensor in self._tensors])
        for worker in filter(None, self._workers):
            self._send(worker)

    def _send(self, worker: Any) -> None:
        worker.receive.options(concurrency_group=MAIL).remote(self.version, self._weights)

    def submit(self, actor: int, order: Order) -> None:
        if self._workers[actor] is None:
            self._start(actor)
        if not self._asked[actor]:
            self._hearts[actor].beat()
        self._asked[actor].append((self._workers[actor].collect.remote(order, self.version), order))

    def _start(self, actor: int) -> None:
        """Build an actor. Only the first at its place has the seeds of the run, its successors have their own."""
        place, number = self.places[actor], self.starts
        self.starts += 1
        seeds = self.seeds[place.start : place.stop]
        if number >= self.size:
            seeds = successors(seeds, number)
        self._workers[actor] = self._remote.remote(Home.here(), self._plan, number, place, len(self.seeds), seeds)
        self._hearts[actor] = Heart()
        self._send(self._workers[actor])

    def wait(self, seconds: float) -> Sequence[int]:
        for actor, lost in self._lost.items():
            if not self._arrived[actor]:
                raise lost
        first = {asked[0][0]: actor for actor, asked in enumerate(self._asked) if asked and actor not in self._lost}
        if not first:
            time.sleep(seconds)
            return []
        ready, rest = self.ray.wait([*first], timeout=seconds)
        if rest:
            ready += self.ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        self._look_for_hung()
        return [actor for actor in map(first.__getitem__, ready) if self._fetch(actor)]

    def _fetch(self, actor: int) -> bool:
        """Get the next chunk of an actor that has it ready; false if it was lost instead."""
        try:
            answer = self.ray.get(self._asked[actor][0][0])
        except self.ray.exceptions.RayError as error:
            answer = Failure(str(error).strip().partition("\n")[0], str(error))
        if isinstance(answer, Failure):
            if answer.building:
                raise EnvError(f"an actor cannot be made: {answer.why}") from ChildError(answer.trace)
            self._lost[actor] = Lost(actor, f"{self._named(actor)}: {answer.why}", answer.trace)
            return False
        delivery, self._told[actor] = answer
        self._asked[actor].popleft()
        self._arrived[actor].append(delivery)
        self._hearts[actor].beat()
        return True

    def _look_for_hung(self) -> None:
        """Ask actors that have something to do whether they get on with it."""
        if time.monotonic() - self._looked < PULSE:
            return
        self._looked = time.monotonic()
        for actor, heart in enumerate(self._hearts):
            if not self._asked[actor] or actor in self._lost:
                continue
            heart.listen(self.ray, self._workers[actor])
            if heart.steps is None:  # it may have to wait for a node
                if heart.silent > SLOW and not heart.missed:
                    heart.missed = True
                    log.warning("actor %d has not begun in %.0f seconds: is there room for it?", actor, heart.silent)
            elif heart.silent > (self.cfg.patience if heart.steps >= 0 else START):
                why = f"there was no step for {heart.silent:.0f} seconds"
                self._lost[actor] = Lost(actor, f"{self._named(actor)}: {why}")

    def _named(self, actor: int) -> str:
        """The environments of an actor."""
        place = self.places[actor]
        return f"environments {place.start} to {place.stop - 1} of the run"

    def take(self, actor: int) -> Delivery:
        chunk, version = self._arrived[actor].popleft()
        return Delivery(chunk._replace(data=writable(chunk.data)), version)

    def restart(self, actor: int) -> None:
        self.lost_steps += self._under_way(actor)
        self.ray.kill(self._workers[actor])
        self._asked[actor].clear()
        self._lost.pop(actor, None)
        self._start(actor)

    def _under_way(self, actor: int) -> int:
        """Env steps that an actor was asked for and did not deliver: at most so many are lost with it."""
        return sum(order.sweeps for _, order in self._asked[actor]) * len(self.places[actor])

    def metrics(self) -> Metrics:
        """The mean over the actors that report something."""
        told = defaultdict[str, list[float]](list)
        for metrics in self._told:
            for name, value in metrics.items():
                told[name].append(float(value))
        return {name: sum(values) / len(values) for name, values in told.items()}

    def close(self) -> None:
        for worker in filter(None, self._workers):
            self.ray.kill(worker)
        self._workers = [None] * self.size
        self._connection.close()

    def state_dict(self) -> StateDict:
        """Whoever goes on from here begins new episodes: what was not taken is lost to them."""
        untaken = sum(delivery.chunk.env_steps for arrived in self._arrived for delivery in arrived)
        lost = self.lost_steps + untaken + sum(map(self._under_way, range(self.size)))
        return {"starts": self.starts, "lost_steps": lost}

    def load_state_dict(self, state: StateDict) -> None:
        self.starts, self.lost_steps = state["starts"], state["lost_steps"]


class Heart:
    """How long ago an actor was last known to get on with its work."""

    def __init__(self) -> None:
        self.since, self.missed = time.monotonic(), False
        self.steps: int | None = None  # as it said last; below 0 it is not built, None is nothing so far
        self._question: Any = None

    def beat(self) -> None:
        self.since = time.monotonic()

    @property
    def silent(self) -> float:
        """Seconds."""
        return time.monotonic() - self.since

    def listen(self, ray: Any, worker: Any) -> None:
        """Take in the answer to the last question, if it is there, and ask the next."""
        if self._question is not None:
            if not ray.wait([self._question], timeout=0)[0]:
                return
            try:
                steps = ray.get(self._question)
            except ray.exceptions.RayError:  # whoever waits for its chunks will hear of it
                return
            if steps != self.steps:
                self.steps = steps
                self.beat()
        self._question = worker.pulse.options(concurrency_group=MAIL).remote()


def tensors(algo: Algorithm) -> list[torch.Tensor]:
    """What is published: parameters and buffers."""
    return [tensor.detach() for tensor in (*algo.published.parameters(), *algo.published.buffers())]


def writable(data: Any) -> Any:
    """A rollout or gradients in arrays that may be written to; those in the store may not."""
    if not isinstance(data, Rollout):
        return data._replace(values=data.values.copy())
    columns: Any = {name: value.copy() for name, value in data._asdict().items() if isinstance(value, np.ndarray)}
    return data._replace(**columns, final_obs=copied(data.final_obs), extras=copied(data.extras))


def copied(arrays: Mapping[Any, Array]) -> dict[Any, Array]:
    return {key: array.copy() for key, array in arrays.items()}


@register("experience", RayConfig)
def ray(
    cfg: RayConfig,
    environments: Environments,
    algo: Algorithm,
    *,
    seeds: Sequence[int],
    interrupt: Interrupt,
    total_timesteps: int,
    blueprint: Blueprint,
) -> Actors:
    """Actors on the nodes of a Ray cluster, on this machine or on others."""
    must_act_elsewhere(environments, algo)
    connection = ExitStack()
    cpus = max(1, math.ceil(cfg.actors * cfg.num_cpus))
    module = connection.enter_context(raycluster.connected(cfg.address, "experience", cpus))
    crew = RayCrew(module, connection, cfg, algo, blueprint, seeds)
    spec = environments.spec(len(seeds))
    return Actors(crew, algo, spec, cfg.ahead, cfg.restarts, interrupt, total_timesteps)
