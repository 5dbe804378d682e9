"""Multi-armed bandits against plain loops, closed forms and the textbook's figures; their books and their report."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bandit_report
import gymnasium as gym
import numpy as np
import pytest
from scipy import stats

from rlrun.algos.algorithm import Kit
from rlrun.algos.bandits.bandit import Averages
from rlrun.algos.bandits.bayes_ucb import BayesUCB, BayesUCBConfig
from rlrun.algos.bandits.beliefs import BeliefConfig
from rlrun.algos.bandits.beliefs import make as make_belief
from rlrun.algos.bandits.eps_greedy import EpsGreedy, EpsGreedyConfig
from rlrun.algos.bandits.exp3 import Exp3, Exp3Config, best_mixing
from rlrun.algos.bandits.gradient_bandit import GradientBandit, GradientBanditConfig
from rlrun.algos.bandits.kl_ucb import KLUCB, KLUCBConfig, bernoulli_bound
from rlrun.algos.bandits.thompson import Thompson, ThompsonConfig
from rlrun.algos.bandits.ucb import UCB, UCBConfig
from rlrun.envs.bandits.arms import BernoulliBandits, BernoulliConfig, GaussianBandits, GaussianConfig
from rlrun.envs.bandits.regret import RegretMeter
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import ConfigError, RlrunError
from rlrun.experience.rollouts import Rollouts
from rlrun.run.callbacks.bandits import BanditReport
from rlrun.rundir.codec import decode, encode
from rlrun.seeding import SeedTree
from rlrun.types import Array, EnvSpec, Progress, Space

UNBOUNDED = (-math.inf, math.inf)


def spec(contexts: int = 1, arms: int = 2, rewards: tuple[float, float] | None = (0.0, 1.0)) -> EnvSpec:
    n_contexts, n_arms = (Space("discrete", (), np.dtype(np.int64), n=n) for n in (contexts, arms))
    return EnvSpec("Bandit", n_contexts, n_arms, reward_range=rewards)


def make(factory: Any, cfg: Any, env: EnvSpec | None = None, seed: int = 0) -> Any:
    return factory(cfg, Kit(env or spec(), rng=np.random.default_rng(seed), total_timesteps=1000))


def add(memory: Any, *pulls: tuple[int, int, float]) -> None:
    """One sweep of (context, arm, reward)."""
    context, arm, reward = zip(*pulls, strict=True)
    memory.add(np.array(context), np.array(arm), np.array(reward, float))


def choose(algo: Any, contexts: Any, explore: bool = True) -> Array:
    return algo.agent.act(np.asarray(contexts), None, explore=explore, env_steps=0)[0]


class Training:
    """An algorithm on the real source and the real environments."""

    def __init__(self, algo: Any, envs: Any, seed: int = 0):
        self.algo = algo
        self.source = Rollouts(envs, algo.agent, 1, [seed * 1000 + e for e in range(envs.num_envs)])
        self.stream = iter(self.source)

    def sweep(self) -> list[Any]:
        """One sweep; returns its arms and rewards."""
        rollout = next(self.stream).data
        self.algo.learn(rollout, Progress(1))
        return [rollout.action[0].tolist(), rollout.reward[0].tolist()]

    def sweeps(self, count: int) -> dict[str, float]:
        """Some sweeps; returns what the environments report of them."""
        for _ in range(count):
            self.sweep()
        return dict(self.source.metrics())


# The testbed


@pytest.mark.parametrize(
    ("factory", "cfg", "prior_mean", "optimal"),
    [
        (EpsGreedy, EpsGreedyConfig(epsilon=0.1), 0.0, 0.79),
        (EpsGreedy, EpsGreedyConfig(epsilon=0.01), 0.0, 0.61),
        (EpsGreedy, EpsGreedyConfig(epsilon=0.0), 0.0, 0.35),
        (UCB, UCBConfig(confidence=math.sqrt(2)), 0.0, 0.87),  # Sutton & Barto's c = 2
        (GradientBandit, GradientBanditConfig(learning_rate=0.1), 4.0, 0.85),
        (GradientBandit, GradientBanditConfig(learning_rate=0.1, baseline=False), 4.0, 0.45),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_ten_armed_testbed(factory: Any, cfg: Any, prior_mean: float, optimal: float, seed: int) -> None:
    """Sutton & Barto 2018, figures 2.2, 2.4 and 2.5: how often the best arm is pulled in the last 100 of 1000 steps."""
    options = GaussianConfig(bandits=300, arms=10, prior="normal", prior_mean=prior_mean, assign="fixed")
    envs = GaussianBandits(options, SeedTree(seed)).train(300)
    training = Training(make(factory, cfg, envs.spec, seed), envs, seed)
    training.sweeps(900)
    assert training.sweeps(100)["bandit/optimal_share"] == pytest.approx(optimal, abs=0.07)


@pytest.mark.parametrize(
    ("factory", "cfg", "regret"),
    [
        (Thompson, ThompsonConfig(), 0.02),
        (KLUCB, KLUCBConfig(), 0.03),
        (BayesUCB, BayesUCBConfig(), 0.03),
        (BayesUCB, BayesUCBConfig(index="quantile"), 0.03),
        (UCB, UCBConfig(), 0.08),
        (GradientBandit, GradientBanditConfig(), 0.08),
        (Exp3, Exp3Config(mixing=0.1), 0.15),
    ],
)
def test_regret_on_bernoulli_arms(factory: Any, cfg: Any, regret: float) -> None:
    """50 copies of arms .2, .5, .8 in contexts of their own, 1000 pulls each; uniform play loses .3 per step."""
    options = BernoulliConfig(bandits=50, probs=[0.2, 0.5, 0.8], assign="fixed")
    envs = BernoulliBandits(options, SeedTree(0)).train(50)
    algo = make(factory, cfg, envs.spec)
    assert Training(algo, envs).sweeps(1000)["bandit/regret_per_step"] < regret
    assert choose(algo, range(50), explore=False).tolist().count(2) >= 45


# Averages


def test_a_sweep_counts_the_same_in_any_order() -> None:
    rng = np.random.default_rng(0)
    context, arm = rng.integers(3, size=40), rng.integers(4, size=40)
    reward = rng.integers(-8, 8, size=40) / 8  # sums of these are exact
    forward, backward = Averages((3, 4)), Averages((3, 4))
    forward.add(context, arm, reward)
    backward.add(context[::-1], arm[::-1], reward[::-1])
    for s, a in itertools.product(range(3), range(4)):
        mine = reward[(context == s) & (arm == a)]
        assert forward.count[s, a] == backward.count[s, a] == len(mine)
        assert forward.mean[s, a] == backward.mean[s, a] == (mine.mean() if len(mine) else 0)


# KL-UCB


def divergence(p: float, q: float) -> float:
    return float(stats.entropy([p, 1 - p], [q, 1 - q]))


@pytest.mark.parametrize("p", [0.0, 1e-3, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("budget", [1e-4, 0.01, 0.3, 2.0, 9.0])
def test_the_kl_bound_solves_its_equation(p: float, budget: float) -> None:
    (q,) = bernoulli_bound(np.array([p]), np.array([budget]))
    assert p < q <= 1
    assert divergence(p, q - 1e-9) < budget
    assert q + 1e-9 > 1 or divergence(p, q + 1e-9) > budget


def test_the_kl_bound_at_its_limits() -> None:
    p = np.array([0.0, 0.3, 1.0, 0.5])
    with np.errstate(all="raise"):
        q = bernoulli_bound(p, np.array([0.0, 0.0, 5.0, 1000.0]))
    assert q == pytest.approx([0.0, 0.3, 1.0, 1.0], abs=1e-12)


def test_kl_ucb_by_hand() -> None:
    """8 pulls: arm 0 paid 1 of 2, arm 1 4 of 6; arm 2 is new."""
    algo = make(KLUCB, KLUCBConfig(c=3.0), spec(arms=3))
    add(algo.averages, (0, 0, 1), (0, 0, 0), *[(0, 1, 1)] * 4, *[(0, 1, 0)] * 2)
    (bounds,) = algo.bounds(np.array([0]))
    budget = math.log(8) + 3 * math.log(math.log(8))
    assert 2 * divergence(0.5, bounds[0]) == pytest.approx(budget)
    assert 6 * divergence(4 / 6, bounds[1]) == pytest.approx(budget)
    assert bounds[2] == math.inf
    assert choose(algo, [0]).tolist() == [2]
    assert choose(algo, [0], explore=False).tolist() == [1]


def test_gaussian_kl_ucb_is_ucb1_scaled_by_the_noise() -> None:
    env = spec(2, 4, UNBOUNDED)
    kl, ucb = make(KLUCB, KLUCBConfig(divergence="gaussian", std=0.5), env), make(UCB, UCBConfig(confidence=0.5), env)
    for algo in (kl, ucb):
        add(algo.averages, (0, 0, 3), (0, 1, -2), (0, 1, 5), (1, 2, 9))
    contexts = np.array([0, 1])
    assert kl.bounds(contexts) == pytest.approx(ucb.bounds(contexts))


# Beliefs


def test_beta_posterior_by_hand() -> None:
    """Beta(2, 3) and rewards 1, 1, 0, 0.5 make Beta(4.5, 4.5)."""
    belief: Any = make_belief(BeliefConfig(alpha=2.0, beta=3.0), spec(arms=2))
    assert belief.mean.tolist() == [[0.4, 0.4]]
    add(belief, (0, 1, 1), (0, 1, 1), (0, 1, 0))
    add(belief, (0, 1, 0.5))
    context = np.array([0])
    alpha, beta = belief.parameters(context)
    assert (alpha.tolist(), beta.tolist()) == ([[2, 4.5]], [[3, 4.5]])
    assert belief.mean[0].tolist() == [0.4, 0.5]
    assert belief.std(context)[0] == pytest.approx([stats.beta(2, 3).std(), stats.beta(4.5, 4.5).std()])
    assert belief.quantile(context, np.array([[0.9]]))[0] == pytest.approx(stats.beta([2, 4.5], [3, 4.5]).ppf(0.9))
    draws = belief.sample(np.zeros(20_000, int), np.random.default_rng(0))
    assert stats.kstest(draws[:, 1], stats.beta(4.5, 4.5).cdf).pvalue > 0.01


def test_gaussian_posterior_by_hand() -> None:
    """Prior N(1, 2^2 / 4), noise 2, rewards 3 and 6: (4 * 1 + 9) / 6, variance 4 / 6."""
    belief: Any = make_belief(BeliefConfig("gaussian", prior_mean=1.0, prior_pulls=4.0, noise_std=2.0), spec())
    add(belief, (0, 0, 3), (0, 0, 6))
    context, truth = np.array([0]), stats.norm([13 / 6, 1.0], [2 / math.sqrt(6), 1.0])
    assert belief.mean[0] == pytest.approx([13 / 6, 1])
    assert belief.std(context)[0] == pytest.approx(truth.std())
    assert belief.quantile(context, np.array([[0.95]]))[0] == pytest.approx(truth.ppf(0.95))
    draws = belief.sample(np.zeros(20_000, int), np.random.default_rng(0))
    assert stats.kstest(draws[:, 0], stats.norm(13 / 6, 2 / math.sqrt(6)).cdf).pvalue > 0.01


def test_student_posterior_is_the_textbooks_in_any_grouping() -> None:
    cfg = BeliefConfig("gaussian", prior_mean=1.0, prior_pulls=0.5, noise_shape=2.0, noise_scale=3.0)
    rewards = np.random.default_rng(0).normal(1000, 2, 60)  # far from 0: sums of squares would lose digits
    grouped, single = (make_belief(cfg, spec(2, 3, UNBOUNDED)) for _ in range(2))
    grouped.add(np.repeat(1, 50), np.repeat(2, 50), rewards[:50])
    grouped.add(np.array([1, 0] * 10), np.array([2, 1] * 10), np.repeat(rewards[50:], 2))
    for r in rewards:
        add(single, (1, 2, r))
    n, k, mean = 60, 60.5, (0.5 * 1 + rewards.sum()) / 60.5
    a = 2.0 + n / 2
    b = 3.0 + ((rewards - rewards.mean()) ** 2).sum() / 2 + 0.5 * n * (rewards.mean() - 1) ** 2 / (2 * k)
    truth = stats.t(2 * a, mean, math.sqrt(b / (a * k)))
    context = np.array([1])
    for belief in (grouped, single):
        assert belief.mean[1, 2] == pytest.approx(mean, rel=1e-12)
        assert belief.std(context)[0, 2] == pytest.approx(truth.std(), rel=1e-9)
        assert belief.quantile(context, np.array([[0.8]]))[0, 2] == pytest.approx(truth.ppf(0.8), rel=1e-9)
        draws = belief.sample(np.ones(20_000, int), np.random.default_rng(0))
        assert stats.kstest(draws[:, 2], truth.cdf).pvalue > 0.01


def test_a_posterior_without_a_variance_reaches_infinitely_high() -> None:
    belief = make_belief(BeliefConfig("gaussian", noise_shape=1.0), spec(rewards=UNBOUNDED))
    add(belief, (0, 0, 5.0))
    first, second = belief.std(np.array([0]))[0]
    assert math.isfinite(first)
    assert second == math.inf


def test_thompson_pulls_an_arm_as_often_as_it_is_likely_to_be_the_best() -> None:
    algo = make(Thompson, ThompsonConfig())
    add(algo.belief, (0, 0, 1), (0, 1, 1), (0, 1, 1))  # Beta(2, 1) against Beta(3, 1): the second wins with 3 / 5
    assert choose(algo, np.zeros(20_000, int)).mean() == pytest.approx(0.6, abs=0.01)
    assert choose(algo, [0], explore=False).tolist() == [1]


def test_bayes_ucb_indices_by_hand() -> None:
    std, quantile = make(BayesUCB, BayesUCBConfig(confidence=2.0)), make(BayesUCB, BayesUCBConfig(index="quantile"))
    truth, context = stats.beta([2, 1], [2, 1]), np.array([0])
    assert quantile.quantiles(context).tolist() == [[0, 0]]  # the very first pull is anybody's
    for algo in (std, quantile):
        add(algo.belief, (0, 0, 1), (0, 0, 0))
    assert std.bounds(context)[0] == pytest.approx(truth.mean() + 2 * truth.std())
    assert quantile.quantiles(context)[0] == pytest.approx(truth.ppf(1 - 1 / 3))


# Gradient bandit


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_expected_step_is_the_policy_gradient(temperature: float) -> None:
    """Finite differences of sum_a pi(a) q(a); the factor 1 / temperature of the gradient is left to alpha."""
    q, start = np.array([0.3, -1.0, 2.0]), np.array([[0.5, -0.2, 0.1]])
    algo = make(
        GradientBandit, GradientBanditConfig(learning_rate=0.1, temperature=temperature), spec(arms=3)
    ).preferences
    algo.values[:] = start
    context = np.zeros(1, int)

    def expected(preferences: Array) -> float:
        algo.values[:] = preferences
        return float(algo.probabilities(context)[0] @ q)

    nudges = 1e-6 * np.eye(3)
    gradient = np.array([expected(start + nudge) - expected(start - nudge) for nudge in nudges]) / 2e-6
    algo.values[:] = start
    step = np.zeros(3)
    for arm, p in enumerate(algo.probabilities(context)[0]):
        algo.values[:] = start
        algo.count[:] = algo.total[:] = 0
        algo.add(context, np.array([arm]), q[[arm]])
        step += p * (algo.values[0] - start[0])
    assert step == pytest.approx(0.1 * temperature * gradient, abs=1e-9)


def test_gradient_steps_by_hand() -> None:
    """The baseline is the average before: 0, then 4. Both preferences start at 0, so pi is 1/2 at first."""
    algo = make(GradientBandit, GradientBanditConfig(learning_rate=0.1), spec(2)).preferences
    add(algo, (0, 0, 4.0))
    assert algo.values.tolist() == [[0.2, -0.2], [0, 0]]
    add(algo, (0, 1, 6.0), (1, 1, 1.0))
    step = 0.1 * (6 - 4) / (1 + math.exp(-0.4))
    assert algo.values[0] == pytest.approx([0.2 - step, -0.2 + step])
    assert algo.values[1] == pytest.approx([-0.05, 0.05])  # the other context compares with its own average, none yet
    assert algo.average(np.array([0, 1])).tolist() == [5, 1]


def test_steps_of_one_sweep_are_taken_at_the_policy_that_chose() -> None:
    pulls = [(0, 0, 1.0), (0, 1, 3.0), (0, 0, -1.0)]
    together = make(GradientBandit, GradientBanditConfig()).preferences
    add(together, *pulls)
    steps = []
    for pull in pulls:
        alone = make(GradientBandit, GradientBanditConfig()).preferences
        add(alone, pull)
        steps.append(alone.values)
    assert together.values == pytest.approx(sum(steps))


def test_gradient_bandit_without_baseline() -> None:
    algo = make(GradientBandit, GradientBanditConfig(learning_rate=0.1, baseline=False)).preferences
    add(algo, (0, 0, 4.0))
    add(algo, (0, 0, 4.0))
    assert algo.values[0, 0] == pytest.approx(0.2 + 0.1 * 4 / (1 + math.exp(0.4)))


def test_gradient_bandit_survives_huge_rewards_and_a_low_temperature() -> None:
    cfg = GradientBanditConfig(learning_rate=0.1, temperature=0.01)
    algo = make(GradientBandit, cfg, spec(3, 5, UNBOUNDED), seed=1)
    rng = np.random.default_rng(0)
    contexts = np.arange(3)
    for _ in range(5000):
        arm = choose(algo, contexts)
        algo.preferences.add(contexts, arm, 1000 * rng.normal(arm, 1.0))
    probabilities = algo.preferences.probabilities(contexts)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-12)
    assert np.isfinite(algo.preferences.values).all()


# EXP3


def test_exp3_is_the_papers_loop() -> None:
    """Weights multiplied one reward at a time, as in figure 1 of the paper."""
    algo = make(Exp3, Exp3Config(mixing=0.2, reward_range=[-1.0, 3.0]), spec(2, 3, None))
    rng, weights = np.random.default_rng(0), np.ones((2, 3))
    for _ in range(200):
        s, reward = int(rng.integers(2)), float(rng.uniform(-1, 3))
        p = 0.8 * weights[s] / weights[s].sum() + 0.2 / 3
        assert algo.gains.probabilities(np.array([s]))[0] == pytest.approx(p)
        arm = int(rng.choice(3, p=p))
        weights[s, arm] *= math.exp(0.2 / 3 * (reward + 1) / 4 / p[arm])
        add(algo.gains, (s, arm, reward))


def test_exp3_does_not_overflow_and_keeps_exploring() -> None:
    algo = make(Exp3, Exp3Config(mixing=0.5))
    with np.errstate(over="raise", invalid="raise"):
        for _ in range(20_000):
            add(algo.gains, (0, 1, 1.0))
    assert algo.gains.probabilities(np.array([0]))[0] == pytest.approx([0.25, 0.75])


def test_exp3_mixes_as_the_horizon_asks() -> None:
    assert best_mixing(10, 10_000) == pytest.approx(math.sqrt(10 * math.log(10) / ((math.e - 1) * 10_000)))
    assert best_mixing(10, 1) == 1.0
    algo = make(Exp3, Exp3Config(), spec(contexts=4, arms=10))
    assert algo.gains.mixing == best_mixing(10, 1000 / 4)


# Rewards outside the bounds


@pytest.mark.parametrize(
    ("factory", "cfg", "key", "says"),
    [
        (Thompson, ThompsonConfig(), "algo.prior", r"beta needs rewards in \[0, 1\].*\n.*algo.prior=gaussian"),
        (BayesUCB, BayesUCBConfig(), "algo.prior", r"beta needs rewards in \[0, 1\].*\n.*algo.prior=gaussian"),
        (KLUCB, KLUCBConfig(), "algo.divergence", r"bernoulli needs rewards in .*\n.*algo.divergence=gaussian"),
        (Exp3, Exp3Config(), "algo.reward_range", r"needs bounded rewards.*\n.*algo.reward_range=\[LOW,HIGH\]"),
    ],
)
def test_known_rewards_that_do_not_fit_are_refused_before_the_run(factory: Any, cfg: Any, key: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        make(factory, cfg, spec(rewards=UNBOUNDED))
    assert error.value.key == key


@pytest.mark.parametrize(
    ("factory", "cfg"),
    [
        (Thompson, ThompsonConfig()),
        (KLUCB, KLUCBConfig()),
        (Exp3, Exp3Config(reward_range=[0.0, 1.0])),
    ],
)
@pytest.mark.parametrize("reward", [1.5, -0.1])
def test_rewards_nobody_told_of_are_refused_when_they_come(factory: Any, cfg: Any, reward: float) -> None:
    class Surprising(gym.Env):
        observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(2)

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return 0, {}

        def step(self, action: Any) -> Any:
            return 0, reward, True, False, {}

    envs = InProcess([Surprising()])
    with pytest.raises(RlrunError, match=r"a reward of .* came, outside \[0, 1\]"):
        Training(make(factory, cfg, envs.spec), envs).sweep()


def test_impossible_options_name_their_key() -> None:
    for config, options, key in (
        (ThompsonConfig, {"prior": "normal"}, "prior"),
        (ThompsonConfig, {"alpha": 0.0}, "alpha"),
        (BayesUCBConfig, {"index": "mean"}, "index"),
        (BayesUCBConfig, {"confidence": -1.0}, "confidence"),
        (KLUCBConfig, {"divergence": "beta"}, "divergence"),
        (GradientBanditConfig, {"temperature": 0.0}, "temperature"),
        (Exp3Config, {"mixing": 1.5}, "mixing"),
        (Exp3Config, {"reward_range": [1.0, 0.0]}, "reward_range"),
    ):
        with pytest.raises(ConfigError) as error:
            config(**options)
        assert error.value.key == key


# Resuming


ALL = [
    (Thompson, ThompsonConfig()),
    (Thompson, ThompsonConfig(prior="gaussian")),
    (BayesUCB, BayesUCBConfig()),
    (KLUCB, KLUCBConfig()),
    (UCB, UCBConfig()),
    (GradientBandit, GradientBanditConfig()),
    (Exp3, Exp3Config()),
]


@pytest.mark.parametrize(("factory", "cfg"), ALL)
def test_a_resumed_bandit_goes_on_exactly(factory: Any, cfg: Any) -> None:
    """Agent, environments and books: 40 copies that share 3 contexts, so that one sweep hits an arm several times."""

    def training(seed: int) -> tuple[BernoulliBandits, Training]:
        bandits = BernoulliBandits(BernoulliConfig(bandits=3, arms=4, drift=0.01), SeedTree(0))
        envs = bandits.train(40)
        return bandits, Training(make(factory, cfg, envs.spec, seed), envs)

    def go_on(run: Training) -> list[Any]:
        return [(run.sweep(), dict(run.source.metrics())) for _ in range(30)]

    (bandits, first), (others, second) = training(0), training(99)
    go_on(first)
    parts = {"environments": bandits, "algo": first.algo, "source": first.source}
    saved = decode(*encode({name: part.state_dict() for name, part in parts.items()}))
    for name, part in {"environments": others, "algo": second.algo, "source": second.source}.items():
        part.load_state_dict(saved[name])
    assert go_on(second) == go_on(first)


# The books


def test_moving_averages_cover_the_last_twentieth() -> None:
    """Rows every 10 steps, 400 in all: the last average is that of 20 steps; early ones reach back by a row."""
    meter, rng = RegretMeter(arms=2), np.random.default_rng(0)
    rewards, regrets = [], []
    for row in range(1, 41):
        for _ in range(10):
            reward, regret = rng.random(1), rng.random(1)
            meter.add(np.array([1]), reward, regret)
            rewards.append(reward[0]), regrets.append(regret[0])
        metrics = meter.metrics()
        window = max(10, 10 * math.ceil(row / 20))
        assert metrics["bandit/reward_moving_avg"] == pytest.approx(np.mean(rewards[-window:]))
        assert metrics["bandit/regret_moving_avg"] == pytest.approx(np.mean(regrets[-window:]))
        assert metrics["bandit/regret"] == pytest.approx(np.mean(regrets[-10:]))
        assert metrics["bandit/cumulative_reward"] == pytest.approx(sum(rewards))
        assert metrics["bandit/regret_per_step"] == pytest.approx(np.mean(regrets))
        assert "bandit/realised_regret" not in metrics  # nobody told


class ThreeDoors(gym.Env):
    """Somebody's own bandit in ten lines: door a pays a with chance one half."""

    observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> Any:
        paid = float(action) * (self.np_random.random() < 0.5)
        return 0, paid, True, False, {"regret": (2 - action) / 2}


