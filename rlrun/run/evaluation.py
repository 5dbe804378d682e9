"""How good an agent is: a fixed list of episodes in environments of their own, and a film of one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun.agents.agent import Agent
from rlrun.agents.q import EpsilonAgent
from rlrun.checks import OneOf
from rlrun.errors import ConfigError
from rlrun.experience.acting import Acting, perform
from rlrun.interrupt import Interrupt
from rlrun.text import counted, mean_and_std
from rlrun.types import Array, EnvSpec, VectorEnv

log = logging.getLogger(__name__)
Policy = Annotated[str, OneOf("greedy", "stochastic")]
UNLIMITED = 10_000  # steps after which an evaluation cuts an episode that nothing else limits


@dataclass(frozen=True)
class EvalResult:
    """Raw, undiscounted returns and lengths of N episodes, in the order of their seeds."""

    returns: Array  # [N] float64
    lengths: Array  # [N] int64
    cut: int = 0  # how many were ended by the evaluation, not by the environment
    max_steps: int | None = None  # steps after which that was done

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Population standard deviation over the episodes."""
        return float(self.returns.std())

    @property
    def mean_length(self) -> float:
        return float(self.lengths.mean())

    def to_dict(self) -> dict[str, float]:
        return {
            "mean": self.mean,
            "std": self.std,
            "min": float(self.returns.min()),
            "max": float(self.returns.max()),
            "mean_length": self.mean_length,
            "episodes": len(self.returns),
            "cut": self.cut,
        }

    @property
    def cuts(self) -> str:
        """How many episodes were cut, in words; empty if none was."""
        if not self.cut:
            return ""
        were = "episodes were" if self.cut > 1 else "episodes was"
        return f"{self.cut} of {len(self.returns)} {were} cut at {self.max_steps:,} steps"

    def __str__(self) -> str:
        text = f"mean {mean_and_std(self.mean, self.std)} over {counted(len(self.returns), 'episode')}"
        return f"{text}; {self.cuts}" if self.cut else text


def check_policy(policy: str, epsilon: float | None) -> None:
    """Random actions take the place of greedy ones; a stochastic policy has its own."""
    if epsilon is not None and policy != "greedy":
        raise ConfigError("epsilon", "goes with the greedy policy", "policy=stochastic explores as in training")


def step_limit(max_steps: int | None, spec: EnvSpec) -> int | None:
    """The steps after which an evaluation cuts an episode; None where the environment's own limit is enough."""
    return UNLIMITED if max_steps is None and spec.max_episode_steps is None else max_steps


class Kept:
    """Environments for evaluation, opened when they are first asked for and kept for the next time.

    Every evaluation starts them from its own seeds, so it depends on nothing but these and the weights. Only where an
    environment remembers something over a seeded reset does it matter whether it has been used before.

    Args:
        make: opens them.
    """

    def __init__(self, make: Callable[[], VectorEnv]):
        self._make = make
        self._envs: VectorEnv | None = None

    def __call__(self) -> VectorEnv:
        if self._envs is None:
            self._envs = self._make()
        return self._envs

    def close(self) -> None:
        if self._envs is not None:
            self._envs.close()
            self._envs = None


def evaluate(
    agent: Agent,
    envs: VectorEnv,
    seeds: Sequence[int],
    *,
    explore: bool = False,
    env_steps: int = 0,
    max_steps: int | None = None,
    interrupt: Interrupt | None = None,
    before_step: Callable[[], None] | None = None,
    say: Callable[[str], None] = log.info,
) -> EvalResult:
    """Play one episode from each seed.

    An environment takes the next seed when its episode ends. So exactly these episodes are played, none is preferred
    for being short, and a greedy agent's results do not depend on the number of environments.

    Args:
        agent: acts; hand over `agent.fork(rng)` to leave the random stream of training alone.
        envs: with raw rewards and frozen normalisation.
        seeds: one per episode.
        explore: sample as in training instead of taking the best action.
        env_steps: the age that exploration schedules see.
        max_steps: cut an episode after so many steps; by default only an environment's own limit does, or UNLIMITED
            steps where it has none.
        interrupt: checked before every step.
        before_step: called before every step.
        say: told how far it is where it takes long.

    Raises:
        Interrupted: a signal came.
    """
    max_steps, cut = step_limit(max_steps, envs.spec), 0
    patience = Patience(say)
    check = (interrupt or Interrupt()).check
    episodes = iter(range(len(seeds)))
    playing = dict(zip(range(envs.num_envs), episodes, strict=False))  # env -> episode; an env without one idles
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    reward, steps = np.zeros(envs.num_envs), np.zeros(envs.num_envs, np.int64)  # of the episodes being played
    obs = envs.reset([seeds[playing.get(e, 0)] for e in range(envs.num_envs)])
    acting = Acting(agent, envs.num_envs)
    while playing:
        check()
        if before_step is not None:
            before_step()
        action, _ = acting(obs, explore=explore, env_steps=env_steps)
        step = perform(envs, action, env_steps)
        obs = step.obs
        ended = {stat.env: (stat.episode_return, stat.length) for stat in step.episodes}
        if max_steps is not None:
            reward += step.reward
            steps += 1
            late = {e: (reward[e], max_steps) for e in np.flatnonzero(steps == max_steps).tolist() if e not in ended}
            cut += len(late.keys() & playing.keys())
            ended |= late
        acting.ended(ended)
        for e in sorted(ended.keys() & playing.keys()):
            episode = playing.pop(e)
            returns[episode], lengths[episode] = ended[e]
            reward[e], steps[e] = 0.0, 0
            following = next(episodes, None)
            if following is not None:
                playing[e] = following
                obs[e] = envs.reset_one(e, seeds[following])
        patience.tick(len(seeds), lengths)
    return EvalResult(returns, lengths, cut, max_steps)


def player(agent: Agent, rng: np.random.Generator, epsilon: float | None, spec: EnvSpec) -> Agent:
    """An agent as it is evaluated: with a random stream of its own, and random actions where they are asked for."""
    own = agent.fork(rng)
    return EpsilonAgent(own, epsilon, spec.num_actions, rng, spec.obs_space.masked) if epsilon else own


class Patience:
    """Says how far a long evaluation is: after ten seconds, then each time it has taken twice as long."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._begun = time.monotonic()
        self._next, self._sweeps = 10.0, 0

    def tick(self, episodes: int, lengths: Array) -> None:
        """After every sweep over the environments; `lengths` [N] are 0 for episodes that are not over."""
        self._sweeps += 1
        seconds = time.monotonic() - self._begun
        if seconds >= self._next:
            self._next *= 2
            done = np.count_nonzero(lengths)
            self._say(f"evaluating: {done} of {episodes} episodes after {seconds:.0f} s, at step {self._sweeps:,}")
