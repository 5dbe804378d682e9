"""For the tests of tabular methods: rollouts from nested lists, random streams of them, and training without a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.algos.algorithm import Kit
from rlrun.config import plugins
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig
from rlrun.experience.rollouts import Rollouts
from rlrun.run.evaluation import EvalResult, evaluate
from rlrun.seeding import Role, SeedTree
from rlrun.types import EnvSpec, EpisodeStat, Progress, Rollout, Space


def discrete(n: int) -> Space:
    return Space("discrete", (), np.dtype(np.int64), n=n)


def make(algo: str, env: EnvSpec, seed: int = 0, total_timesteps: int = 1000, **options: Any) -> Any:
    """A registered algorithm with these options."""
    plugins.load_installed()
    entry = registry.get("algo", algo)
    assert entry.config is not None
    rng = SeedTree(seed).generator(Role.AGENT)
    return entry.factory(entry.config(**options), Kit(env, rng=rng, total_timesteps=total_timesteps))


def small(algo: str, states: int = 4, actions: int = 2, num_envs: int = 1, **options: Any) -> Any:
    """An algorithm for a made-up environment."""
    return make(algo, EnvSpec("test", discrete(states), discrete(actions), num_envs), **options)


def sweeps(
    obs: Any, action: Any, reward: Any, terminated: Any = None, truncated: Any = None, final_obs: Any = None
) -> Rollout:
    """A Rollout from nested lists: obs [T+1][E], the others [T][E]."""
    nothing = np.zeros(np.shape(action), bool)
    return Rollout(
        np.array(obs),
        np.array(action),
        np.array(reward, np.float32),
        nothing if terminated is None else np.array(terminated),
        nothing if truncated is None else np.array(truncated),
        final_obs or {},
        {},
    )


def feed(algo: Any, *rollout: Any, **kwargs: Any) -> Any:
    """Let an algorithm learn from one rollout, given as for `sweeps`."""
    data = sweeps(*rollout, **kwargs)
    return algo.learn(data, Progress(1000, env_steps=data.reward.size))


def random_stream(states: int, actions: int, num_envs: int, steps: int, seed: int) -> Rollout:
    """Random transitions, of which one in eight terminates, one in eight is truncated, and some are both."""
    rng = np.random.default_rng(seed)
    shape = (steps, num_envs)
    terminated, truncated = rng.random(shape) < 1 / 8, rng.random(shape) < 1 / 8
    ended = np.argwhere(terminated | truncated)
    return Rollout(
        rng.integers(states, size=(steps + 1, num_envs)),
        rng.integers(actions, size=shape),
        rng.normal(size=shape).astype(np.float32),
        terminated,
        truncated,
        {(int(t), int(e)): np.array(rng.integers(states)) for t, e in ended},
        {},
    )


def chunks(stream: Rollout, length: int) -> Iterator[Rollout]:
    """A rollout cut into pieces of `length` sweeps, as a source would yield them."""
    for begin in range(0, len(stream.action), length):
        piece = slice(begin, begin + length)
        yield Rollout(
            stream.obs[begin : begin + length + 1],
            stream.action[piece],
            stream.reward[piece],
            stream.terminated[piece],
            stream.truncated[piece],
            {(t - begin, e): o for (t, e), o in stream.final_obs.items() if begin <= t < begin + length},
            {},
        )


def environments(env_id: str, **options: Any) -> GymEnvs:
    plugins.load_installed()
    return GymEnvs(EnvConfig(id=env_id, **options), SeedTree(0))


def train(
    algo: str,
    envs: GymEnvs,
    *,
    seed: int = 0,
    env_steps: int = 1_000_000,
    episodes: int | None = None,
    **options: Any,
) -> tuple[Any, list[EpisodeStat]]:
    """Train for so many env steps or episodes, whichever comes first; the algorithm and the episodes it played."""
    learner = make(algo, envs.spec(1), seed, env_steps, **options)
    progress, played = Progress(env_steps), list[EpisodeStat]()
    with Rollouts(envs.train(1), learner.agent, learner.rollout_steps, [seed]) as source:
        for chunk in source:
            progress.advance(chunk)
            learner.learn(chunk.data, progress)
            played += chunk.episodes
            if progress.done or len(played) == episodes:
                return learner, played
    raise AssertionError("a source never ends")


def greedy(algo: Any, envs: GymEnvs, episodes: int = 1, max_steps: int | None = None) -> EvalResult:
    """How the greedy policy does."""
    with closing(envs.evaluation(1)) as vector:
        return evaluate(algo.agent, vector, range(episodes), max_steps=max_steps)
