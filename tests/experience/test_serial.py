"""Several actors in turn in this process."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlrun.envs.toy  # noqa: F401  registers the toys
from rlrun.agents.agent import Agent
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import ConfigError, Diverged, Interrupted
from rlrun.experience.actors.actor import Actor
from rlrun.experience.actors.crew import Lost
from rlrun.experience.actors.serial import Turns
from rlrun.experience.actors.source import Actors, places
from rlrun.interrupt import Interrupt
from rlrun.rundir.codec import decode, encode
from rlrun.testing import check_algorithm, different, learner
from rlrun.types import Chunk, Gradients, Rollout

EACH = 2  # environments of an actor


class Recorder(Agent):
    """Always takes action 1; records where it acts, and the env steps it was asked at."""

    def __init__(self, fuse: tuple[Interrupt, int] | None = None):
        self.asked: list[int] = []
        self.fuse = fuse

    def station(self, envs: range, num_envs: int) -> None:
        self.envs = envs

    def act(self, obs: np.ndarray, memory: Any, *, explore: bool, env_steps: int) -> Any:
        if self.fuse and env_steps == self.fuse[1]:
            self.fuse[0].signum = signal.SIGTERM
        self.asked.append(env_steps)
        return np.ones(len(obs), np.int64), memory, {"place": np.full(len(obs), self.envs.start)}


class Learner:
    """Knows how many steps make a rollout, and what it wants of actors."""

    rollout_steps = 4

    def __init__(self, any_envs: bool, sends: str = "rollouts"):
        self.any_envs, self.sends, self.agent = any_envs, sends, Recorder()
        self.weights = 0

    def gradients(self, rollout: Rollout, env_steps: int) -> Gradients:
        return Gradients(np.full(3, self.weights, np.float32), {"loss": float(rollout.reward.sum())}, rollout.env_steps)


def source(algo: Any, actors: int = 2, total: int | None = None, stop_at: int = -1) -> Actors:
    interrupt = Interrupt()

    def make() -> gym.Env:
        return gym.make("rlrun/Toy-v0", disable_env_checker=True)

    crew = []
    for place in places(actors, actors * EACH):
        vector = InProcess([make() for _ in place], make=make)
        vector.prove()
        agent = Recorder((interrupt, stop_at) if place.start else None)
        crew.append(Actor(algo, agent, vector, place, actors * EACH, [*place], interrupt))
    spec = vector.spec
    whole = InProcess([make() for _ in range(actors * EACH)]).spec
    assert spec.num_envs == EACH
    return Actors(Turns(crew, [None] * actors), algo, whole, interrupt=interrupt, total_timesteps=total)


def shown(chunk: Chunk) -> dict[str, Any]:
    data = chunk.data
    if isinstance(data, Gradients):
        return {**data._asdict(), "values": data.values.tolist(), "episodes": list(chunk.episodes)}
    arrays = {key: np.array(getattr(data, key)).tolist() for key in ("obs", "action", "reward", "terminated")}
    finals = {where: int(obs) for where, obs in data.final_obs.items()}
    place = np.array(data.extras["place"]).tolist()
    return {**arrays, "final_obs": finals, "place": place, "version": data.policy_version, "of": list(chunk.episodes)}


def test_a_round_is_what_one_source_of_all_environments_collects() -> None:
    """The toy counts 0 1 2 3 4 0 ...; the last of the 10 steps of an episode is the second of the third chunk."""
    chunks = [shown(chunk) for chunk in itertools.islice(source(Learner(any_envs=False)), 3)]
    assert [chunk["obs"] for chunk in chunks][2] == [[s] * 4 for s in (3, 4, 0, 1, 2)]
    assert chunks[2]["terminated"] == [[False] * 4, [True] * 4, [False] * 4, [False] * 4]
    assert chunks[2]["final_obs"] == {(1, e): 0 for e in range(4)}
    assert [episode.env for episode in chunks[2]["of"]] == [0, 1, 2, 3]
    assert chunks[2]["place"] == [[0, 0, 2, 2]] * 4


def test_agents_see_the_steps_of_the_whole_run() -> None:
    one = source(Learner(any_envs=False))
    list(itertools.islice(one, 2))
    asked = [actor.source.acting.agent.asked for actor in one.crew.actors]  # type: ignore[attr-defined]
    assert asked == [[4 * t for t in range(8)], [4 * t + 2 for t in range(8)]]


def test_one_by_one_the_weights_are_older_each_time() -> None:
    one = source(Learner(any_envs=True), actors=3)
    versions = []
    for chunk in itertools.islice(one, 6):
        assert chunk.data.reward.shape == (4, EACH)
        versions.append((chunk.data.extras["place"][0, 0].item(), chunk.data.policy_version))
        one.publish(one.algo.agent)
    assert versions == [(0, 0), (2, 0), (4, 0), (0, 3), (2, 3), (4, 3)]
    assert one.metrics() == {"actors/policy_lag_mean": 1.0, "actors/policy_lag_max": 2.0}
    assert one.metrics() == {}


def test_gradients_are_of_the_weights_that_were_acted_by() -> None:
    algo = Learner(any_envs=True, sends="gradients")
    one, found = source(algo), []
    for chunk in itertools.islice(one, 4):
        found.append((chunk.data.values.tolist(), chunk.data.policy_version, chunk.env_steps, chunk.data.env_steps))
        algo.weights += 1
        one.publish(algo.agent)
    assert found == [([w] * 3, w, 8, 8) for w in (0, 0, 2, 2)]


@pytest.mark.parametrize("any_envs", [False, True])
def test_the_last_chunks_are_cut_to_what_is_left(any_envs: bool) -> None:
    """21 env steps of 4 environments: a round of 16, and 2 sweeps of 4; or pieces of 8 and then 3 sweeps of 2."""
    sizes = [chunk.env_steps for chunk in itertools.islice(source(Learner(any_envs), total=21), 2 + any_envs)]
    assert sizes == ([8, 8, 6] if any_envs else [16, 8])


@pytest.mark.parametrize("sends", ["rollouts", "gradients"])
@pytest.mark.parametrize("any_envs", [False, True])
@pytest.mark.parametrize("stop_at", [2, 10, 26])
def test_stopping_anywhere_loses_nothing(stop_at: int, any_envs: bool, sends: str) -> None:
    if sends == "gradients" and not any_envs:
        return

    def learn(one: Actors, count: int) -> list[dict[str, Any]]:
        chunks = []
        try:
            for chunk in itertools.islice(one, count):
                chunks.append(shown(chunk))
                one.algo.weights += 1  # type: ignore[attr-defined]
                one.publish(one.algo.agent)
        except Interrupted:
            pass
        return chunks

    expected = learn(source(Learner(any_envs, sends)), 6)
    first = source(Learner(any_envs, sends), stop_at=stop_at)
    chunks = learn(first, 6)
    second = source(Learner(any_envs, sends))
    second.algo.weights = first.algo.weights  # type: ignore[attr-defined]
    second.load_state_dict(decode(*encode(first.state_dict())))
    chunks += learn(second, 6 - len(chunks))
    assert chunks == expected
    whole = source(Learner(any_envs, sends))
    learn(whole, 6)
    assert not different(whole.state_dict(), second.state_dict())


@pytest.mark.parametrize(
    "words",
    [
        ["algo=a2c", "env=cartpole", "env.num_envs=2"],
        ["algo=sac", "env=pendulum"],
        ["algo=expected_sarsa", "env=cliffwalking"],
        ["algo=thompson", "env=bandit/bernoulli"],
    ],
)
def test_a_single_actor_is_the_source_of_rollouts(words: list[str]) -> None:
    one = learner(*words).learn(20).state_dict()
    other = learner(*words, "experience=serial", "experience.actors=1").learn(20).state_dict()
    assert not different(one.pop("source"), other.pop("source")["crew"]["actors"][0]["source"])
    assert not different(one, other)


@pytest.mark.parametrize(
    ("algo", "words"),
    [
        ("ppo", ["env=cartpole", "env.num_envs=4", "network=gru"]),
        ("dqn", ["env=cartpole", "env.num_envs=2"]),
        ("expected_sarsa", ["env=cliffwalking", "env.num_envs=2"]),
    ],
)
def test_contract(algo: str, words: list[str]) -> None:
    check_algorithm(algo, "experience=serial", *words)


def test_an_actor_without_weights_to_act_by_is_not_replaced() -> None:
    algo, lost = Learner(any_envs=False), []
    algo.published = torch.nn.Linear(2, 1)  # type: ignore[attr-defined]
    made = source(algo)
    made.most_restarts, made.crew.restart = 2, lost.append  # type: ignore[method-assign]
    made._replace(Lost(1, "gone"))
    torch.nn.init.constant_(algo.published.bias, np.nan)  # type: ignore[attr-defined]
    with pytest.raises(Diverged, match="what was learned is not a number\nactor 1 was lost: gone"):
        made._replace(Lost(1, "gone"))
    assert lost == [1]


def test_environments_are_shared_equally() -> None:
    assert places(2, 6) == [range(3), range(3, 6)]
    with pytest.raises(ConfigError, match=r"(?s)2 actors cannot have equally many of 5.*num_envs=4 or 6"):
        places(2, 5)
    with pytest.raises(ConfigError, match=r"write env.num_envs=3, or experience.actors=1"):
        places(3, 2)
    with pytest.raises(ConfigError, match="counted in one place"):
        learner("algo=ucb", "env=bandit/bernoulli", "env.num_envs=2", "experience=serial")
