"""Sources of experience: an agent and a vector of environments become a stream of chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlrun.agents.agent import Agent
from rlrun.experience.acting import Acting, perform
from rlrun.experience.contracts import Blueprint
from rlrun.experience.rows import COLUMNS, Rows
from rlrun.interrupt import Interrupt
from rlrun.registry import register
from rlrun.state import overwrite
from rlrun.types import Array, Chunk, EpisodeStat, Metrics, Rollout, StateDict, VectorEnv

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm
    from rlrun.envs.environments import Environments


@dataclass
class RolloutsConfig:
    """Options of the source in this process."""

    name: str = "rollouts"  # registered kind of source


class Rollouts:
    """Endless chunks of `rollout_steps` sweeps over all environments, in this process.

    The chunk that reaches `total_timesteps` is cut to the sweeps that are left. The storage is allocated once, every
    chunk overwrites it. A signal is answered between two sweeps: the part of the rollout that is already collected
    belongs to the state, so a resumed source goes on in the middle of a chunk.

    Args:
        envs: reset here, from `seeds`.
        agent: acts with exploration; it sees the reset observation after an episode's end.
        rollout_steps: T, sweeps per chunk.
        seeds: one per environment.
        interrupt: checked before every sweep.
        total_timesteps: env steps of the whole run; None if nobody counts them.
        rows: where chunks are written.
        pace: env steps of the whole run per sweep, where these are not all of its environments.
        ranks: how many sources go on side by side, each with as many environments.
    """

    def __init__(
        self,
        envs: VectorEnv,
        agent: Agent,
        rollout_steps: int,
        seeds: Sequence[int],
        interrupt: Interrupt | None = None,
        total_timesteps: int | None = None,
        rows: Rows | None = None,
        pace: int | None = None,
        ranks: int = 1,
    ):
        self.envs, self.steps, self.total = envs, rollout_steps, total_timesteps
        self.acting = Acting(agent, envs.num_envs)
        self.interrupt = interrupt or Interrupt()
        self.ranks = ranks
        self.env_steps, self.pace = 0, pace or envs.num_envs * ranks
        self.rows = rows or Rows(envs.spec, rollout_steps)
        self.final_obs: dict[tuple[int, int], Array] = {}
        self._seeds = seeds
        self._started = False
        self._t = 0  # rows that are filled
        self._begin_chunk()

    def __enter__(self) -> Rollouts:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            self.make_room()
            self.fill(self.sweeps())
            yield self.hand_out()

    def make_room(self, rows: Rows | None = None) -> None:
        """If the chunk was handed out, another one begins.

        Args:
            rows: where it is written; in place of the one before by default.
        """
        if not self._handed_out:
            return
        last = self.rows.obs[self._t]
        if rows is not None:
            self.rows = rows
            rows.clear()
        self.rows.obs[0] = last
        self._begin_chunk()

    def fill(self, sweeps: int) -> None:
        """Collect until the chunk has so many rows."""
        if not self._started:
            self.rows.obs[0] = self.envs.reset(self._seeds)
            self._started = True
        for t in range(self._t, sweeps):
            self.interrupt.check()
            self._sweep(t)
            self._t = t + 1

    def hand_out(self) -> Chunk:
        """The chunk as far as it goes. From now on it counts as learned from."""
        self._handed_out = True
        return self.chunk()

    @property
    def filled(self) -> int:
        """How many rows the chunk has."""
        return self._t

    def chunk(self) -> Chunk:
        """The chunk as far as it goes."""
        rows = self.rows
        rollout = Rollout(
            rows.obs, rows.action, rows.reward, rows.terminated, rows.truncated, self.final_obs, rows.extras
        )
        if self.ranks > 1:
            rollout = rollout._replace(ranks=self.ranks)
        if (t := self._t) < self.steps:
            columns = {key: getattr(rows, key)[:t] for key in COLUMNS}
            extras = {key: value[:t] for key, value in rows.extras.items()}
            rollout = rollout._replace(obs=rows.obs[: t + 1], extras=extras, **columns)
        return Chunk(rollout.env_steps, self.episodes, rollout)

    def _begin_chunk(self) -> None:
        self._t = 0
        self._handed_out = False  # a chunk that was handed out has been learned from
        if self.final_obs:  # else none ended: the rows are false already
            self.rows.clear()
        self.final_obs = {}
        self.episodes: list[EpisodeStat] = []

    def sweeps(self) -> int:
        """How many sweeps make this chunk."""
        if self.total is None or self.steps == 1:
            return self.steps
        left = self.total - (self.env_steps - self._t * self.pace)  # at the chunk's beginning
        return min(self.steps, max(1, -(-left // self.pace)))  # rounded up

    def _sweep(self, t: int) -> None:
        """Act once in every environment and write row t."""
        rows = self.rows
        action, extras = self.acting(rows.obs[t], explore=True, env_steps=self.env_steps)
        step = perform(self.envs, action, self.env_steps)
        self.env_steps += self.pace
        rows.action[t] = action
        rows.reward[t] = step.reward
        rows.obs[t + 1] = step.obs
        for key, value in extras.items():
            rows.extra(key, value)[t] = value
        if step.final_obs:  # else none ended: the rows are false already
            rows.terminated[t], rows.truncated[t] = step.terminated, step.truncated
            self.final_obs.update({(t, e): final for e, final in step.final_obs.items()})
            self.episodes += step.episodes
            self.acting.ended(step.final_obs)

    @property
    def caveat(self) -> str:
        """In what a resumed source may differ from this one; "" if in nothing."""
        return self.envs.caveat

    def prove(self, check: Callable[[], None] | None = None) -> None:
        """Find out whether the environments can be saved in mid-episode."""
        self.envs.prove(check)

    def publish(self, agent: Agent) -> None:
        """The agent acts on the learner's own weights: it is up to date already."""
        self.acting.agent = agent

    def metrics(self) -> Metrics:
        return self.envs.metrics()

    def close(self) -> None:
        self.envs.close()

    def state_dict(self) -> StateDict:
        """Where collection stands, the unfinished chunk included. Only before the first sweep there is nothing."""
        if not self._started:
            return {"started": False}
        t, rows = 0 if self._handed_out else self._t, self.rows
        return {
            "started": True,
            "t": t,
            "env_steps": self.env_steps,
            "obs": rows.obs[: t + 1] if t else rows.obs[self._t : self._t + 1],
            "columns": {key: getattr(rows, key)[:t] for key in COLUMNS},
            "extras": {key: value[:t] for key, value in rows.extras.items()},
            "final_obs": [[s, e, final] for (s, e), final in self.final_obs.items()] if t else [],
            "episodes": [list(episode) for episode in self.episodes] if t else [],
            "envs": self.envs.state_dict(),
            **self.acting.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on where the state was taken."""
        if not state["started"]:
            return
        self._started, rows = True, self.rows
        self._begin_chunk()
        self.acting.load_state_dict(state)
        self._t = t = state["t"]
        self.env_steps = state["env_steps"]
        overwrite(rows.obs[: t + 1], state["obs"])
        for key in COLUMNS:
            overwrite(getattr(rows, key)[:t], state["columns"][key])
        for key, value in state["extras"].items():
            overwrite(rows.extra(key, np.empty(value.shape[1:], value.dtype))[:t], value)
        self.final_obs = {(s, e): final for s, e, final in state["final_obs"]}
        self.episodes = [EpisodeStat(*episode) for episode in state["episodes"]]
        self.envs.load_state_dict(state["envs"])
        if state["envs"]["grade"] != "exact":
            self._restart(t)

    def _restart(self, t: int) -> None:
        """The environments could not be restored, new episodes began: what came before row t ends in a truncation."""
        rows = self.rows
        if t:
            cut = ~(rows.terminated[t - 1] | rows.truncated[t - 1])
            rows.truncated[t - 1] |= cut
            self.final_obs.update({(t - 1, e): rows.obs[t, e].copy() for e in np.flatnonzero(cut).tolist()})
        rows.obs[t] = self.envs.obs
        self.acting.begin()


@register("experience", RolloutsConfig)
def rollouts(
    cfg: RolloutsConfig,
    environments: Environments,
    algo: Algorithm,
    *,
    seeds: Sequence[int],
    interrupt: Interrupt,
    total_timesteps: int,
    blueprint: Blueprint,
) -> Rollouts:
    """Agent and environments in turn, in this process.

    A source is registered as a function like this one: it opens the environments that it needs.

    Args:
        seeds: one for each environment.
        blueprint: how environments and agent are made elsewhere, for sources of several processes.
    """
    envs = environments.train(len(seeds))
    algo.agent.station(range(len(seeds)), len(seeds))
    return Rollouts(envs, algo.agent, algo.rollout_steps, seeds, interrupt, total_timesteps)
