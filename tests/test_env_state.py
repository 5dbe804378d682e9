"""Environments saved in mid-episode go on as if nothing had happened, or say that they cannot."""

from __future__ import annotations

import copy
import json
from collections import deque

import gymnasium as gym
import numpy as np
import pytest

from rlrun.envs import state
from rlrun.envs.make import EnvConfig, GymEnvs, NormalizeConfig
from rlrun.seeding import SeedTree

EXACT = [
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Acrobot-v1",
    "Pendulum-v1",
    "FrozenLake-v1",
    "CliffWalking-v1",
    "Taxi-v4",
    "Blackjack-v1",
    "rlrun/Toy-v0",
    "rlrun/Counting-v0",
    "rlrun/ConstantReward-v0",
    "rlrun/Identity-v0",
    "rlrun/Target-v0",
]


def vector(kind="in_process", env_id="CartPole-v1", num_envs=3, **options):
    return GymEnvs(EnvConfig(id=env_id, **options), SeedTree(0), kind).train(num_envs)


def capture(env):
    return state.capture(env, state.tables(env))


@pytest.mark.parametrize("env_id", EXACT)
def test_known_environments_are_exact(env_id):
    assert state.probe(lambda: gym.make(env_id, disable_env_checker=True)) == "exact"


class Engine:
    """Holds state where nobody looks."""

    t = 0


class EngineEnv(gym.Env):
    """Its state is in an object of unknown kind."""

    observation_space, action_space = gym.spaces.Discrete(1000), gym.spaces.Discrete(2)

    def __init__(self):
        self._engine = Engine()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._start = self._engine.t = int(self.np_random.integers(500))
        return self._engine.t, {}

    def step(self, action):
        self._engine.t += 1
        return self._engine.t, 1.0, self._engine.t == self._start + 8, False, {}


class ClosureEnv(EngineEnv):
    """Its state hides behind a function, which looks harmless."""

    def __init__(self):
        hidden = Engine()
        self._counter = lambda: hidden

    @property
    def _engine(self):
        return self._counter()


gym.register("tests/Engine-v0", EngineEnv)


def test_hidden_state_is_found_out():
    assert capture(EngineEnv()) is None
    assert state.probe(EngineEnv) == "episode"
    hidden = ClosureEnv()
    hidden.reset(seed=0)
    assert capture(hidden) is not None
    assert state.probe(ClosureEnv) == "episode"


class DiaryEnv(gym.Env):
    """Writes every step into a list and, in its drawer, keeps a table as long as a diary gets."""

    observation_space, action_space = gym.spaces.Discrete(1000), gym.spaces.Discrete(2)

    def __init__(self):
        self.table = {row: [row, [2.5] * 3, np.arange(row)] for row in range(100)}
        self.diary = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return len(self.diary), {}

    def step(self, action):
        self.diary.append(int(action))
        return len(self.diary), 1.0, False, False, {}


gym.register("tests/Diary-v0", DiaryEnv)


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
def test_state_that_outgrows_the_limit_is_not_dropped_in_silence(kind):
    envs = vector(kind, "tests/Diary-v0", 2)
    try:
        envs.reset([1, 2])
        assert envs.state_dict()["grade"] == "exact"
        list(play(envs, np.zeros((state.MAX_ITEMS, 2), int)))
        assert envs.state_dict()["grade"] == "exact"
        list(play(envs, np.zeros((1, 2), int)))
        assert envs.state_dict()["grade"] == "episode"
    finally:
        envs.close()


@pytest.mark.parametrize("change", ["an item", "a key", "an array", "another table", "new"])
def test_a_table_that_changes_is_state(change):
    env = DiaryEnv()
    tables = state.tables(env)
    assert "table" not in state.capture(env, tables)["layers"][0]
    env.table = copy.deepcopy(env.table)
    assert state.capture(env, tables) is not None
    if change == "an item":
        env.table[70][1][2] = 0.5
    elif change == "a key":
        env.table[100] = env.table.pop(99)
    elif change == "an array":
        env.table[70][2][9] = 0
    elif change == "another table":
        env.table = list(range(1000))
    else:
        env.atlas = list(range(1000))
    assert state.capture(env, tables) is None


def test_an_environment_that_is_no_twin_is_not_played_with():
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    assert state.probe(lambda: env) == "episode"
    assert np.array_equal(env.unwrapped.state.astype(np.float32), obs)


class AttributesEnv(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)


