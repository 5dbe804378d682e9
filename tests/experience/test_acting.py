"""An agent's memory begins anew with every episode, and belongs to the source's state."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlrun.envs.toy  # noqa: F401  registers the toys
from rlrun.envs.state import Proof
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import Diverged, EnvError, Interrupted
from rlrun.experience.acting import Acting
from rlrun.experience.rollouts import Rollouts
from rlrun.interrupt import Interrupt
from rlrun.run.evaluation import evaluate
from rlrun.rundir.codec import decode, encode


class Counter:
    """Remembers how many steps it has taken, and takes that for its action's reward."""

    def __init__(self, interrupt: Interrupt | None = None, sweeps: int = -1):
        self.interrupt, self.left = interrupt, sweeps

    def initial_memory(self, num_envs: int) -> np.ndarray:
        return np.zeros((num_envs, 1), np.float32)

    def act(self, obs: np.ndarray, memory: Any, *, explore: bool, env_steps: int) -> Any:
        self.left -= 1
        if self.left == 0 and self.interrupt:
            self.interrupt.signum = signal.SIGTERM
        return np.zeros(len(obs), np.int64), memory + 1, {"seen": obs[:, 0].copy()}

    def fork(self, rng: np.random.Generator) -> Counter:
        return self


def vector(*lengths: int) -> InProcess:
    def make(length: int = lengths[0]) -> gym.Env:
        return gym.make("rlrun/Counting-v0", disable_env_checker=True, length=length)

    made = InProcess([make(length) for length in lengths], make=make)
    made.prove()
    return made


def memories(source: Rollouts, chunks: int) -> np.ndarray:
    """What the agent had before each step, [T, E]."""
    found = [np.array(chunk.data.extras["memory"][..., 0]) for chunk in itertools.islice(source, chunks)]
    return np.concatenate(found)


def test_three_episodes_of_five_steps() -> None:
    """The memory runs 0..4 three times, also where a chunk begins in mid-episode."""
    found = memories(Rollouts(vector(5), Counter(), 4, [0]), 4)
    assert found[:15, 0].tolist() == [0, 1, 2, 3, 4] * 3


def test_every_environment_has_a_row_of_its_own() -> None:
    found = memories(Rollouts(vector(5, 3), Counter(), 15, [0, 1]), 1)
    assert found.T.tolist() == [[0, 1, 2, 3, 4] * 3, [0, 1, 2] * 5]


@pytest.mark.parametrize("sweeps", [1, 3, 4, 5, 6, 9])
def test_stopping_between_two_sweeps_keeps_the_memory(sweeps: int) -> None:
    expected = memories(Rollouts(vector(5, 3), Counter(), 4, [0, 1]), 4)
    interrupt = Interrupt()
    first = Rollouts(vector(5, 3), Counter(interrupt, sweeps), 4, [0, 1], interrupt)
    found = []
    with pytest.raises(Interrupted):
        for chunk in first:
            found.append(np.array(chunk.data.extras["memory"][..., 0]))
    second = Rollouts(vector(5, 3), Counter(), 4, [0, 1])
    second.load_state_dict(decode(*encode(first.state_dict())))
    found.append(memories(second, 4 - len(found)))
    assert np.array_equal(np.concatenate(found), expected)


def test_new_episodes_begin_where_environments_cannot_be_restored() -> None:
    interrupt = Interrupt()
    first = Rollouts(vector(5), Counter(interrupt, 2), 4, [0], interrupt)
    first.envs._proof = Proof("there is only one of its kind")
    with pytest.raises(Interrupted):
        next(iter(first))
    second = Rollouts(vector(5), Counter(), 4, [0])
    second.load_state_dict(decode(*encode(first.state_dict())))
    assert memories(second, 1)[:, 0].tolist() == [0, 1, 0, 1]


def test_a_memory_of_another_shape_is_refused() -> None:
    acting = Acting(Counter(), 2)
    with pytest.raises(ValueError, match="a memory of shape"):
        acting.load_state_dict({"memory": np.zeros((3, 1), np.float32)})


class Forgetful(Counter):
    """Has no memory."""

    def initial_memory(self, num_envs: int) -> None:
        return None

    def act(self, obs: np.ndarray, memory: Any, *, explore: bool, env_steps: int) -> Any:
        assert memory is None
        return np.zeros(len(obs), np.int64), None, {}


def test_nothing_is_recorded_of_an_agent_without_memory() -> None:
    source = Rollouts(vector(5), Forgetful(), 7, [0])
    assert not next(iter(source)).data.extras
    assert "memory" not in source.state_dict()


class Walker(Counter):
    """Acts on its memory: the return tells how long it remembered."""

    def act(self, obs: np.ndarray, memory: Any, *, explore: bool, env_steps: int) -> Any:
        return (memory[:, 0].astype(np.int64) % 3), memory + 1, {}


@pytest.mark.parametrize("max_steps", [None, 4])
def test_evaluation_is_the_same_with_any_number_of_environments(max_steps: int | None) -> None:
    """Rewards are the actions, which are 0 1 2 0 1 2 ... of each episode."""

    def play(count: int) -> list[float]:
        envs = InProcess([gym.make("rlrun/Toy-v0", disable_env_checker=True) for _ in range(count)])
        return evaluate(Walker(), envs, range(5), max_steps=max_steps).returns.tolist()

    assert play(1) == play(2) == play(3) == [9.0 if max_steps is None else 3.0] * 5


def test_evaluation_of_episodes_that_end_at_different_times() -> None:
    """Three lengths side by side: each agent's memory is that of its own episode."""
    seen: list[tuple[float, float]] = []

    class Spy(Counter):
        def act(self, obs: np.ndarray, memory: Any, *, explore: bool, env_steps: int) -> Any:
            seen.extend(zip(obs[:, 0].tolist(), memory[:, 0].tolist(), strict=True))
            return super().act(obs, memory, explore=explore, env_steps=env_steps)

    evaluate(Spy(), vector(2, 3, 7), range(9))
    assert len(seen) > 30 and all(steps == counted for steps, counted in seen)


class Still(Counter):
    """Always acts alike, without memory."""

    def __init__(self, action: float):
        self.action = action

    def initial_memory(self, num_envs: int) -> Any:
        return None

    def act(self, obs: np.ndarray, memory: Any, *, explore: bool, env_steps: int) -> Any:
        return np.full((len(obs), 1), self.action, np.float32), None, {}


class Refuses(gym.Wrapper):
    def step(self, action: Any) -> Any:
        raise RuntimeError("not today")


@pytest.mark.parametrize("training", [True, False])
def test_a_policy_that_acts_by_no_number_has_diverged_and_its_environment_has_not_failed(training: bool) -> None:
    def play(action: float, *wrap: Any) -> None:
        env: gym.Env = gym.make("Pendulum-v1", disable_env_checker=True)
        for wrapper in wrap:
            env = wrapper(env)
        if training:
            next(iter(Rollouts(InProcess([env]), Still(action), 4, [0])))
        else:
            evaluate(Still(action), InProcess([env]), [0], max_steps=4)

    play(1.0)
    with pytest.raises(Diverged, match=r"the policy's actions are not finite at env step 0: \[\[nan\]\]"):
        play(np.nan)
    with pytest.raises(EnvError, match="not today"):
        play(1.0, Refuses)
