"""The contract of every registered algorithm, checked on whatever the registry holds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from conftest import algorithms

from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.run import build
from rlrun.run.build import Parts
from rlrun.run.evaluation import evaluate
from rlrun.rundir.checkpoints import must_resemble
from rlrun.rundir.codec import decode, encode
from rlrun.types import Progress

CASES = sorted(algorithms().items())
CHUNKS = 12


def parts(algo: str, env: str, seed: int = 0, *words: str) -> Parts:
    compose.set_up([])
    composed = compose.compose([f"algo={algo}", f"env={env}", "+smoke=on", f"seed={seed}", "device=cpu", *words])
    made = build.parts(validate(composed.data))
    made.source.prove()  # as a run does before it begins: from then on a state holds the environments'
    return made


class Trained:
    """A run's computing parts, taken through some chunks by hand."""

    def __init__(self, parts: Parts):
        self.parts = parts
        self.progress = Progress(500)
        self.stream = iter(parts.source)

    def chunks(self, count: int) -> Trained:
        for chunk in itertools.islice(self.stream, count):
            self.progress.advance(chunk)
            self.parts.algo.learn(chunk.data, self.progress)
            self.parts.source.publish(self.parts.algo.agent)
        return self

    def state(self) -> dict[str, Any]:
        """Every number that a checkpoint would hold of the learner and its experience."""
        parts = self.parts
        buffer = parts.buffer.state_dict() if parts.buffer is not None else {}
        own = {"algo": parts.algo, "source": parts.source, "environments": parts.environments}
        plain, arrays = encode({name: part.state_dict() for name, part in own.items()} | {"buffer": buffer})
        return {"plain": plain} | {key: np.array(value) for key, value in arrays.items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def enough(algo: str) -> int:
    """Chunks until an algorithm has certainly learned something: replay warms up first."""
    return CHUNKS if algo == "ppo" else 8 * CHUNKS


@pytest.mark.parametrize(("algo", "env"), CASES)
def test_same_seed_same_bytes_and_another_seed_others(algo: str, env: str) -> None:
    one, again, other = (Trained(parts(algo, env, seed)).chunks(enough(algo)).state() for seed in (3, 3, 4))
    assert same(one, again)
    assert not same(one, other)


@pytest.mark.parametrize(("algo", "env"), CASES)
def test_a_saved_learner_goes_on_like_the_one_it_was(algo: str, env: str) -> None:
    first = Trained(parts(algo, env)).chunks(enough(algo))
    saved = {
        "algo": first.parts.algo.state_dict(),
        "environments": first.parts.environments.state_dict(),
        "source": first.parts.source.state_dict(),
        "buffer": first.parts.buffer.state_dict() if first.parts.buffer is not None else {},
        "progress": first.progress.state_dict(),
    }
    saved = decode(*encode(saved))  # as it comes back from a file, and no array shared with the run that goes on
    second = Trained(parts(algo, env, 1))
    parts_of = second.parts
    own = {"algo": parts_of.algo, "environments": parts_of.environments, "source": parts_of.source}
    own |= {"progress": second.progress}
    must_resemble(saved, {name: part.state_dict() for name, part in own.items()})
    for name, part in own.items():
        part.load_state_dict(saved[name])
    if second.parts.buffer is not None:
        second.parts.buffer.load_state_dict(saved["buffer"])
    second.stream = iter(second.parts.source)
    assert same(first.chunks(CHUNKS).state(), second.chunks(CHUNKS).state())


@pytest.mark.parametrize(("algo", "env"), CASES)
def test_evaluation_leaves_training_as_it_is(algo: str, env: str) -> None:
    alone, watched = Trained(parts(algo, env)), Trained(parts(algo, env))
    alone.chunks(CHUNKS), watched.chunks(CHUNKS)
    for explore in (False, True):
        agent = watched.parts.algo.agent.fork(np.random.default_rng(9))
        envs = watched.parts.environments.evaluation(2)
        evaluate(agent, envs, [1, 2, 3], explore=explore, max_steps=50)
    assert same(alone.chunks(CHUNKS).state(), watched.chunks(CHUNKS).state())


@pytest.mark.parametrize(("algo", "env"), [case for case in CASES if case[0] not in ("random", "fixed")])
def test_learning_changes_what_is_learned(algo: str, env: str) -> None:
    trained = Trained(parts(algo, env))
    before = encode(trained.parts.algo.state_dict())[1]
    before = {key: np.array(value) for key, value in before.items()}
    after = encode(trained.chunks(enough(algo)).parts.algo.state_dict())[1]
    assert any(not np.array_equal(before[key], np.array(after[key])) for key in before)


@pytest.mark.parametrize(("algo", "env"), [case for case in CASES if case[0] != "random"])  # whose policy is the draw
def test_the_greedy_policy_draws_nothing(algo: str, env: str) -> None:
    trained = Trained(parts(algo, env)).chunks(CHUNKS)
    before = trained.state()
    agent, obs = trained.parts.algo.agent, trained.parts.source.obs[0]
    first, _, _ = agent.act(obs, agent.initial_memory(len(obs)), explore=False, env_steps=100)
    second, _, _ = agent.act(obs, agent.initial_memory(len(obs)), explore=False, env_steps=100)
    assert np.array_equal(first, second)
    assert same(before, trained.state())