def test_an_environment_of_ones_own_reports_its_regret() -> None:
    envs, again = InProcess([ThreeDoors(), ThreeDoors()]), InProcess([ThreeDoors(), ThreeDoors()])
    envs.reset([0, 1])
    assert envs.metrics() == {}
    envs.step(np.array([0, 2]))
    step = envs.step(np.array([1, 2]))
    metrics = envs.metrics()
    assert (metrics["bandit/regret"], metrics["bandit/cumulative_regret"]) == (0.375, 1.5)
    assert metrics["bandit/optimal_share"] == 0.5
    saved = decode(*encode(envs.state_dict()))
    assert saved["regret"]["pulls"].tolist() == [[1, 1, 2]]
    again.load_state_dict(saved)
    again.step(np.array([0, 0])), envs.step(np.array([0, 0]))
    assert again.metrics()["bandit/cumulative_regret"] == envs.metrics()["bandit/cumulative_regret"] == 3.5
    assert len(step.episodes) == 2


# The report


def finished(folder: Path, last: dict[str, float], pulls: Any) -> Any:
    """What a callback sees of a run at its end."""
    folder.mkdir()
    environments = SimpleNamespace(arm_counts=lambda: np.array(pulls) if pulls else None)
    directory = SimpleNamespace(path=folder, metrics_jsonl=folder / "metrics.jsonl")
    return SimpleNamespace(dir=directory, environments=environments, logger=SimpleNamespace(last=last))


