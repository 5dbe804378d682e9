"""The boundary to environments: the same stream however they are stepped, and their faults by name."""

from __future__ import annotations

import logging
import signal

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rlrun.envs import faults
from rlrun.envs.contact import Contact
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig
from rlrun.errors import EnvError
from rlrun.seeding import SeedTree

SINGLY = ["in_process", "subprocess"]


def vector(kind, env_id, num_envs=1, **kwargs):
    return GymEnvs(EnvConfig(id=env_id, vector=kind, kwargs=kwargs), SeedTree(0)).train(num_envs)


# --- a zoo of environments whose data do not stay what they were ---------------------------------------------------


class CountEnv(gym.Env):
    """Counts the steps of an episode in tenths, ends after 4 or 5; subclasses are careless with what they return."""

    observation_space = gym.spaces.Box(-9, 9, (3,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.array = np.zeros(3, np.float32)
        self.t, self.episode = 0, 0

    def show(self):
        return np.full(3, self.t / 10, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self.show(), {}

    def step(self, action):
        self.t += 1
        return self.show(), float(self.t), self.t == 4 and self.episode % 2 == 0, self.t == 5, {}


class SameArrayEnv(CountEnv):
    """Returns one and the same array in every step and reset."""

    def show(self):
        self.array[:] = self.t / 10
        return self.array


class LateEnv(SameArrayEnv):
    """Spoils the array of the last step before it computes the next."""

    def step(self, action):
        self.array[:] = 77
        return super().step(action)


class TwoArraysEnv(CountEnv):
    """Has an array for steps that its reset fills with rubbish."""

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed)
        self.array[:] = 88
        return result

    def step(self, action):
        _, *rest = super().step(action)
        self.array[:] = self.t / 10
        return self.array, *rest


class ViewEnv(CountEnv):
    """Shows a view into an array that moves on."""

    def __init__(self):
        super().__init__()
        self.tape = np.zeros((2, 3), np.float32)

    def show(self):
        self.tape[:] = self.t / 10
        return self.tape[0]


class Float64Env(SameArrayEnv):
    def __init__(self):
        super().__init__()
        self.array = np.zeros(3)


class ListEnv(CountEnv):
    def show(self):
        return [self.t / 10] * 3


class NumpyEnv(CountEnv):
    """Its reward and flags are NumPy's, of several types and shapes."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        forms = [np.float32(reward), np.array(reward), np.array([reward]), int(reward)]
        return obs, forms[self.t % 4], np.bool_(terminated), int(truncated), info


class MutatedActionEnv(SameArrayEnv):
    """Keeps its action and changes it."""

    action_space = gym.spaces.Box(-1, 1, (2,))

    def step(self, action):
        action[:] = 0.5
        return super().step(0)


class ScalarEnv(CountEnv):
    observation_space = gym.spaces.Box(-9, 9, ())

    def show(self):
        return np.array(self.t / 10, np.float32)


class ScalarActionEnv(CountEnv):
    action_space = gym.spaces.Box(-1, 1, ())

    def step(self, action):
        assert isinstance(action, np.ndarray)
        assert action.shape == ()
        return super().step(action)


class DiscreteEnv(CountEnv):
    """Counts in numbers of NumPy's, from -2 on."""

    observation_space = gym.spaces.Discrete(10, start=-2)

    def show(self):
        return np.int32(self.t - 2)


class BytesEnv(SameArrayEnv):
    observation_space = gym.spaces.Box(0, 255, (2, 2), np.uint8)

    def __init__(self):
        super().__init__()
        self.array = np.zeros((2, 2), np.uint8)

    def show(self):
        self.array[:] = self.t * 10
        return self.array


ZOO = [
    *(CountEnv, SameArrayEnv, LateEnv, TwoArraysEnv, ViewEnv, Float64Env, ListEnv, NumpyEnv, MutatedActionEnv),
    *(ScalarEnv, ScalarActionEnv, DiscreteEnv, BytesEnv),
]
for animal in ZOO:
    gym.register(f"zoo/{animal.__name__}-v0", animal)


class SameArrayVector(gym.vector.VectorEnv):
    """E counting environments in one set of arrays that it returns every time; it spoils its actions."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    single_observation_space, single_action_space = CountEnv.observation_space, CountEnv.action_space

    def __init__(self, num_envs=1, **_):
        self.num_envs = num_envs
        self.t, self.episode = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.obs, self.last = np.zeros((num_envs, 3), np.float32), np.zeros((num_envs, 3), np.float32)
        self.reward, self.over, self.cut = np.zeros(num_envs), np.zeros(num_envs, bool), np.zeros(num_envs, bool)

    def reset(self, *, seed=None, options=None):
        self.t[:], self.episode[:] = 0, 1
        self.obs[:] = 0
        return self.obs, {}

    def step(self, actions):
        actions[:] = 9
        self.t += 1
        self.obs[:] = self.t[:, None] / 10
        self.reward[:] = self.t
        self.over[:] = (self.t == 4) & (self.episode % 2 == 0)
        self.cut[:] = self.t == 5
        ended = self.over | self.cut
        self.last[:] = self.obs
        self.episode[ended] += 1
        self.t[ended], self.obs[ended] = 0, 0
        return self.obs, self.reward, self.over, self.cut, {"final_obs": self.last, "_final_obs": ended}


gym.register("zoo/SameArrayVector-v0", CountEnv, vector_entry_point=SameArrayVector)


def expected_stream(steps):
    """What any of them tells: (steps so far, last of the episode or None, reward, terminated, truncated, return)."""
    t, episode, total = 0, 1, 0.0
    for _ in range(steps):
        t, total = t + 1, total + t + 1
        over, cut = t == 4 and episode % 2 == 0, t == 5
        yield (0, t, float(t), over, cut, total) if over or cut else (t, None, float(t), over, cut, None)
        if over or cut:
            t, episode, total = 0, episode + 1, 0.0


def shown(space, t):
    """What an observation space makes of a count of steps."""
    if space.kind == "discrete":
        return np.full(space.shape, t, np.int64)
    return np.full(space.shape, t * 10 if space.dtype == np.uint8 else np.float32(t / 10), space.dtype)


@pytest.mark.parametrize(
    ("kind", "env_id"),
    [(kind, f"zoo/{animal.__name__}-v0") for kind in SINGLY for animal in ZOO] + [("native", "zoo/SameArrayVector-v0")],
)
def test_every_stream_is_that_of_a_plain_loop(kind, env_id):
    envs = vector(kind, env_id, 2)
    try:
        space = envs.spec.obs_space
        first = envs.reset([1, 2])
        assert np.array_equal(first, [shown(space, 0)] * 2)
        if env_id == "zoo/MutatedActionEnv-v0":
            action = np.full((2, 2), 0.25, np.float32)
        elif env_id == "zoo/ScalarActionEnv-v0":
            action = np.full(2, 0.25, np.float32)
        else:
            action = np.ones(2, np.int64)
        kept, ends = action.copy(), 0
        for t, last, reward, over, cut, total in expected_stream(23):
            step = envs.step(action)
            assert np.array_equal(step.obs, [shown(space, t)] * 2)
            assert step.obs.dtype == space.dtype
            assert step.reward.tolist() == [reward] * 2
            assert (step.terminated.tolist(), step.truncated.tolist()) == ([over] * 2, [cut] * 2)
            assert np.array_equal(action, kept)
            assert list(step.final_obs) == ([] if last is None else [0, 1])
            for final in step.final_obs.values():
                assert np.array_equal(final, shown(space, last))
                assert final.dtype == space.dtype
            assert [tuple(stat) for stat in step.episodes] == (
                [] if last is None else [(total, last, 0), (total, last, 1)]
            )
            ends += last is not None
        assert ends == 5
    finally:
        envs.close()


# --- what cannot be ---------------------------------------------------------------------------------------------------


class WrongEnv(CountEnv):
    """Says something wrong in its third step."""

    def __init__(self, what="", space="box"):
        super().__init__()
        self.what = what
        if space == "discrete":
            self.observation_space = gym.spaces.Discrete(8)
            self.show = lambda: self.t

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        if self.t < 3:
            return obs, reward, terminated, truncated, info
        kind = self.what.partition(":")[0]
        value = WRONG[self.what]
        if kind == "step":
            return value
        values = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated} | {kind: value}
        return *values.values(), info


WRONG = {
    "obs:shape": np.zeros(1, np.float32),
    "obs:rank": np.zeros((1, 3), np.float32),
    "obs:complex": np.zeros(3, complex),
    "obs:text": "left",
    "obs:texts": np.array(["1", "2", "3"]),
    "obs:none": None,
    "obs:ragged": [1.0, [2.0, 3.0]],
    "obs:nan": np.array([0, np.nan, 0], np.float32),
    "obs:inf": np.array([0, np.inf, 0], np.float32),
    "obs:both": np.array([-np.inf, np.inf, 0], np.float32),
    "obs:huge": np.array([0, 1e300, 0]),
    "reward:none": None,
    "reward:text": "1.0",
    "reward:two": np.zeros(2),
    "reward:complex": 1j,
    "reward:nan": np.nan,
    "reward:inf": np.float32(np.inf),
    "reward:huge": 1e200,
    "terminated:text": "no",
    "terminated:none": None,
    "terminated:nan": np.nan,
    "truncated:two": np.zeros(2, bool),
    "truncated:number": 2,
    "step:four": (np.zeros(3, np.float32), 0.0, False, {}),
    "step:none": None,
    "step:info": (np.zeros(3, np.float32), 0.0, False, False, ["regret"]),
    "step:no info": (np.zeros(3, np.float32), 0.0, False, False, None),
    "step:regret": (np.zeros(3, np.float32), 0.0, False, False, {"regret": "much"}),
}
STATES = {"obs:below": -1, "obs:above": 99, "obs:half": 2.5, "obs:array": np.array([3]), "obs:word": "three"}
WRONG |= STATES

gym.register("zoo/Wrong-v0", WrongEnv)


@pytest.mark.filterwarnings("error", "ignore:overflow encountered in cast")
@pytest.mark.parametrize("what", [what for what in WRONG if what not in STATES])
def test_what_cannot_be_is_refused_in_its_step(what):
    envs = vector("in_process", "zoo/Wrong-v0", what=what)
    envs.reset([4])
    envs.step(np.array([1]))
    envs.step(np.array([0]))
    with pytest.raises(
        EnvError, match=r"zoo/Wrong-v0: environment 0 \(seed 4, step 3\) failed in step\(1\)\n"
    ) as caught:
        envs.step(np.array([1]))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("what", STATES)
def test_states_that_are_none_are_refused(what):
    envs = vector("in_process", "zoo/Wrong-v0", what=what, space="discrete")
    envs.reset([4])
    envs.step(np.array([1]))
    envs.step(np.array([0]))
    with pytest.raises(EnvError, match=r"environment 0 \(seed 4, step 3\) failed in step\(1\)\n.*the observation is"):
        envs.step(np.array([1]))


@pytest.mark.parametrize("what", ["obs:shape", "obs:nan", "reward:none", "terminated:text", "step:four"])
def test_children_refuse_the_same_in_the_same_words(what):
    said = []
    for kind in SINGLY:
        envs = vector(kind, "zoo/Wrong-v0", what=what)
        try:
            envs.reset([4])
            with pytest.raises(EnvError) as caught:
                for _ in range(3):
                    envs.step(np.array([1]))
            said.append(str(caught.value))
        finally:
            envs.close()
    assert said[0] == said[1]


def test_a_last_observation_and_a_first_one_are_looked_at_too():
    class Ends(CountEnv):
        def step(self, action):
            return np.full(3, np.nan), 0.0, True, False, {}

    class Begins(CountEnv):
        def reset(self, *, seed=None, options=None):
            return np.full(3, np.nan if self.t else 0.0, np.float32), {}

    for env, call in ((Ends, "step(0)"), (Begins, "reset()")):
        gym.register(f"zoo/{env.__name__}-v0", env)
        envs = vector("in_process", f"zoo/{env.__name__}-v0")
        envs.reset([4])
        with pytest.raises(EnvError) as caught:
            for _ in range(5):
                envs.step(np.array([0]))
        assert f"failed in {call}\nthe observation is not finite: [nan, nan, nan]" in str(caught.value)


def test_values_outside_of_the_bounds_are_taken():
    contact = Contact(CountEnv())
    contact.reset(0)
    contact.env.t = 10_000
    assert contact.step(0)[0][0] == np.float32(1000.1)


@pytest.mark.parametrize("wrong", ["obs", "reward", "flags", "states"])
def test_native_vectors_are_looked_at(wrong):
    class Wrong(SameArrayVector):
        if wrong == "states":
            single_observation_space = gym.spaces.Discrete(8)

        def reset(self, *, seed=None, options=None):
            return (np.zeros(self.num_envs, int) if wrong == "states" else self.obs), {}

        def step(self, actions):
            _, *rest = super().step(actions)
            column = self.obs[:, :1]
            place, value = {
                "obs": (0, column),
                "states": (0, np.array([0, 8])),
                "reward": (1, column),
                "flags": (2, np.zeros(2)),
            }[wrong]
            result = [self.obs, *rest]
            result[place] = value
            return tuple(result)

    gym.register(f"zoo/WrongVector{wrong}-v0", CountEnv, vector_entry_point=Wrong)
    envs = vector("native", f"zoo/WrongVector{wrong}-v0", 2)
    envs.reset([4, 5])
    with pytest.raises(EnvError, match=r"the vector \(seed 4\) failed in step\(\[1, 1\]\)"):
        envs.step(np.array([1, 1]))


# --- failures of every kind -----------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


ERRORS = {
    "exit": SystemExit(0),
    "keyboard": KeyboardInterrupt(),
    "generator": GeneratorExit("enough"),
    "base": BaseException("bare"),
    "long": RuntimeError("x" * 1_000_000),
    "escapes": RuntimeError("\x1b[31mred\x1b[2J\x07\nsecond line"),
    "mute": Mute(),
    "assertion": AssertionError(),
}
TEXTS = {
    "exit": "SystemExit: 0",
    "keyboard": "KeyboardInterrupt",
    "generator": "GeneratorExit: enough",
    "base": "BaseException: bare",
    "long": "RuntimeError: xxxx",
    "escapes": "RuntimeError: ?[31mred?[2J?\nsecond line",
    "mute": "Mute: (its text cannot be had: RuntimeError)",
    "assertion": "AssertionError",
}


class FailingEnv(CountEnv):
    def __init__(self, where, how):
        super().__init__()
        self.where, self.how = where, how
        if where == "make":
            raise ERRORS[how]

    def reset(self, *, seed=None, options=None):
        if self.where == "reset":
            raise ERRORS[self.how]
        return super().reset(seed=seed)

    def step(self, action):
        if self.where == "step":
            raise ERRORS[self.how]
        return super().step(action)

    def close(self):
        if self.where == "close":
            raise ERRORS[self.how]


gym.register("zoo/Failing-v0", FailingEnv)


@pytest.fixture
def handled(monkeypatch):
    """As in a run: Ctrl-C is handled, so a KeyboardInterrupt is the environment's own."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("where", ["make", "reset", "step"])
def test_whatever_is_raised_has_a_name(where, how, handled):
    with pytest.raises(EnvError) as caught:
        envs = vector("in_process", "zoo/Failing-v0", where=where, how=how)
        envs.reset([4])
        envs.step(np.array([1]))
    text = str(caught.value)
    called = {"make": "zoo/Failing-v0 cannot be made: ", "reset": "environment 0 (seed 4) failed in reset()\n"}
    assert called.get(where, "environment 0 (seed 4, step 1) failed in step(1)\n") + TEXTS[how] in text
    assert len(text) < 600
    assert all(char.isprintable() or char == "\n" for char in text)
    assert caught.value.__cause__ is ERRORS[how] or where == "make"


@pytest.mark.parametrize("how", ["exit", "keyboard", "mute"])
@pytest.mark.parametrize("where", ["reset", "step"])
def test_whatever_is_raised_in_a_child_has_a_name_and_a_traceback(where, how, handled):
    envs = vector("subprocess", "zoo/Failing-v0", where=where, how=how)
    try:
        with pytest.raises(EnvError) as caught:
            envs.reset([4])
            envs.step(np.array([1]))
        assert f"{TEXTS[how]}" in str(caught.value)
        assert f"in {where}\n" in str(caught.value.__cause__)
    finally:
        envs.close()


class MadeInChildEnv(CountEnv):
    """Can be made once per process only where it is the parent."""

    def __init__(self):
        super().__init__()
        import multiprocessing

        if multiprocessing.parent_process() is not None:
            raise SystemExit("no licence here")


gym.register("zoo/MadeInChild-v0", MadeInChildEnv)


def test_a_child_that_cannot_make_its_environment_says_so():
    envs = vector("subprocess", "zoo/MadeInChild-v0", 2)
    try:
        with pytest.raises(EnvError, match=r"environment 0: zoo/MadeInChild-v0 cannot be made: SystemExit: no licence"):
            envs.reset([4, 5])
    finally:
        envs.close()


@pytest.mark.parametrize("how", ["exit", "long", "mute"])
def test_one_that_fails_to_close_costs_a_warning(how, handled, caplog):
    envs = vector("in_process", "zoo/Failing-v0", 2, where="close", how=how)
    envs.reset([4, 5])
    caplog.clear()  # of the one that told its spaces
    with caplog.at_level(logging.WARNING):
        envs.close()
    assert [
        TEXTS[how] in message and f"environment {e} (seed {4 + e}) failed in close()" in message
        for e, message in enumerate(caplog.messages)
    ] == [True, True]


def test_one_that_fails_to_close_is_no_obstacle_to_children(caplog):
    envs = vector("subprocess", "zoo/Failing-v0", where="close", how="long")
    try:
        assert envs.reset([4]).tolist() == [[0, 0, 0]]
        assert "failed in close()" in caplog.messages[0]  # of the one whose spaces were read
    finally:
        envs.close()


def test_a_real_ctrl_c_is_not_the_environments():
    envs = vector("in_process", "zoo/Failing-v0", where="step", how="keyboard")
    envs.reset([4])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        envs.step(np.array([1]))


def test_texts_are_cut_and_printable():
    assert faults.shortened("a\n\nb\nc\nd") == "a\nb\nc ..."
    assert faults.shortened("plain\n") == "plain"
    assert faults.step_of(np.arange(1000.0)).endswith(" ...)")
