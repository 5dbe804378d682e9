"""Environments saved in mid-episode go on as if nothing had happened, or say that they cannot."""

from __future__ import annotations

import copy
import functools
import json
import random
import re
import signal
from collections import deque

import gymnasium as gym
import numpy as np
import pytest

from rlrun.envs import state
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig, NormalizeConfig
from rlrun.errors import Interrupted
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
    envs = GymEnvs(EnvConfig(id=env_id, vector=kind, **options), SeedTree(0)).train(num_envs)
    envs.prove()
    return envs


def capture(env):
    return state.capture(env, state.tables(env))


@pytest.mark.parametrize("env_id", EXACT)
def test_known_environments_are_exact(env_id):
    assert state.prove(lambda: gym.make(env_id, disable_env_checker=True)).reason == ""


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
    why = "`_engine` of EngineEnv is a Engine, which may hide anything"
    with pytest.raises(state.Unsaveable, match=why):
        capture(EngineEnv())
    assert state.prove(EngineEnv).reason == why
    hidden = ClosureEnv()
    hidden.reset(seed=0)
    capture(hidden)  # looks complete
    assert state.prove(ClosureEnv).reason == "a restored twin went on differently"


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
def test_a_list_that_grows_is_saved_and_one_beyond_the_limit_is_not_dropped_in_silence(kind, monkeypatch):
    envs, resumed = vector(kind, "tests/Diary-v0", 2), vector(kind, "tests/Diary-v0", 2)
    try:
        envs.reset([1, 2])
        list(play(envs, np.zeros((state.TABLE + 50, 2), int)))
        saved = envs.state_dict()
        assert (saved["grade"], saved["caveat"]) == ("exact", "")
        resumed.load_state_dict(saved)
        expected = list(play(envs, np.zeros((5, 2), int)))
        assert list(play(resumed, np.zeros((5, 2), int))) == expected
        assert expected[-1][0] == [state.TABLE + 55] * 2
        if kind == "in_process":
            monkeypatch.setattr(state, "MAX_LEAVES", state.TABLE + 10)
            assert envs.state_dict()["grade"] == "episode"
            assert (
                envs.caveat == f"new episodes are begun: `diary` of DiaryEnv has grown beyond {state.TABLE + 10} items"
            )
    finally:
        envs.close()
        resumed.close()


@pytest.mark.parametrize("change", ["an item", "a key", "an array", "another table", "new"])
def test_a_table_that_changes_is_state(change):
    env, other = DiaryEnv(), DiaryEnv()
    tables = state.tables(env)
    assert "table" not in state.capture(env, tables)["layers"][0]
    env.table = copy.deepcopy(env.table)
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
    state.restore(other, state.capture(env, tables))
    assert state._fingerprint(other.table) == state._fingerprint(env.table)
    assert getattr(other, "atlas", None) == getattr(env, "atlas", None)


def test_containers_without_end_are_named_not_followed():
    env = DiaryEnv()
    env.diary.append(env.diary)
    with pytest.raises(state.Unsaveable, match="`diary` of DiaryEnv is nested without end"):
        state.capture(env, state.tables(env))
    env.table["self"] = env.table
    assert state.tables(env)


def test_objects_that_cannot_be_shown_are_no_obstacle():
    class Shy:
        def __repr__(self):
            raise RuntimeError("not me")

    env = DiaryEnv()
    env.crowd = [Shy() for _ in range(state.TABLE + 1)]
    tables = state.tables(env)
    assert "crowd" not in state.capture(env, tables)["layers"][0]
    env.crowd[0] = Shy()
    with pytest.raises(state.Unsaveable, match="`crowd` of DiaryEnv is a Shy"):
        state.capture(env, tables)


class LateEnv(DiaryEnv):
    """Gets an attribute of another kind late in its life."""

    def step(self, action):
        if len(self.diary) == 400:
            self.second_phase = [1, 2, 3]
        if len(self.diary) == 450:
            self.second_phase = Engine()
        return super().step(action)


gym.register("tests/Late-v0", LateEnv)


def test_a_state_of_a_form_that_was_not_tried_is_no_longer_promised():
    envs, resumed = (vector("in_process", "tests/Late-v0", 1) for _ in range(2))
    envs.reset([1])
    list(play(envs, np.zeros((300, 1), int)))
    assert (envs.state_dict()["grade"], envs.caveat) == ("exact", "")
    list(play(envs, np.zeros((120, 1), int)))
    saved = envs.state_dict()
    doubt = "the environment's state was not tried in this form: second_phase is new"
    assert (saved["grade"], envs.caveat) == ("exact", doubt)
    resumed.load_state_dict(saved)
    assert resumed.caveat == doubt
    list(play(envs, np.zeros((40, 1), int)))
    assert envs.state_dict()["grade"] == "episode"
    assert envs.caveat.startswith("new episodes are begun: `second_phase` of LateEnv is a Engine")


