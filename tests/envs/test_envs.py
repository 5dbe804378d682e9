"""Making environments, the wrappers around their vectors, and the toy environments' known streams."""

from __future__ import annotations

import sys
import types

import gymnasium as gym
import numpy as np
import pytest

from rlrun.envs.make import GymEnvs
from rlrun.envs.normalize import RunningMeanStd
from rlrun.envs.options import EnvConfig, NormalizeConfig
from rlrun.errors import ConfigError
from rlrun.seeding import SeedTree


def factory(env_id, vector="in_process", gamma=0.99, **options):
    return GymEnvs(EnvConfig(id=env_id, vector=vector, **options), SeedTree(0), gamma)


def play(envs, steps, action=0):
    """Steps of a vector under one action, arrays copied."""
    for _ in range(steps):
        step = envs.step(np.full(envs.num_envs, action))
        yield step._replace(obs=step.obs.copy(), reward=step.reward.copy())


# --- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "newest"),
    [("FrozenLake-v0", "FrozenLake-v1"), ("Pendulum-v0", "Pendulum-v1"), ("CliffWalking-v0", "CliffWalking-v1")],
)
def test_ids_that_are_gone_name_the_newest(old, newest):
    with pytest.raises(ConfigError) as caught:
        factory(old).spec(1)
    assert str(caught.value) == f"env.id: there is no environment {old!r}\nits newest version is {newest!r}"


def test_an_old_id_that_works_is_used_with_a_hint_and_nothing_else_is_said(caplog, capfd, recwarn):
    assert factory("CartPole-v0").spec(1).max_episode_steps == 200
    assert caplog.messages == ["env.id: CartPole-v0 is an old version, the newest is CartPole-v1"]
    assert (capfd.readouterr().out, len(recwarn)) == ("", 0)


@pytest.mark.parametrize(
    ("env_id", "problem"),
    [
        ("CartPoel-v1", "there is no environment 'CartPoel-v1'\ndid you mean 'CartPole-v1'"),
        ("no_such_module:X-v0", "importing 'no_such_module' failed: No module named 'no_such_module'"),
        ("???", "no environment is chosen"),
    ],
)
def test_unknown_ids_name_the_nearest(env_id, problem):
    with pytest.raises(ConfigError) as caught:
        factory(env_id).spec(1)
    assert str(caught.value).startswith(f"env.id: {problem}")


def test_an_environment_whose_package_is_missing_names_our_extra(monkeypatch):
    def missing(**kwargs):
        raise gym.error.DependencyNotInstalled("no Box2D here")

    monkeypatch.setitem(sys.modules, "fake_box2d", types.SimpleNamespace(Lander=missing))
    gym.register("tests/Lander-v0", "fake_box2d:Lander")
    with pytest.raises(ConfigError, match=r"needs a package that is missing\npip install 'rlrun\[box2d\]'"):
        factory("tests/Lander-v0").spec(1)


