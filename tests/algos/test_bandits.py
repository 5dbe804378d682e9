from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits.eps_greedy import EpsGreedy, EpsGreedyConfig
from rlrun.algos.bandits.ucb import UCB, UCBConfig
from rlrun.algos.baselines.fixed import Fixed, FixedConfig
from rlrun.algos.baselines.random import Random, RandomConfig
from rlrun.errors import ConfigError
from rlrun.state import generator_state
from rlrun.types import Array, EnvSpec, Metrics, Progress, Rollout, Space


def discrete(n: int) -> Space:
    return Space("discrete", (), np.dtype(np.int64), n=n)


CHOICES = Space("multi_discrete", (2,), np.dtype(np.int64), nvec=(2, 3))
BITS = Space("multi_binary", (3,), np.dtype(np.int8))


def box(low: Any, high: Any) -> Space:
    low = np.array(low, np.float32)
    return Space("box", low.shape, low.dtype, low=low, high=np.array(high, np.float32))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def eps_greedy(
    contexts: int = 1, arms: int = 2, epsilon: float = 0.1, seed: int = 0, obs: Space | None = None
) -> EpsGreedy:
    return EpsGreedy(
        EpsGreedyConfig(epsilon=epsilon),
        Kit(EnvSpec("bandit", obs or discrete(contexts), discrete(arms)), rng=rng(seed)),
    )


def ucb(contexts: int = 1, arms: int = 2, confidence: float = 1.0, seed: int = 0) -> UCB:
    return UCB(
        UCBConfig(confidence=confidence), Kit(EnvSpec("bandit", discrete(contexts), discrete(arms)), rng=rng(seed))
    )


def pull(algo: Any, context: Any, arm: Any, reward: Any, next_context: Any = None) -> Metrics:
    """One sweep: lists over the environments, all of whose episodes end."""
    obs = np.array([context, context if next_context is None else next_context])
    ends = np.ones((1, len(arm)), bool)
    final = {(0, e): obs[1, e] for e in range(len(arm))}
    rewards = np.array([reward], np.float32)
    return algo.learn(Rollout(obs, np.array([arm]), rewards, ends, ~ends, final, {}), Progress(1))


def choose(algo: Any, obs: Any, explore: bool = True) -> Array:
    return algo.agent.act(np.asarray(obs), None, explore=explore, env_steps=0)[0]


# Sample averages


def test_average_by_hand() -> None:
    algo = eps_greedy()
    assert algo.averages.mean.tolist() == [[0, 0]]
    for reward, mean in ((1.0, 1.0), (0.0, 0.5), (4.0, 5 / 3)):
        pull(algo, [0], [1], [reward])
        assert algo.averages.mean[0].tolist() == pytest.approx([0, mean])
    assert algo.averages.count.tolist() == [[0, 3]]


def test_the_context_that_was_acted_on_learns() -> None:
    algo = eps_greedy(contexts=3)
    pull(algo, [2], [0], [5.0], next_context=[1])
    assert algo.averages.mean.tolist() == [[0, 0], [0, 0], [5, 0]]


def test_one_hot_contexts_are_the_same_as_numbers() -> None:
    algo = eps_greedy(obs=box([0, 0, 0], [1, 1, 1])._replace(one_hot=True))
    one_hot = np.eye(3, dtype=np.float32)
    pull(algo, one_hot[[2, 0]], [0, 1], [5.0, 7.0], next_context=one_hot[[1, 1]])
    assert algo.averages.mean.tolist() == [[0, 7], [0, 0], [5, 0]]
    assert choose(algo, one_hot[[2, 0]], explore=False).tolist() == [0, 1]


def test_the_same_arm_several_times_in_one_sweep() -> None:
    rewards = rng().normal(size=(40, 6))
    together, apart = eps_greedy(arms=1), eps_greedy(arms=1)
    for sweep in rewards.astype(np.float32):
        pull(together, [0] * 6, [0] * 6, sweep)
        for reward in sweep:
            pull(apart, [0], [0], [reward])
    assert together.averages.count.item() == 240
    assert together.averages.mean.item() == apart.averages.mean.item()
    assert together.averages.mean.item() == pytest.approx(rewards.mean(), abs=1e-6)


@pytest.mark.parametrize(("arm", "p"), [(0, 0.1), (1, 0.9)])
def test_always_one_bernoulli_arm(arm: int, p: float) -> None:
    """Arms with success probabilities .1 and .9: 20 000 pulls of either average to it."""
    env = EnvSpec("bandit", discrete(1), discrete(2))
    fixed, algo = Fixed(FixedConfig(action=arm), Kit(env, rng=rng())), eps_greedy()
    world, successes = rng(1), np.array([0.1, 0.9])
    for _ in range(1000):
        arms = choose(fixed, np.zeros(20, np.int64))
        pull(algo, [0] * 20, arms, world.random(20) < successes[arms])
    assert algo.averages.count[0, arm] == 20_000
    assert algo.averages.mean[0, arm] == pytest.approx(p, abs=0.01)
    assert algo.averages.mean[0, 1 - arm] == 0