class ShortEnv(gym.Env):
    """Episodes of a fixed length that show a number hidden from all but the first capture of an episode."""

    observation_space, action_space = gym.spaces.Box(-9, 9, (1,)), gym.spaces.Discrete(2)

    def __init__(self, length, hide):
        self.length = length
        hidden = [0]
        self._at = (lambda: hidden) if hide else None
        self._open = [0]

    def _place(self):
        return self._at() if self._at else self._open

    def reset(self, *, seed=None, options=None):
        self._place()[0] = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._place()[0] += 1
        now = self._place()[0]
        return np.full(1, now, np.float32), 0.0, now == self.length, False, {}


@pytest.mark.parametrize("length", [2, 3, 4, 5, 7, 10, 30])
def test_state_within_short_episodes_is_tried(length):
    assert state.prove(lambda: ShortEnv(length, hide=False)).reason == ""
    assert state.prove(lambda: ShortEnv(length, hide=True)).reason == "a restored twin went on differently"
    assert state.prove(lambda: ShortEnv(1, hide=True)).reason == ""  # there is no middle of an episode


def test_an_environment_that_is_no_twin_is_not_played_with():
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    state_before = env.unwrapped.state
    assert state.prove(lambda: env).reason == "there is only one of its kind"
    assert env.unwrapped.state is state_before
    assert np.array_equal(np.asarray(state_before, np.float32), obs)


class UnseededEnv(gym.Env):
    """Draws from NumPy's and Python's global streams."""

    observation_space, action_space = gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.array([np.random.rand(), random.random()], np.float32), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


def test_the_proof_leaves_the_global_streams_alone():
    before = np.random.get_state()[1].tolist(), random.getstate()
    assert state.prove(UnseededEnv).reason == "a restored twin went on differently"
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


class Raising:
    """Makes environments until told not to, and fails in other ways."""

    def __init__(self, how):
        self.how, self.made = how, 0

    def __call__(self):
        self.made += 1
        if self.how == "second" and self.made == 2:
            raise RuntimeError("the port is taken")
        env = DiaryEnv()
        if self.how in ("step", "exit"):

            def step(action):
                raise SystemExit(0) if self.how == "exit" else RuntimeError("no step today")

            env.step = step
        return env


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("second", "trying it failed: RuntimeError: the port is taken"),
        (
            "step",
            r"trying it failed: DiaryEnv: environment 0 \(seed 1, step 1\) failed in step\([01]\) RuntimeError: no",
        ),
        ("exit", r"trying it failed: DiaryEnv: .* SystemExit: 0"),
    ],
)
def test_a_failing_proof_says_why_and_costs_no_run(how, reason):
    assert re.match(reason, state.prove(Raising(how)).reason)


def test_a_signal_ends_the_proof():
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 5:
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        state.prove(DiaryEnv, check)
    assert len(calls) == 5


def test_without_a_proof_new_episodes_are_begun():
    envs = GymEnvs(EnvConfig(id="CartPole-v1"), SeedTree(0)).train(1)
    envs.reset([1])
    assert envs.state_dict()["grade"] == "episode"
    assert envs.caveat == "new episodes are begun: its state is not saved (checkpoint.env_state=off)"


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
        saved, statistics = whole.state_dict(), whole.obs_stats.state_dict()  # which their factory saves
        assert saved["grade"] == "exact"
        obs = whole.obs.copy()
        expected = list(play(whole, actions[37:]))
        assert sum(len(sweep[-1]) for sweep in expected) >= 3
        resumed.obs_stats.load_state_dict(statistics)
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


class KeyedEnv(DiaryEnv):
    """Keeps what it was given, plain and in a container; with `forget` it changes that."""

    def __init__(self, token: str = "", forget: bool = False):
        super().__init__()
        self.token, self.headers, self.forget = token, {"key": [token]}, forget

    def step(self, action):
        if self.forget:
            self.token = "forgotten"
        return super().step(action)


def test_what_an_environment_was_told_is_not_written_down() -> None:
    gym.register("Keyed-v0", KeyedEnv)
    make = functools.partial(gym.make, "Keyed-v0", token="hunter2", disable_env_checker=True)
    env = make()
    when_new = state.tables(env)
    env.reset(seed=0)
    env.step(0)
    assert "hunter2" not in repr(state.capture(env, when_new))
    assert state.prove(make).reason == ""
    assert state.prove(functools.partial(make, forget=True)).reason == ""