ROWS = [
    {"env_steps": 100, "bandit/regret": 0.5, "bandit/reward": None, "bandit/cumulative_regret": 50.0},
    {"env_steps": 100, "eval/mean_reward": 1.0},
    {"env_steps": 200, "bandit/regret": 0.25, "bandit/reward": 1.0, "bandit/cumulative_regret": 75.0},
]


@pytest.mark.usefixtures("paints")
def test_a_bandit_leaves_counts_and_a_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = finished(tmp_path / "run", {"bandit/regret": 0.25}, [[3, 0], [1, 2]])
    run.dir.metrics_jsonl.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    BanditReport().on_end(run)
    assert (tmp_path / "run" / "arm_counts.csv").read_text() == "problem,arm,pulls\n0,0,3\n0,1,0\n1,0,1\n1,1,2\n"
    assert (tmp_path / "run" / "figures" / "bandit.png").read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = finished(tmp_path / "run", {"bandit/regret": 0.25}, [[3, 0]])
    run.dir.metrics_jsonl.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with caplog.at_level(logging.INFO):
        BanditReport().on_end(run)
    assert [record.message for record in caplog.records] == [
        "no figure: matplotlib is not installed; get it with `pip install 'rlrun[plot]'`"
    ]
    assert (tmp_path / "run" / "arm_counts.csv").exists()