def test_plain_attributes_of_every_kind_come_back():
    env, other = AttributesEnv(), AttributesEnv()
    env.values = {
        "none": None,
        (1, 2): [1, 2.5, "x", (True, np.float32(3))],
        "queue": deque([1, 2, 3], maxlen=4),
        "set": {4, 5},
    }
    env.array = np.arange(6, dtype=np.int16).reshape(2, 3)
    env.table = list(range(1000))
    env.rng = np.random.default_rng(1)
    env.rng.random(7)
    other.rng = shared = np.random.default_rng(2)
    saved = capture(env)
    expected = env.rng.random()
    env.array[:] = 0
    env.values["queue"].append(9)
    state.restore(other, saved)
    assert other.values == {
        "none": None,
        (1, 2): [1, 2.5, "x", (True, np.float32(3))],
        "queue": deque([1, 2, 3]),
        "set": {4, 5},
    }
    assert other.values["queue"].maxlen == 4
    assert (other.array.dtype, other.array.ravel().tolist()) == (np.int16, [0, 1, 2, 3, 4, 5])
    assert other.rng is shared
    assert other.rng.random() == expected
    assert not hasattr(other, "table")
    state.restore(other, saved)
    assert other.values["queue"] == deque([1, 2, 3])  # a state can be used twice


def test_a_state_is_plain_data():
    env = gym.make("FrozenLake-v1")
    env.reset(seed=0)
    leaves = json.dumps(capture(env), default=lambda array: array.tolist())
    assert '"_elapsed_steps": 0' in leaves


# --- vectors --------------------------------------------------------------------------------------------------------

WRAPPED = {
    "frame_stack": 2,
    "reward_scale": 2.0,
    "time_limit": 30,
    "normalize": NormalizeConfig(obs=True, reward=True),
}


def play(envs, actions):
    for action in actions:
        step = envs.step(action)
        yield (
            step.obs.tolist(),
            step.reward.tolist(),
            step.terminated.tolist(),
            step.truncated.tolist(),
            {e: last.tolist() for e, last in step.final_obs.items()},
            step.episodes,
        )


@pytest.mark.parametrize("kind", ["in_process", "subprocess", "native"])
def test_a_vector_goes_on_exactly_where_it_was_saved(kind):
    actions = np.random.default_rng(0).integers(2, size=(90, 3))
    whole, resumed = vector(kind, **WRAPPED), vector(kind, **WRAPPED)
    try:
        whole.reset([1, 2, 3])
        list(play(whole, actions[:37]))
        saved = whole.state_dict()
        assert saved["grade"] == "exact"
        obs = whole.obs.copy()
        expected = list(play(whole, actions[37:]))
        assert sum(len(sweep[-1]) for sweep in expected) >= 3
        resumed.load_state_dict(saved)
        assert np.array_equal(resumed.obs, obs)
        assert list(play(resumed, actions[37:])) == expected
    finally:
        whole.close()
        resumed.close()


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
def test_where_state_is_hidden_new_episodes_start_from_fixed_seeds(kind):
    envs, one, two = (vector(kind, "tests/Engine-v0", 2) for _ in range(3))
    try:
        first = envs.reset([1, 2]).tolist()
        actions = np.zeros((11, 2), int)
        list(play(envs, actions))
        saved = envs.state_dict()
        assert saved["grade"] == "episode"
        later = envs.state_dict()["seeds"]
        list(play(envs, actions[:1]))
        assert envs.state_dict()["seeds"] != later == saved["seeds"]
        one.load_state_dict(saved)
        two.load_state_dict(saved)
        assert one.obs.tolist() == two.obs.tolist() != first
        sweeps = list(play(one, actions))
        assert sweeps == list(play(two, actions))
        assert [stat[1] for sweep in sweeps for stat in sweep[-1]] == [8, 8]
    finally:
        for opened in (envs, one, two):
            opened.close()


def test_wrappers_start_anew_with_a_new_episode():
    options = {"frame_stack": 2, "normalize": NormalizeConfig(reward=True)}
    gym.register(
        "tests/FloatEngine-v0",
        lambda: gym.wrappers.TransformObservation(
            EngineEnv(), lambda obs: np.array([obs], np.float32), gym.spaces.Box(0, 1000, (1,))
        ),
    )
    envs, resumed = (vector("in_process", "tests/FloatEngine-v0", 2, **options) for _ in range(2))
    envs.reset([1, 2])
    list(play(envs, np.zeros((5, 2), int)))
    resumed.load_state_dict(envs.state_dict())
    assert np.array_equal(resumed.obs[:, 0], resumed.obs[:, 1])
    assert resumed.env.reward_stats.count == 10