# Choosing


def test_epsilon_greedy_shares() -> None:
    algo = eps_greedy(contexts=2, arms=5, epsilon=0.3)
    pull(algo, [0, 1], [3, 1], [1.0, 1.0])
    share = np.bincount(choose(algo, np.zeros(20_000, np.int64)), minlength=5) / 20_000
    assert share == pytest.approx([0.06, 0.06, 0.06, 0.76, 0.06], abs=0.01)
    assert choose(algo, [0, 1, 0], explore=False).tolist() == [3, 1, 3]


def test_upper_bounds_by_hand() -> None:
    """Averages .5 of 1 pull and .6 of 3: bounds .5 + sqrt(2 ln 4) and .6 + sqrt(2 ln 4 / 3); the third arm is new."""
    algo = ucb(contexts=2, arms=3, confidence=1.0)
    for arm, reward in ((0, 0.5), (1, 0.5), (1, 0.6), (1, 0.7)):
        pull(algo, [1], [arm], [reward])
    bounds = algo.bounds(np.array([1, 0]))
    assert bounds[0] == pytest.approx([2.165109, 1.561351, math.inf], abs=1e-6)
    assert bounds[1].tolist() == [math.inf] * 3  # the other context knows nothing of these pulls
    pull(algo, [1], [2], [0.0])
    assert algo.bounds(np.array([1]))[0] == pytest.approx([0.5 + 1.794123, 0.6 + 1.035837, 1.794123], abs=1e-6)
    assert choose(algo, [1]).tolist() == [0]
    assert choose(algo, [1], explore=False).tolist() == [1]


def test_confidence_scales_the_width() -> None:
    wide, none = ucb(confidence=3.0), ucb(confidence=0.0)
    for algo in (wide, none):
        pull(algo, [0, 0], [0, 1], [0.25, 0.75])
    assert none.bounds(np.array([0]))[0].tolist() == [0.25, 0.75]
    assert wide.bounds(np.array([0]))[0] == pytest.approx(
        [0.25 + 3 * math.sqrt(2 * math.log(2)), 0.75 + 3 * math.sqrt(2 * math.log(2))]
    )


def test_ucb_tries_every_arm_once_in_random_order() -> None:
    orders = set()
    for seed in range(20):
        algo, order = ucb(arms=4, seed=seed), []
        for _ in range(4):
            (arm,) = choose(algo, [0])
            pull(algo, [0], [arm], [100.0 if arm == 0 else 0.0])
            order.append(int(arm))
        assert sorted(order) == [0, 1, 2, 3]
        orders.add(tuple(order))
    assert len(orders) > 10


@pytest.mark.parametrize("make", [eps_greedy, ucb])
def test_resume_continues_averages_and_stream(make: Callable[..., Any]) -> None:
    def play(algo: Any, steps: int, seed: int) -> list[list[int]]:
        world, arms = rng(seed), []
        for _ in range(steps):
            context = world.integers(3, size=4)
            arm = choose(algo, context)
            pull(algo, context, arm, world.random(4) < 0.5)
            arms.append(arm.tolist())
        return arms

    algo = make(contexts=3, arms=4)
    play(algo, 10, seed=1)
    state = algo.state_dict()
    expected = play(algo, 50, seed=2)
    again = make(contexts=3, arms=4, seed=99)
    again.load_state_dict(state)
    assert play(again, 50, seed=2) == expected
    assert (again.averages.mean == algo.averages.mean).all()
    assert (again.averages.count == algo.averages.count).all()


@pytest.mark.parametrize("make", [eps_greedy, ucb])
def test_greedy_play_draws_nothing_and_forks_draw_elsewhere(make: Callable[..., Any]) -> None:
    algo = make(arms=6)
    before = generator_state(algo.rng)
    assert choose(algo, [0] * 30, explore=False).tolist() == [0] * 30
    fork = algo.agent.fork(rng(5))
    draws = fork.act(np.zeros(30, np.int64), None, explore=True, env_steps=0)[0]
    assert len(set(draws.tolist())) > 1
    assert generator_state(algo.rng) == before


def test_impossible_options_name_their_key() -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        EpsGreedyConfig(epsilon=1.5)
    with pytest.raises(ConfigError, match="confidence"):
        UCBConfig(confidence=-1)


# Baselines


def uniform(action_space: Space, seed: int = 0) -> Random:
    return Random(RandomConfig(), Kit(EnvSpec("test", discrete(1), action_space), rng=rng(seed)))


@pytest.mark.parametrize("explore", [True, False])
def test_random_is_uniform_over_a_discrete_space(explore: bool) -> None:
    action = choose(uniform(discrete(4)), np.zeros(8000), explore)
    assert action.dtype == np.int64
    assert np.bincount(action) / 8000 == pytest.approx([0.25] * 4, abs=0.02)