def test_other_runs_leave_nothing(tmp_path: Path) -> None:
    BanditReport().on_end(finished(tmp_path / "run", {"rollout/ep_rew_mean": 1.0}, []))
    assert list((tmp_path / "run").iterdir()) == []


def test_a_sweep_becomes_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = [("ucb", "A", 0.1), ("ucb", "A", 0.3), ("ucb", "B", 0.4), ("exp3", "A", 0.05)]
    for job, (algo, env, regret) in enumerate(results):
        folder = tmp_path / str(job)
        folder.mkdir()
        summary = {"state": "finished", "bandit/regret_per_step": regret}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "config.yaml").write_text(f"algo: {{name: {algo}}}\nenv: {{id: {env}}}\n")
        (folder / "overrides.yaml").write_text(f"- env={env}\n" + ("- algo.mixing=0.1\n" if algo == "exp3" else ""))
    assert bandit_report.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[:7] == [
        "regret per step, less is better; mean and spread over seeds",
        "",
        "| agent | A | B |",
        "| --- | ---: | ---: |",
        "| exp3 mixing=0.1 | 0.0500 | - |",
        "| ucb | 0.2000 ± 0.1000 | 0.4000 |",
        "",
    ]
    with (tmp_path / "bandits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["agent"], row["environment"], row["seeds"]) for row in rows] == [
        ("exp3 mixing=0.1", "A", "1"),
        ("ucb", "A", "2"),
        ("ucb", "B", "1"),
    ]
    assert bandit_report.main([str(tmp_path / "0" / "nothing")]) == 2
