"""Bandit environments: success probabilities, regret, contexts and their random streams."""

from __future__ import annotations

import numpy as np
import pytest

from rlrun.envs.bandits.arms import BernoulliBandits, BernoulliConfig, GaussianBandits, GaussianConfig
from rlrun.errors import ConfigError
from rlrun.seeding import SeedTree


def bernoulli(num_envs=1, seed=0, **options):
    return BernoulliBandits(BernoulliConfig(**options), SeedTree(seed)).train(num_envs)


def gaussian(num_envs=1, seed=0, **options):
    return GaussianBandits(GaussianConfig(**options), SeedTree(seed)).train(num_envs)


def play(envs, arm, sweeps):
    """Steps with one arm in every copy, arrays copied."""
    steps = (envs.step(np.full(envs.num_envs, arm)) for _ in range(sweeps))
    return [step._replace(obs=step.obs.copy(), reward=step.reward.copy()) for step in steps]


@pytest.mark.parametrize(("arm", "rate"), [(0, 0.1), (1, 0.9)])
def test_the_probability_is_that_of_success(arm, rate):
    envs = bernoulli(100, probs=[0.1, 0.9])
    envs.reset(range(100))
    rewards = np.concatenate([step.reward for step in play(envs, arm, 200)])
    assert set(rewards.tolist()) == {0.0, 1.0}
    assert rewards.mean() == pytest.approx(rate, abs=0.01)


def test_gaussian_rewards_have_the_mean_and_spread_given():
    envs = gaussian(100, means=[0.0, 4.0], std=2.0)
    envs.reset(range(100))
    rewards = np.concatenate([step.reward for step in play(envs, 1, 200)])
    assert rewards.mean() == pytest.approx(4.0, abs=0.06)
    assert rewards.std() == pytest.approx(2.0, abs=0.05)


def test_every_step_is_a_terminated_episode_of_its_reward():
    envs = bernoulli(3, probs=[1.0, 0.0])
    envs.reset([1, 2, 3])
    step = envs.step(np.array([0, 1, 0]))
    assert (step.terminated.all(), step.truncated.any()) == (True, False)
    assert step.episodes == [(1.0, 1, 0), (0.0, 1, 1), (1.0, 1, 2)]
    assert sorted(step.final_obs) == [0, 1, 2]


def test_rewards_belong_to_the_context_that_was_acted_on():
    envs = bernoulli(50, probs=np.eye(4).tolist())
    obs = envs.reset(range(50)).copy()
    for _ in range(20):
        step = envs.step(obs)  # arm = problem: always right, whatever comes next
        assert step.reward.tolist() == [1.0] * 50
        assert [int(step.final_obs[e]) for e in range(50)] == obs.tolist()
        obs = step.obs.copy()
    assert envs.metrics()["bandit/regret"] == 0.0


def test_problems_are_drawn_uniformly_or_fixed():
    envs = bernoulli(100, bandits=4)
    envs.reset(range(100))
    shown = np.bincount(np.concatenate([step.obs for step in play(envs, 0, 100)]), minlength=4)
    assert shown / 10_000 == pytest.approx([0.25] * 4, abs=0.02)
    fixed = bernoulli(6, bandits=4, assign="fixed")
    fixed.reset(range(6))
    assert [step.obs.tolist() for step in play(fixed, 0, 3)] == [[0, 1, 2, 3, 0, 1]] * 3


def test_contexts_as_vectors():
    envs = bernoulli(5, bandits=3, context="one_hot", assign="fixed")
    assert np.array_equal(envs.reset(range(5)), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]])
    assert (envs.spec.obs_space.kind, envs.spec.obs_space.shape, envs.spec.num_actions) == ("box", (3,), 5)