def test_random_is_uniform_inside_each_dimension_of_a_box() -> None:
    action = choose(uniform(box([-2, 0], [2, 10])), np.zeros((8000, 3)))
    assert action.shape == (8000, 2)
    assert action.dtype == np.float32
    assert action.mean(axis=0) == pytest.approx([0, 5], abs=0.2)
    assert action.std(axis=0) == pytest.approx([4 / math.sqrt(12), 10 / math.sqrt(12)], rel=0.03)
    assert (action >= [-2, 0]).all() and (action <= [2, 10]).all()


def test_random_needs_bounds() -> None:
    with pytest.raises(ConfigError, match="unbounded"):
        uniform(box([-np.inf], [np.inf]))


def test_random_resumes_and_forks() -> None:
    algo, obs = uniform(discrete(100)), np.zeros(10)
    choose(algo, obs)
    state = algo.state_dict()
    fork = algo.agent.fork(rng(3))
    assert fork.act(obs, None, explore=False, env_steps=0)[0].tolist() == rng(3).integers(100, size=10).tolist()
    assert algo.state_dict() == state
    expected = choose(algo, obs).tolist()
    algo.load_state_dict(state)
    assert choose(algo, obs).tolist() == expected
    assert choose(algo, obs).tolist() != expected


def fixed(action: Any, action_space: Space) -> Fixed:
    return Fixed(FixedConfig(action=action), Kit(EnvSpec("test", discrete(1), action_space), rng=rng()))


def test_fixed_plays_its_action() -> None:
    algo = fixed(1, discrete(3))
    assert choose(algo, np.zeros(4)).tolist() == [1, 1, 1, 1]
    assert choose(algo, np.zeros(2), explore=False).dtype == np.int64
    space = box([-2, 0], [2, 10])
    assert choose(fixed([0.5, 7], space), np.zeros(2)).tolist() == [[0.5, 7], [0.5, 7]]
    assert choose(fixed(1.5, space), np.zeros(1)).tolist() == [[1.5, 1.5]]
    assert choose(fixed(1.5, space), np.zeros(1)).dtype == np.float32
    assert choose(fixed([1, 2], CHOICES), np.zeros(2)).tolist() == [[1, 2], [1, 2]]
    assert choose(fixed(1, BITS), np.zeros(1)).tolist() == [[1, 1, 1]]
    assert choose(fixed(1, BITS), np.zeros(1)).dtype == np.int8


def test_fixed_actions_are_not_shared_between_steps() -> None:
    agent = fixed([0.5, 7], box([-2, 0], [2, 10])).agent
    agent.act(np.zeros(2), None, explore=True, env_steps=0)[0][:] = 9
    assert agent.act(np.zeros(1), None, explore=True, env_steps=0)[0].tolist() == [[0.5, 7]]


@pytest.mark.parametrize(
    ("action", "space", "says"),
    [
        (3, discrete(3), "from 0 to 2, got 3"),
        (-1, discrete(3), "from 0 to 2"),
        (0.5, discrete(3), "whole number"),
        ([1], discrete(3), "whole number"),
        (None, discrete(3), "whole number"),
        ("left", discrete(3), "number or a list"),
        ([1, [2]], discrete(3), "number or a list"),
        ([1.0], box([-2, 0], [2, 10]), r"shape \(2,\)"),
        ([1.0, 11.0], box([-2, 0], [2, 10]), "must lie between"),
        (-1.0, box([-2, 0], [2, 10]), "must lie between"),
        ([1, 3], CHOICES, "must lie between"),
        ([1, 0.5], CHOICES, "must be whole numbers"),
        ([0, 2, 0], BITS, "must lie between"),
    ],
)
def test_fixed_refuses_actions_outside_the_space(action: Any, space: Space, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        fixed(action, space)
    assert error.value.key == "algo.action"


def mixed(p: Any, action_space: Space | None = None) -> Fixed:
    return Fixed(FixedConfig(p=p), Kit(EnvSpec("test", discrete(1), action_space or discrete(3)), rng=rng(1)))


def test_fixed_probabilities() -> None:
    algo, obs = mixed([0.2, 0.0, 0.8]), np.zeros(10_000)
    state = algo.state_dict()
    drawn = choose(algo, obs)
    assert np.bincount(drawn, minlength=3) / 10_000 == pytest.approx([0.2, 0, 0.8], abs=0.01)
    assert choose(algo, obs[:3], explore=False).tolist() == [2, 2, 2]
    algo.load_state_dict(state)
    assert (choose(algo, obs) == drawn).all()


@pytest.mark.parametrize(
    ("p", "space", "says"),
    [
        ([0.5, 0.5], discrete(3), "must hold 3 probabilities, one per action, got 2"),
        ([0.5, 0.6, -0.1], discrete(3), "at least 0 and sum to 1"),
        ([0.5, 0.5, 0.5], discrete(3), "at least 0 and sum to 1"),
        ([1.0], box([-1], [1]), "only discrete actions have one, these are box"),
    ],
)
def test_fixed_refuses_what_is_no_distribution(p: Any, space: Space, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        mixed(p, space)
    assert error.value.key == "algo.p"