@pytest.mark.parametrize(
    ("env_id", "module", "extra"),
    [
        ("ALE/Breakout-v5", "ale_py", "atari"),
        ("dm_control/cheetah-run-v0", "dm_control", "dm_control"),
        ("FetchReach-v4", "gymnasium_robotics", "robotics"),
        ("PointMaze_UMaze-v3", "gymnasium_robotics", "robotics"),
    ],
)
def test_ids_of_a_package_that_is_missing_name_our_extra(env_id, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    for known in [known for known in gym.registry if known.startswith(("ALE/", "dm_control/", "Fetch", "PointMaze"))]:
        monkeypatch.delitem(gym.registry, known)
    with pytest.raises(ConfigError, match=rf"env.id: .* needs? .*\npip install 'rlrun\[{extra}\]'"):
        factory(env_id).spec(1)


def test_an_environment_whose_module_is_missing_says_how_to_get_it(monkeypatch):
    def missing(**kwargs):
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setitem(sys.modules, "fake_jax", types.SimpleNamespace(Pole=missing))
    gym.register("tests/JaxPole-v0", "fake_jax:Pole")
    with pytest.raises(ConfigError, match=r"No module named 'jax'\npip install 'gymnasium\[jax\]'"):
        factory("tests/JaxPole-v0").spec(1)


def test_module_ids_import_the_module(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(
        "import gymnasium\nfrom rlrun.envs.toy import CountingEnv\n"
        "gymnasium.register('Mine-v0', CountingEnv, max_episode_steps=3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = factory("my_module:Mine-v0").spec(2)
    assert (spec.id, spec.num_envs, spec.max_episode_steps) == ("Mine-v0", 2, 3)


def test_arguments_an_environment_does_not_have_are_refused():
    with pytest.raises(ConfigError, match=r"env.kwargs: CartPole-v1 refuses them: .*'gravitation'"):
        factory("CartPole-v1", kwargs={"gravitation": 1}).spec(1)


class SpacesEnv(gym.Env):
    def __init__(self, observation, action):
        self.observation_space, self.action_space = observation, action


BIT, WORD = gym.spaces.Discrete(2), gym.spaces.Text(5)


@pytest.mark.parametrize(
    ("observation", "action", "says"),
    [
        (WORD, BIT, "a Text observation space is not supported"),
        (gym.spaces.Dict({"a": BIT, "b": gym.spaces.Tuple([BIT, WORD])}), BIT, "a Text observation space is not supp"),
        (BIT, gym.spaces.Sequence(BIT), "a Sequence action space is not supported"),
        (BIT, gym.spaces.Box(0, 9, (2,), int), "Box actions of int64 are not supported"),
        (gym.spaces.Dict({}), BIT, "its Dict space has no parts"),
        (gym.spaces.Dict({"a.b": BIT, "a": gym.spaces.Dict({"b": BIT})}), BIT, "two parts .* would be called 'a.b'"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(observation, action, says):
    gym.register("tests/Spaces-v0", SpacesEnv)
    with pytest.raises(ConfigError, match=f"env.id: {says}"):
        factory("tests/Spaces-v0", kwargs={"observation": observation, "action": action}).spec(1)


def test_blackjacks_three_numbers_become_one():
    envs = factory("Blackjack-v1").train(1)
    assert envs.spec.obs_space.n == 32 * 11 * 2
    player, dealer, ace = gym.make("Blackjack-v1").reset(seed=4)[0]
    assert envs.reset([4])[0] == player * 22 + dealer * 2 + ace


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"time_limit": 0}, "time_limit"),
        ({"frame_stack": 0}, "frame_stack"),
        ({"reward_scale": 0.0}, "reward_scale"),
        ({"reward_clip": -1.0}, "reward_clip"),
        ({"rescale_action": [1.0]}, "rescale_action"),
        ({"rescale_action": [1.0, -1.0]}, "rescale_action"),
    ],
)
def test_impossible_options_are_refused(options, key):
    with pytest.raises(ConfigError) as caught:
        EnvConfig(id="CartPole-v1", **options)
    assert caught.value.key == key


def test_the_time_limit_replaces_the_ids_own():
    longer = factory("CartPole-v0", time_limit=1000)
    assert longer.spec(1).max_episode_steps == 1000
    envs = factory("rlrun/ConstantReward-v0", kwargs={"length": 50}, time_limit=4).train(1)
    envs.reset([0])
    assert [bool(step.truncated[0]) for step in play(envs, 8)] == [False, False, False, True] * 2


# --- wrappers -------------------------------------------------------------------------------------------------------


def test_reward_transforms_leave_statistics_and_evaluation_raw():
    options = {"kwargs": {"length": 4}, "reward_scale": 0.5, "reward_clip": 1.2}
    envs, evaluation = (
        factory("rlrun/Counting-v0", **options).train(1),
        factory("rlrun/Counting-v0", **options).evaluation(1),
    )
    envs.reset([0])
    evaluation.reset([0])
    steps = list(play(envs, 4))
    assert np.concatenate([step.reward for step in steps]).tolist() == pytest.approx([0.5, 1.0, 1.2, 1.2])
    assert steps[-1].episodes == [(10.0, 4, 0)]
    assert [step.reward[0] for step in play(evaluation, 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("vector", ["in_process", "native"])
def test_frames_are_stacked_as_gymnasium_stacks_them(vector):
    envs = factory("CartPole-v1", vector, frame_stack=3).train(1)
    assert envs.spec.obs_space.shape == (3, 4) == envs.spec.obs_space.low.shape
    obs = envs.reset([3])[0].copy()
    if vector == "native":
        assert np.array_equal(obs, np.stack([obs[0]] * 3))
        return
    theirs = gym.wrappers.FrameStackObservation(gym.make("CartPole-v1"), 3)
    assert np.array_equal(obs, theirs.reset(seed=3)[0])
    for step in play(envs, 40):
        expected, _, terminated, _, _ = theirs.step(0)
        if terminated:
            assert np.array_equal(step.final_obs[0], expected)
            expected, _ = theirs.reset()
        assert np.array_equal(step.obs[0], expected)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [3, 1, 7], [64]])
def test_running_statistics_are_those_of_all_data(sizes):
    rng = np.random.default_rng(0)
    batches = [rng.normal(1e4, 3.0, size=(size, 2)) for size in sizes]
    stats = RunningMeanStd((2,))
    for batch in batches:
        stats.update(batch)
    data = np.concatenate(batches)
    assert stats.mean == pytest.approx(data.mean(axis=0), rel=1e-9)
    assert stats.var == pytest.approx(data.var(axis=0), rel=1e-6)
    restored = RunningMeanStd((2,))
    restored.load_state_dict(stats.state_dict())
    assert (restored.count, restored.var.tolist()) == (len(data), stats.var.tolist())


def test_running_statistics_of_float32_batches_are_taken_in_float64():
    data = (1e4 + np.random.default_rng(0).random((1000, 1))).astype(np.float32)
    stats = RunningMeanStd((1,))
    for row in data:
        stats.update(row[None])
    assert stats.var == pytest.approx(data.astype(np.float64).var(axis=0), rel=1e-9)


def test_observations_are_normalised_by_all_seen_so_far():
    envs = factory("rlrun/Counting-v0", kwargs={"length": 3}, normalize=NormalizeConfig(obs=True)).train(2)
    envs.reset([0, 1])
    # seen: 0 0 | 1 1 | 2 2, mean 1, variance 2/3
    obs = [step.obs for step in play(envs, 2)][-1]
    assert obs.ravel() == pytest.approx([np.sqrt(1.5)] * 2)
    # the third step shows the reset's 0, never the final 3: mean 3/4, variance 11/16
    last = next(play(envs, 1))
    assert last.obs.ravel() == pytest.approx([-0.75 / np.sqrt(11 / 16)] * 2)
    assert last.final_obs[0] == pytest.approx([2.25 / np.sqrt(11 / 16)])


def test_evaluation_sees_through_the_trainings_statistics_and_leaves_them_alone():
    both = factory("rlrun/Counting-v0", kwargs={"length": 3}, normalize=NormalizeConfig(obs=True, reward=True))
    train = both.train(1)
    train.reset([0])
    list(play(train, 2))
    before = train.obs_stats.state_dict()
    evaluation = both.evaluation(2)
    assert evaluation.reset_one(0, 5) == pytest.approx([-np.sqrt(1.5)])
    evaluation.reset([0, 1])
    steps = list(play(evaluation, 3))
    assert [step.reward[0] for step in steps] == [1, 2, 3]
    assert steps[-1].final_obs[1] == pytest.approx([2 * np.sqrt(1.5)])
    after = train.obs_stats.state_dict()
    assert (after["count"], after["mean"].tolist()) == (before["count"], before["mean"].tolist()) == (3, [1.0])
    list(play(train, 1))
    assert evaluation.obs_stats.count == 4  # shared, not copied


def test_normalised_values_are_clipped():
    envs = factory("rlrun/Counting-v0", kwargs={"length": 1000}, normalize=NormalizeConfig(obs=True)).evaluation(1)
    envs.reset([0])
    assert [step.obs[0, 0] for step in play(envs, 15)][8:] == [9, 10, 10, 10, 10, 10, 10]


def test_rewards_are_divided_by_the_spread_of_the_discounted_return():
    options = {"kwargs": {"length": 3}, "normalize": NormalizeConfig(reward=True)}
    envs = factory("rlrun/Counting-v0", gamma=0.5, **options).train(1)
    envs.reset([0])
    returns, running, expected = [], 0.0, []
    for t in range(7):
        reward = t % 3 + 1
        running = running * 0.5 + reward
        returns.append(running)
        expected.append(reward / (np.std(returns) if t else 1.0))
        running = 0.0 if reward == 3 else running
    assert [step.reward[0] for step in play(envs, 7)] == pytest.approx(expected, rel=1e-5)


def test_normalisation_of_several_environments_is_that_of_a_plain_loop():
    """With episodes that end at different times, and one that is abandoned."""
    normalize, gamma = NormalizeConfig(obs=True, reward=True, clip=1.5), 0.9
    envs = factory("CartPole-v1", gamma=gamma, normalize=normalize).train(3)
    bare = factory("CartPole-v1").train(3)
    seen, returns, running = [], [], np.zeros(3)

    def look(obs):
        seen.extend(np.asarray(obs, np.float64).reshape(-1, 4))

    def normalised(obs):
        return np.clip((obs - np.mean(seen, 0)) / np.sqrt(np.var(seen, 0) + 1e-8), -1.5, 1.5)

    envs.reset([1, 2, 3])
    look(bare.reset([1, 2, 3]))
    ends = 0
    for t, action in enumerate(np.random.default_rng(0).integers(2, size=(90, 3))):
        if t == 40:
            envs.reset_one(1, 7)
            look(bare.reset_one(1, 7))
            running[1] = 0
        step, raw = envs.step(action), bare.step(action)
        look(raw.obs)
        running = running * gamma + raw.reward
        returns.extend(running)
        running[raw.terminated | raw.truncated] = 0
        assert step.obs == pytest.approx(normalised(raw.obs), rel=1e-5, abs=1e-6)
        assert step.reward == pytest.approx(np.clip(raw.reward / np.sqrt(np.var(returns) + 1e-8), -1.5, 1.5))
        assert step.final_obs.keys() == raw.final_obs.keys()
        for e, last in raw.final_obs.items():
            assert step.final_obs[e] == pytest.approx(normalised(last), rel=1e-5, abs=1e-6)
        ends += len(raw.final_obs)
    assert ends > 6


@pytest.mark.parametrize("clip", [10, 3])
def test_constant_rewards_stay_finite_and_bounded(clip):
    normalize = NormalizeConfig(reward=True, clip=clip)
    envs = factory("rlrun/ConstantReward-v0", kwargs={"length": 1}, normalize=normalize).train(1)
    envs.reset([0])
    assert [step.reward[0] for step in play(envs, 4)] == [1, clip, clip, clip]


def test_normalised_observations_are_bounded_as_told():
    envs = factory("rlrun/Counting-v0", kwargs={"length": 9}, normalize=NormalizeConfig(obs=True, clip=0.5)).train(1)
    assert envs.spec.obs_space.high.max() == 0.5
    envs.reset([0])
    assert all(np.abs(step.obs).max() <= 0.5 for step in play(envs, 8))


def test_the_limit_of_normalised_values_can_be_chosen():
    options = {"kwargs": {"length": 1000}, "normalize": NormalizeConfig(obs=True, clip=2.5)}
    envs = factory("rlrun/Counting-v0", **options).evaluation(1)
    envs.reset([0])
    assert [step.obs[0, 0] for step in play(envs, 5)] == [1, 2, 2.5, 2.5, 2.5]
    assert envs.spec.obs_space.high.max() == 2.5
    with pytest.raises(ConfigError, match="clip: must be greater than 0"):
        NormalizeConfig(clip=0.0)


class SeenEnv(gym.Env):
    """Notes in what mode it was made."""

    metadata = {"render_modes": ["human"], "one_hot": True}  # noqa: RUF012
    observation_space, action_space = gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2)
    modes: list[str | None] = []  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.modes.append(render_mode)

    def reset(self, *, seed=None, options=None):
        return np.eye(2, dtype=np.float32)[0], {}

    def step(self, action):
        return np.eye(2, dtype=np.float32)[1], 0.0, True, False, {}


gym.register("tests/Seen-v0", SeenEnv)


def test_only_training_is_shown():
    both = factory("tests/Seen-v0", kwargs={"render_mode": "human"})
    SeenEnv.modes.clear()
    both.spec(1)
    envs = both.train(2)
    both.evaluation(1)
    envs.prove()
    assert SeenEnv.modes == [None, "human", "human", None, None, None]


def test_one_hot_is_what_an_environment_declares():
    assert factory("tests/Seen-v0").spec(1).obs_space.one_hot
    assert not factory("tests/Seen-v0", frame_stack=2).spec(1).obs_space.one_hot
    assert not factory("CartPole-v1").spec(1).obs_space.one_hot


@pytest.mark.parametrize(
    ("key", "options"),
    [("frame_stack", {"frame_stack": 2}), ("normalize.obs", {"normalize": NormalizeConfig(obs=True)})],
)
def test_discrete_observations_are_neither_stacked_nor_normalised(key, options):
    with pytest.raises(ConfigError, match=f"env.{key}: discrete observations"):
        factory("FrozenLake-v1", **options).spec(1)


def test_spec_says_what_agents_see():
    spec = factory("CartPole-v1", frame_stack=2, normalize=NormalizeConfig(obs=True)).spec(8)
    assert (spec.id, spec.num_envs, spec.max_episode_steps, spec.reward_threshold) == ("CartPole-v1", 8, 500, 475.0)
    assert (spec.obs_space.shape, spec.obs_space.high.max(), spec.num_actions) == ((2, 4), 10.0, 2)


def test_a_rendered_environment_can_be_watched_through_the_same_wrappers():
    both = factory("rlrun/Counting-v0", frame_stack=2)
    env = gym.make("rlrun/Counting-v0")
    vector = both.watch(env)
    vector.reset([0])
    assert next(play(vector, 1)).obs.ravel().tolist() == [0, 1]
    assert env.unwrapped._t == 1


# --- toy environments -----------------------------------------------------------------------------------------------


def stream(env_id, steps, action=1, **kwargs):
    env = gym.make(env_id, disable_env_checker=True, **kwargs)
    observations, rewards, ends = [env.reset(seed=0)[0]], [], []
    for t in range(steps):
        obs, reward, terminated, truncated, _ = env.step(action)
        observations.append(obs)
        rewards.append(reward)
        if terminated or truncated:
            ends.append((t + 1, terminated, truncated))
            env.reset()
    return observations, rewards, ends


def test_toy_env_of_the_book():
    observations, rewards, ends = stream("rlrun/Toy-v0", 10, action=2)
    assert observations == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]
    assert (rewards, ends) == ([2.0] * 10, [(10, True, False)])