def test_regret_by_hand():
    envs = bernoulli(2, probs=[[0.0, 1.0], [0.25, 0.0]], assign="fixed")
    envs.reset([0, 1])
    envs.step(np.array([0, 1]))  # expected regret 1 and 0.25, rewards 0 and 0
    assert envs.metrics() == {
        "bandit/reward": 0.0,
        "bandit/regret": 0.625,
        "bandit/realised_regret": 0.625,
        "bandit/optimal_share": 0.0,
        "bandit/reward_moving_avg": 0.0,
        "bandit/regret_moving_avg": 0.625,
        "bandit/cumulative_reward": 0.0,
        "bandit/cumulative_regret": 1.25,
        "bandit/regret_per_step": 0.625,
    }
    assert envs.metrics() == {}
    envs.step(np.array([1, 1]))
    envs.step(np.array([1, 1]))
    metrics = envs.metrics()
    assert (metrics["bandit/regret"], metrics["bandit/optimal_share"]) == (0.125, 0.5)
    assert (metrics["bandit/reward"], metrics["bandit/cumulative_reward"]) == (0.5, 2.0)
    assert (metrics["bandit/cumulative_regret"], metrics["bandit/regret_per_step"]) == (1.75, 1.75 / 6)
    assert envs.state_dict()["regret"]["pulls"].tolist() == [[1, 2], [0, 3]]


def test_expected_regret_has_no_noise_and_the_realised_one_averages_to_it():
    envs = gaussian(100, means=[0.0, 0.5])
    envs.reset(range(100))
    play(envs, 0, 200)
    metrics = envs.metrics()
    assert metrics["bandit/regret"] == 0.5
    assert metrics["bandit/realised_regret"] == pytest.approx(0.5, abs=0.03)


def test_parameters_not_given_come_from_the_seed_and_are_shared_with_evaluation():
    factory = BernoulliBandits(BernoulliConfig(bandits=3, arms=7), SeedTree(5))
    values = factory.train(1).values
    assert values.shape == (3, 7)
    assert ((values > 0) & (values < 1)).all()
    assert np.array_equal(factory.evaluation(2).values, values)
    assert np.array_equal(bernoulli(seed=5, bandits=3, arms=7).values, values)
    assert not np.array_equal(bernoulli(seed=6, bandits=3, arms=7).values, values)
    testbed = gaussian(bandits=2000, arms=10, prior="normal", prior_mean=4.0).values
    assert (testbed.mean(), testbed.std()) == (pytest.approx(4, abs=0.03), pytest.approx(1, abs=0.03))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (BernoulliConfig, {"probs": [0.5, 1.1]}, r"probs: a probability must be in \[0, 1\]"),
        (BernoulliConfig, {"probs": [0.5, float("nan")]}, "probs: must be finite numbers"),
        (GaussianConfig, {"means": [0.5, float("inf")]}, "means: must be finite numbers"),
        (BernoulliConfig, {"probs": [[0.5], [0.5, 0.1]]}, "probs: must be numbers, in rows of equal length"),
        (BernoulliConfig, {"probs": 0.5}, "probs: must be one list of arms or one list per problem"),
        (BernoulliConfig, {"probs": [0.5, 0.1], "arms": 3}, "arms: is 3, but probs has 2"),
        (GaussianConfig, {"means": [[1, 2], [3, 4]], "bandits": 3}, "bandits: is 3, but means has 2"),
        (GaussianConfig, {"std": -1.0}, "std: must be at least 0"),
        (GaussianConfig, {"drift": -0.1}, r"drift: must be in \[0, 1000000\]"),
        (GaussianConfig, {"prior": "normla"}, "did you mean 'normal'"),
        (BernoulliConfig, {"context": "onehot"}, "did you mean 'one_hot'"),
        (BernoulliConfig, {"bandits": 0}, r"bandits: must be in \[1, 1000000\]"),
    ],
)
def test_parameters_that_cannot_be_are_refused(config, options, message):
    with pytest.raises(ConfigError, match=message):
        config(**options)


def test_one_list_of_arms_serves_all_problems():
    assert bernoulli(probs=[0.2, 0.3], bandits=3).values.tolist() == [[0.2, 0.3]] * 3


