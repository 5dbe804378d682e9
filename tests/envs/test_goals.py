"""Goal environments: what they tell of goals that were not given."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlrun.envs import goaltoys
from rlrun.envs.goals import goals_of
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig, NormalizeConfig
from rlrun.envs.spaces import to_space
from rlrun.errors import EnvError
from rlrun.seeding import SeedTree
from rlrun.types import ACHIEVED, DESIRED, EnvSpec, Goals


def spec(**options: Any) -> EnvSpec:
    return GymEnvs(EnvConfig(**{"id": "rlrun/BitFlip-v0"} | options), SeedTree(0)).spec(1)


def told(env: gym.Env) -> Goals:
    goals = goals_of(env, to_space(env.observation_space))
    assert goals is not None
    return goals


@pytest.mark.parametrize("env", [goaltoys.BitFlipEnv(3), goaltoys.ReachEnv(near=0.6)], ids=["bits", "reach"])
def test_what_is_told_is_what_a_step_says(env: gym.Env) -> None:
    goals, steps = told(env), []
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(400):
        obs, reward, over, cut, info = env.step(env.action_space.sample())
        steps.append((obs[ACHIEVED], obs[DESIRED], reward, over))
        assert not (over and cut) and info["is_success"] == over
        if over or cut:
            env.reset()
    achieved, desired, rewards, overs = map(np.array, zip(*steps, strict=True))
    found = goals.reward(achieved, desired)
    assert found.dtype == np.float32 and found.tolist() == rewards.tolist()
    assert goals.terminated is not None and goals.terminated(achieved, desired).tolist() == overs.tolist()
    assert 0 < overs.sum() < len(overs)


class Sparse(goaltoys.ReachEnv):
    """Its functions take one pair of goals, and one of them says so by what it does with several."""

    pairs = 0

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        self.pairs += 1
        return -1.0 if float(np.linalg.norm(achieved_goal - desired_goal)) > 0.5 else 0.0

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        return info["terminated"]  # type: ignore[no-any-return]


def test_a_function_of_one_pair_is_called_for_each() -> None:
    env = Sparse()
    goals = told(env)
    rng = np.random.default_rng(0)
    achieved, desired = rng.uniform(-1, 1, (2, 50, 2)).astype(np.float32)
    before = env.pairs
    expected = np.where(np.linalg.norm(achieved - desired, axis=-1) > 0.5, -1, 0)
    assert goals.reward(achieved, desired).tolist() == expected.tolist()
    assert env.pairs >= before + 50
    assert goals.reward(achieved[:0], desired[:0]).tolist() == []


def test_a_function_that_fails_is_named() -> None:
    goals = told(Sparse())
    assert goals.terminated is not None
    with pytest.raises(EnvError, match=r"Sparse: compute_terminated\(.*\) failed\nKeyError: 'terminated'"):
        goals.terminated(np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32))
    env = Sparse()
    env.compute_reward = lambda *_: np.nan  # type: ignore[method-assign]
    with pytest.raises(EnvError, match=r"of 1 pairs of goals it returned \[nan\]"):
        told(env).reward(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32))


def test_who_has_no_goals_tells_nothing() -> None:
    assert spec(id="CartPole-v1").goals is None
    assert spec(id="rlrun/Parts-v0").goals is None


def test_rewards_are_those_of_training() -> None:
    zeros, ones = np.zeros((1, 15), np.int8), np.ones((1, 15), np.int8)
    goals = spec(reward_scale=3.0, reward_clip=2.0).goals
    assert goals is not None and goals.obstacle == ""
    assert [goals.reward(zeros, other).tolist() for other in (zeros, ones)] == [[0.0], [-2.0]]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("env.frame_stack", {"frame_stack": 2}),
        ("env.normalize.obs", {"normalize": NormalizeConfig(obs=True)}),
        ("env.normalize.reward", {"normalize": NormalizeConfig(reward=True)}),
    ],
)
def test_an_option_that_changes_goals_or_rewards_is_named(option: str, words: dict[str, Any]) -> None:
    goals = spec(id="rlrun/Reach-v0", **words).goals
    assert goals is not None and goals.obstacle == option