def test_toy_env_of_the_notebook():
    observations, rewards, ends = stream("rlrun/Toy-v0", 11, variant="notebook")
    assert observations == [0, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]
    assert (rewards, ends) == ([1.0] * 10 + [0.0], [(11, True, False)])


def test_counting_env_counts():
    observations, rewards, ends = stream("rlrun/Counting-v0", 3, length=3)
    assert (np.ravel(observations).tolist(), rewards, ends) == ([0, 1, 2, 3], [1, 2, 3], [(3, True, False)])


def test_constant_reward_env_is_only_ever_cut():
    observations, rewards, ends = stream("rlrun/ConstantReward-v0", 12)
    assert (set(observations), set(rewards)) == ({0}, {1.0})
    assert ends == [(5, False, True), (10, False, True)]


def test_identity_and_target_env_pay_for_the_right_answer():
    for env_id, wrong, loss in [
        ("rlrun/Identity-v0", lambda x: (x + 1) % 4, 1.0),
        ("rlrun/Target-v0", lambda x: x + 2, 4.0),
    ]:
        env = gym.make(env_id)
        obs, _ = env.reset(seed=0)
        obs, right, *_ = env.step(obs)
        _, less, *_ = env.unwrapped.step(wrong(obs))
        assert right - less == pytest.approx(loss)