@pytest.mark.parametrize(("made", "config"), [(BernoulliBandits, BernoulliConfig), (GaussianBandits, GaussianConfig)])
@pytest.mark.parametrize("drift", [0.0, 0.1])
def test_a_saved_bandit_goes_on_exactly(made, config, drift):
    """The problem, which may have drifted, belongs to the factory; the rest to the vector."""
    first, second = (made(config(bandits=3, context="one_hot", drift=drift), SeedTree(0)) for _ in range(2))
    whole, resumed = first.train(4), second.train(4)
    whole.reset([1, 2, 3, 4])
    whole.reset_one(2, 9)
    play(whole, 1, 5)
    saved = whole.state_dict()
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(saved)
    assert np.array_equal(resumed.obs, whole.obs)

    def go_on(envs):
        return [(step.obs.tolist(), step.reward.tolist()) for step in play(envs, 1, 6)], envs.metrics()

    assert go_on(resumed) == go_on(whole)
    assert saved["grade"] == "exact"


def test_drifting_means_walk_at_random_and_regret_follows_them():
    envs = gaussian(1, means=np.zeros((1, 4000)).tolist(), std=0.0, drift=0.1)
    envs.reset([0])
    before = envs.values.copy()
    (first, *_) = steps = play(envs, 7, 100)
    assert first.reward.tolist() == [0.0]  # the means move after the pull
    assert (envs.values - before).std() == pytest.approx(0.1 * 10, rel=0.05)
    assert steps[-1].reward[0] != 0.0
    best = envs.values.max() - envs.values[0, 7]
    envs.metrics()
    envs.step(np.array([7]))
    assert envs.metrics()["bandit/regret"] == pytest.approx(best)


def test_drifting_probabilities_are_reflected_at_0_and_1():
    envs = bernoulli(1, bandits=50, arms=20, drift=0.3)
    envs.reset([0])
    for _ in range(50):
        envs.step(np.array([0]))
        assert ((envs.values >= 0) & (envs.values <= 1)).all()
    assert np.histogram(envs.values, 4, (0, 1))[0] / 1000 == pytest.approx([0.25] * 4, abs=0.05)


def test_evaluation_plays_the_problems_as_they_stand():
    factory = GaussianBandits(GaussianConfig(means=[0.0, 1.0], std=0.0, drift=1.0), SeedTree(0))
    train = factory.train(2)
    train.reset([0, 1])
    play(train, 0, 10)
    now = train.values[0, 1]
    watch = factory.evaluation(1)
    watch.reset([5])
    assert [float(step.reward[0]) for step in play(watch, 1, 3)] == [np.float32(now)] * 3
    assert train.values[0, 1] == now


def test_parameters_from_a_file(tmp_path):
    file = tmp_path / "arms.csv"
    file.write_text("0.1,0.9\n0.5,0.25\n")
    assert bernoulli(probs=str(file)).values.tolist() == [[0.1, 0.9], [0.5, 0.25]]
    assert gaussian(means=str(file)).values.tolist() == [[0.1, 0.9], [0.5, 0.25]]
    with pytest.raises(ConfigError, match=r"probs: .*none\.csv cannot be read"):
        BernoulliConfig(probs=str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match="probs: /dev/zero cannot be read"):  # it never ends
        BernoulliConfig(probs="/dev/zero")
    file.write_text("0.1,high\n")
    with pytest.raises(ConfigError, match="probs: must be numbers"):
        BernoulliConfig(probs=str(file))


@pytest.mark.parametrize("config", [BernoulliConfig, GaussianConfig])
def test_an_evaluation_episode_depends_on_its_seed_alone(config):
    factory = {BernoulliConfig: BernoulliBandits, GaussianConfig: GaussianBandits}[config]
    one, three = (factory(config(bandits=8, arms=3), SeedTree(0)).evaluation(n) for n in (1, 3))
    seeds = range(30)
    alone = []
    for seed in seeds:
        context = int(one.reset_one(0, seed))
        alone.append((context, float(one.step(np.array([1])).reward[0])))
    together = []
    for first in range(0, 30, 3):
        contexts = three.reset(seeds[first : first + 3]).tolist()
        together += zip(contexts, three.step(np.array([1, 1, 1])).reward.tolist(), strict=True)
    assert together == alone
    assert {context for context, _ in alone} == set(range(8))


def test_bandits_have_nothing_to_show():
    with pytest.raises(ConfigError, match="BernoulliBandit has nothing to show"):
        BernoulliBandits(BernoulliConfig(), SeedTree(0)).render("human")
