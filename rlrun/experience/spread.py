"""Experience of several ranks: each collects in environments of its own, and what they do together is told to all.

Env steps and episodes of a chunk are those of all ranks, its data the rank's own. A signal to any of them stops all,
at the same chunk: where a rank's own part of it is unfinished it belongs to the state, so that all go on exactly.
Normalisers of observations and rewards go on by themselves while a chunk is collected, and have the statistics of all
when it is handed out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlrun.agents.agent import Agent
from rlrun.errors import ConfigError, Interrupted
from rlrun.experience.rollouts import Rollouts
from rlrun.interrupt import Interrupt
from rlrun.state import Stateful
from rlrun.types import Chunk, EpisodeStat, Metrics, StateDict

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm
    from rlrun.compute.spread import Alone
    from rlrun.envs.environments import Environments
    from rlrun.ops.running import RunningMeanStd


class Spread:
    """A source among others.

    Args:
        own: what is collected here.
        group: the ranks.
        statistics: that are gathered meanwhile.
    """

    def __init__(self, own: Rollouts, group: Alone, statistics: Sequence[RunningMeanStd] = ()):
        self.own, self.group, self.pool = own, group, Pool(statistics)

    def __iter__(self) -> Iterator[Chunk]:
        own = self.own
        while True:
            own.make_room()
            signum = 0
            try:
                own.fill(own.sweeps())
            except Interrupted as stopped:
                signum = stopped.signum
            episodes = self._agree(signum)
            yield own.hand_out()._replace(episodes=episodes)

    def _agree(self, signum: int) -> list[EpisodeStat]:
        """Wait for the others. Returns the episodes that ended anywhere; Interrupted if anybody was sent a signal."""
        each, ended = self.own.envs.num_envs, self.own.episodes
        with self.own.interrupt.finishing():  # it takes as long as another rank does, which answers signals itself
            signals, counts = np.array(self.group.each(np.array([signum, len(ended)]))).T.tolist()
        if any(signals):
            raise Interrupted(next(filter(None, signals)))
        self.pool.meet(self.group)
        told = self.group.every(np.array(ended, np.float64).reshape(-1, 3), counts)
        return [
            EpisodeStat(float(total), int(length), rank * each + int(env))
            for rank, episodes in enumerate(told)
            for total, length, env in episodes
        ]

    @property
    def caveat(self) -> str:
        return self.own.caveat

    def prove(self, check: Callable[[], None] | None = None) -> None:
        self.own.prove(check)

    def publish(self, agent: Agent) -> None:
        self.own.publish(agent)

    def metrics(self) -> Metrics:
        return self.own.metrics()

    def close(self) -> None:
        self.own.close()

    def state_dict(self) -> StateDict:
        return {**self.own.state_dict(), "pool": self.pool.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        self.own.load_state_dict(state)
        self.pool.load_state_dict(state["pool"])


class Pool(Stateful):
    """Running statistics that every rank gathers by itself; where ranks meet they become those of all.

    Args:
        own: of this rank, in the order that all have.
    """

    state = ("known",)

    def __init__(self, own: Sequence[RunningMeanStd]):
        self.own, self.known = own, copy.deepcopy([*own])  # as they were where the ranks last met

    def meet(self, group: Alone) -> None:
        """What all have gathered since is taken in, in the order of the ranks."""
        if not self.own:
            return
        rows = [stats.since(known) for stats, known in zip(self.own, self.known, strict=True)]
        told, ends = group.each(np.concatenate(rows)), np.cumsum([len(row) for row in rows])[:-1]
        for rank in told:
            for known, row in zip(self.known, np.split(rank, ends), strict=True):
                known.join(row)
        for stats, known in zip(self.own, self.known, strict=True):
            stats.load_state_dict(known.state_dict())


def spread(
    environments: Environments,
    algo: Algorithm,
    group: Alone,
    *,
    seeds: Sequence[int],
    interrupt: Interrupt,
    total_timesteps: int,
) -> Spread:
    """This rank's source.

    Args:
        seeds: one for each environment of all ranks.
    """
    mine = group.share(len(seeds))
    envs = environments.train(len(mine))
    if envs.pulls is not None:
        envs.close()
        raise ConfigError("env", f"the arms of {envs.spec.id} are counted in one process", "start one rank")
    algo.agent.station(mine, len(seeds))
    own = Rollouts(
        envs,
        algo.agent,
        algo.rollout_steps,
        seeds[mine.start : mine.stop],
        interrupt,
        total_timesteps,
        ranks=group.size,
    )
    return Spread(own, group, environments.statistics)
