"""The sources give what the real PTAN 0.4 gives, item by item; runs where the extra `oracle` is installed.

PTAN was written for Gym and OpenCV. Gymnasium stands in for the one, nothing for the other, and the toys speak to it as
environments did then: `reset() -> obs`, `step() -> obs, reward, done, info`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from itertools import islice, product
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from rlrun.agents import ActorCriticAgent, ArgmaxActionSelector, BaseAgent
from rlrun.envs.toy import CountingEnv, ToyEnv
from rlrun.experience import ExperienceSource, ExperienceSourceFirstLast, ExperienceSourceRollouts

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ptan") is None, reason="needs the real PTAN: pip install 'rlrun[oracle]'"
)


@pytest.fixture(scope="module")
def ptan() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in {"gym": gym, "gym.spaces": gym.spaces, "cv2": MagicMock()}.items():
            if name not in sys.modules:
                patch.setitem(sys.modules, name, stand_in)
        if not hasattr(np, "bool"):
            patch.setattr(np, "bool", bool, raising=False)
        yield importlib.import_module("ptan")


class OldStyle(gym.Env):
    """An environment as Gym had them."""

    def __init__(self, env: gym.Env):
        self.env, self.action_space = env, env.action_space

    def reset(self) -> Any:  # type: ignore[override]
        return self.env.reset()[0]

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated or truncated, info


def acts(states: list[Any]) -> list[int]:
    """Depends on what is seen."""
    return [int(np.sum(state)) % 2 for state in states]


class Ours(BaseAgent):
    def __call__(self, states: Any, agent_states: Any = None) -> Any:
        return acts(states), agent_states


def theirs(ptan: ModuleType) -> Any:
    class Theirs(ptan.agent.BaseAgent):
        def __call__(self, states: Any, agent_states: Any = None) -> Any:
            return acts(states), agent_states

    return Theirs()


POOLS = {
    "toy": lambda: [ToyEnv()],
    "notebook": lambda: [ToyEnv("notebook")],
    "two": lambda: [ToyEnv(), ToyEnv("notebook")],
    "lengths": lambda: [CountingEnv(length) for length in (1, 3, 7, 12)],
}


def number(obs: Any) -> float | None:
    return None if obs is None else float(np.sum(obs))


WAYS = list(product(range(1, 10), (1, 2, 3)))  # n, steps_delta


@pytest.mark.parametrize("pool", POOLS)
def test_windows(ptan: ModuleType, pool: str) -> None:
    def windows(source: Any) -> list[Any]:
        items = islice(source, 150)
        return [[(number(s.state), s.action, s.reward, s.done) for s in window] for window in items]

    for n, delta in WAYS:
        mine = ExperienceSource(POOLS[pool](), Ours(), n, delta)
        other = ptan.experience.ExperienceSource([OldStyle(env) for env in POOLS[pool]()], theirs(ptan), n, delta)
        assert windows(mine) == windows(other), (n, delta)
        assert mine.pop_rewards_steps() == other.pop_rewards_steps(), (n, delta)


@pytest.mark.parametrize("pool", POOLS)
def test_first_and_last(ptan: ModuleType, pool: str) -> None:
    for n, delta in WAYS:
        mine = ExperienceSourceFirstLast(POOLS[pool](), Ours(), 0.9, n, delta)
        old = [OldStyle(env) for env in POOLS[pool]()]
        other = ptan.experience.ExperienceSourceFirstLast(old, theirs(ptan), 0.9, n, delta)
        for a, b in islice(zip(mine, other, strict=True), 150):
            assert a.action == b.action == acts([b.state])[0]
            assert (number(a.state), number(a.last_state)) == (number(b.state), number(b.last_state)), (n, delta)
            assert a.reward == pytest.approx(b.reward, rel=1e-6), (n, delta)
            assert mine.pop_rewards_steps() == other.pop_rewards_steps(), (n, delta)


def test_only_what_is_cut_is_told_otherwise(ptan: ModuleType) -> None:
    """The same stream, but that what came after a cut is not forgotten."""

    def pool() -> list[gym.Env]:
        return [TimeLimit(CountingEnv(100), 4), TimeLimit(CountingEnv(6), 9)]

    mine = ExperienceSourceFirstLast(pool(), Ours(), 0.9, 3)
    other = ptan.experience.ExperienceSourceFirstLast([OldStyle(env) for env in pool()], theirs(ptan), 0.9, 3)
    differ = 0
    for a, b in islice(zip(mine, other, strict=True), 100):
        assert (number(a.state), a.action, number(a.last_state) if not a.truncated else None) == (
            *(number(b.state), b.action),
            number(b.last_state),
        )
        assert a.reward == pytest.approx(b.reward, rel=1e-6)
        differ += a.truncated
    assert differ > 20


@pytest.mark.parametrize("pool", ["two", "lengths"])
def test_rollouts(ptan: ModuleType, pool: str) -> None:
    def model(states: Any) -> Any:
        seen = states.float().reshape(len(states), -1)[:, :1]
        return -((seen.round() % 2) - seen.new_tensor([[0.0, 1.0]])).abs(), 0.1 * seen

    agent = ptan.agent.ActorCriticAgent(
        model, ptan.actions.ArgmaxActionSelector(), preprocessor=ptan.agent.float32_preprocessor
    )
    for steps in (1, 3, 4, 5, 9):
        mine = ExperienceSourceRollouts(POOLS[pool](), ActorCriticAgent(model, ArgmaxActionSelector()), 0.9, steps)
        other = ptan.experience.ExperienceSourceRollouts([OldStyle(env) for env in POOLS[pool]()], agent, 0.9, steps)
        for a, b in islice(zip(mine, other, strict=True), 20):
            for ours, others in zip(a, b, strict=True):
                assert ours.shape == others.shape
                assert ours == pytest.approx(others, rel=1e-5)
            assert mine.pop_rewards_steps() == other.pop_rewards_steps()
