"""Vectors of environments: their stream is that of separate environments, and their failures name the culprit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector import AutoresetMode

from rlrun.envs.classic import SameStepCartPole
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import ConfigError, EnvError
from rlrun.seeding import SeedTree

SEEDS = [11, 22, 33]


def vector(kind, env_id, num_envs=3, **options):
    return GymEnvs(EnvConfig(id=env_id, vector=kind, **options), SeedTree(0)).train(num_envs)


def random_actions(space, steps, num_envs):
    rng = np.random.default_rng(0)
    if space.kind == "discrete":
        return rng.integers(space.n, size=(steps, num_envs))
    return rng.uniform(-3, 3, size=(steps, num_envs, *space.shape)).astype(np.float32)


# --- the same stream as separate environments --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
@pytest.mark.parametrize(
    ("env_id", "limit"), [("CartPole-v1", 15), ("FrozenLake-v1", None), ("Pendulum-v1", 40), ("rlrun/Toy-v0", None)]
)
def test_stream_equals_separate_environments(kind, env_id, limit):
    envs = vector(kind, env_id, time_limit=limit)
    actions = random_actions(envs.spec.action_space, 120, 3)
    separate = [gym.make(env_id, max_episode_steps=limit) for _ in SEEDS]
    try:
        expected = np.stack([env.reset(seed=seed)[0] for env, seed in zip(separate, SEEDS, strict=True)])
        assert np.array_equal(envs.reset(SEEDS), expected)
        totals, lengths, ends = [0.0] * 3, [0] * 3, 0
        for action in actions:
            step = envs.step(action)
            episodes = []
            for e, env in enumerate(separate):
                one = np.clip(action[e], -2, 2) if env_id == "Pendulum-v1" else int(action[e])
                obs, reward, terminated, truncated, _ = env.step(one)
                totals[e] += reward
                lengths[e] += 1
                assert (step.terminated[e], step.truncated[e]) == (terminated, truncated)
                assert step.reward[e] == np.float32(reward)
                if terminated or truncated:
                    assert np.array_equal(step.final_obs[e], obs)
                    episodes.append((pytest.approx(totals[e]), lengths[e], e))
                    totals[e], lengths[e], ends = 0.0, 0, ends + 1
                    obs, _ = env.reset()
                else:
                    assert e not in step.final_obs
                assert np.array_equal(step.obs[e], obs)
            assert [tuple(stat) for stat in step.episodes] == episodes
        assert ends >= 3
    finally:
        envs.close()


def test_dtypes_are_those_of_the_spec():
    envs = vector("in_process", "FrozenLake-v1")
    envs.reset(SEEDS)
    step = envs.step(np.zeros(3, int))
    assert (step.obs.dtype, step.reward.dtype, step.terminated.dtype) == (np.int64, np.float32, bool)


class Float64Env(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gym.spaces.Discrete(2, start=5)

    def reset(self, *, seed=None, options=None):
        return np.full(2, 0.1), {}

    def step(self, action):
        assert action in (5, 6)
        return np.full(2, 0.3), float(action), True, False, {}


def test_float64_observations_become_float32_and_actions_are_shifted():
    envs = InProcess([Float64Env()])
    assert envs.reset([0]).dtype == np.float32
    step = envs.step(np.array([1]))
    assert step.reward[0] == 6.0
    assert step.final_obs[0].dtype == np.float32
    assert step.final_obs[0][0] == np.float32(0.3)


class ShiftedEnv(gym.Env):
    observation_space = gym.spaces.Discrete(3, start=-1)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return -1, {}

    def step(self, action):
        return 1, 0.0, False, False, {}


def test_discrete_observations_count_from_zero():
    envs = InProcess([ShiftedEnv()])
    assert envs.reset([0]).tolist() == [0]
    assert envs.step(np.array([0])).obs.tolist() == [2]


def test_the_same_environment_twice_is_refused():
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="twice"):
        InProcess([env, env])
    with pytest.raises(ValueError, match="twice"):
        InProcess([env, gym.wrappers.TimeLimit(env, 3)])


def test_as_many_seeds_as_environments():
    with pytest.raises(ValueError, match="3 environments need as many seeds, got 1"):
        vector("in_process", "CartPole-v1").reset([1])


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
def test_reset_one_starts_one_environment_from_its_seed(kind):
    envs = vector(kind, "CartPole-v1")
    try:
        envs.reset(SEEDS)
        others = envs.step(np.zeros(3, int)).obs.copy()
        expected, _ = gym.make("CartPole-v1").reset(seed=5)
        assert np.array_equal(envs.reset_one(1, 5), expected)
        assert np.array_equal(envs.obs[[0, 2]], others[[0, 2]])
        lengths = [0] * 3
        while not all(lengths):
            for stat in envs.step(np.zeros(3, int)).episodes:
                lengths[stat.env] = lengths[stat.env] or stat.length
        alone = gym.make("CartPole-v1")
        alone.reset(seed=5)
        assert lengths[1] == next(t for t in range(1, 500) if alone.step(0)[2])
    finally:
        envs.close()


def test_cheaper_than_gymnasiums_vector_for_one_environment():
    ours = vector("in_process", "CartPole-v1", num_envs=1)
    theirs = gym.make_vec("CartPole-v1", 1, "sync")
    ours.reset([0])
    theirs.reset(seed=0)
    actions = random_actions(ours.spec.action_space, 300, 1)

    def seconds(envs):
        start = time.process_time()
        for action in actions:
            envs.step(action)
        return time.process_time() - start

    rounds = [(seconds(ours), seconds(theirs)) for _ in range(7)]
    assert min(own for own, _ in rounds) < min(other for _, other in rounds)


# --- actions ------------------------------------------------------------------------------------------------------


class EchoEnv(gym.Env):
    """Shows the action it was given."""

    action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 10], np.float32))
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return action, 0.0, False, False, {}


gym.register("tests/Echo-v0", EchoEnv)


@pytest.mark.parametrize(
    ("options", "given", "taken"),
    [
        ({}, [-2, 20], [-1, 10]),
        ({}, [0.5, 3], [0.5, 3]),
        ({"clip_action": False}, [-2, 20], [-2, 20]),
        ({"rescale_action": [-1, 1]}, [-1, -1], [-1, 0]),
        ({"rescale_action": [-1, 1]}, [0, 0], [0, 5]),
        ({"rescale_action": [0, 2]}, [1.5, 0.5], [0.5, 2.5]),
        ({"rescale_action": [-1, 1]}, [9, -9], [1, 0]),
    ],
)
def test_continuous_actions_are_clipped_or_rescaled_per_dimension(options, given, taken):
    envs = vector("in_process", "tests/Echo-v0", num_envs=1, **options)
    envs.reset([0])
    assert envs.step(np.array([given], np.float32)).obs.tolist() == [taken]


def test_agents_see_the_rescaled_bounds():
    space = vector("in_process", "tests/Echo-v0", rescale_action=[-1, 1]).spec.action_space
    assert (space.low.tolist(), space.high.tolist()) == ([-1, -1], [1, 1])


def test_an_environment_may_keep_its_action():
    envs = vector("in_process", "tests/Echo-v0", num_envs=1, clip_action=False)
    envs.reset([0])
    action = np.array([[1, 2]], np.float32)
    obs = envs.envs[0].step(envs._actions(action)[0])[0]
    action[:] = 7
    assert obs.tolist() == [1, 2]


def test_rescaling_needs_bounds():
    gym.register(
        "tests/Unbounded-v0", lambda: gym.wrappers.TransformAction(EchoEnv(), lambda a: a, EchoEnv.observation_space)
    )
    with pytest.raises(ConfigError, match=r"env.rescale_action: an action dimension has no bounds"):
        vector("in_process", "tests/Unbounded-v0", rescale_action=[-1, 1])


# --- native vectors -----------------------------------------------------------------------------------------------


def test_native_cartpole_follows_the_physics_and_resets_in_the_same_step():
    envs = vector("native", "CartPole-v1", num_envs=16, time_limit=25)
    model = CartPoleEnv()
    model.reset()
    obs = envs.reset([1] * 16).copy()
    lengths = np.zeros(16, int)
    truncations = 0
    for action in random_actions(envs.spec.action_space, 100, 16):
        step = envs.step(action)
        lengths += 1
        for e in range(16):
            model.state, model.steps_beyond_terminated = obs[e], None
            expected, reward, terminated, _, _ = model.step(int(action[e]))
            assert step.final_obs.get(e, step.obs[e]) == pytest.approx(expected, abs=1e-5)
            assert step.reward[e] == reward == 1.0
            assert step.terminated[e] == terminated
            assert step.truncated[e] == (lengths[e] == 25)
            assert (e in step.final_obs) == (terminated or step.truncated[e])
        for stat in step.episodes:
            assert stat == (lengths[stat.env], lengths[stat.env], stat.env)
            assert np.abs(step.obs[stat.env]).max() <= 0.05
            lengths[stat.env] = 0
        truncations += step.truncated.sum()
        obs = step.obs.copy()
    assert truncations > 0


class WithoutMode(CartPoleVectorEnv):
    metadata = {"render_modes": []}  # noqa: RUF012


class Disabled(CartPoleVectorEnv):
    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012


class NextStep(CartPoleVectorEnv):
    pass


@pytest.mark.parametrize("refused", [WithoutMode, Disabled, NextStep])
def test_vectors_with_another_autoreset_are_refused(refused):
    gym.register(f"tests/{refused.__name__}-v0", vector_entry_point=refused)
    with pytest.raises(
        ConfigError, match=rf"env.vector: {refused.__name__} .* transitions that never were\nuse env.vector="
    ):
        vector("native", f"tests/{refused.__name__}-v0")


gym.register("tests/OnlyVector-v0", vector_entry_point=SameStepCartPole, max_episode_steps=30)


def test_an_environment_that_is_only_a_vector_is_evaluated_by_seed():
    factory = GymEnvs(EnvConfig(id="tests/OnlyVector-v0", vector="native"), SeedTree(0))
    assert factory.spec(4).max_episode_steps == 30
    evaluation = factory.evaluation(2)
    first = evaluation.reset_one(0, 7).copy()
    assert np.array_equal(evaluation.reset_one(1, 7), first)
    assert not np.array_equal(evaluation.reset_one(1, 8), first)
    evaluation.reset([7, 8])
    lengths = []
    while len(lengths) < 4:
        step = evaluation.step(np.zeros(2, int))
        lengths += [stat.length for stat in step.episodes]
        assert all(abs(last[2]) > 0.2 for last in step.final_obs.values())  # the pole lies
    assert all(8 <= length <= 11 for length in lengths)  # what pushing left all the time gives


def test_environments_without_a_vector_say_so():
    with pytest.raises(ConfigError, match=r"env\.vector: Pendulum-v1 has no vector of its own"):
        vector("native", "Pendulum-v1")
    with pytest.raises(ConfigError, match=r"env\.vector: tests/OnlyVector-v0 exists only as a vector"):
        vector("in_process", "tests/OnlyVector-v0")


# --- failures ------------------------------------------------------------------------------------------------------


class FailingEnv(gym.Env):
    """Fails in its third step, in the way it was asked to."""

    observation_space = gym.spaces.Box(0, 100, (1,))
    action_space = gym.spaces.Discrete(9)

    def __init__(self, how):
        self._how = how

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        if self._how == "reset":
            raise RuntimeError("out of eggs")
        if self._how == "no info":
            return np.zeros(1, np.float32)
        return np.zeros(2 if self._how == "shape" else 1, np.float32), {}

    def step(self, action):
        self._t += 1
        if self._t == 3 and self._how == "raise":
            raise RuntimeError("out of eggs")
        if self._t == 3 and self._how == "exit":
            os._exit(9)
        return np.array([action], np.float32), 0.0, False, False, {}


gym.register("tests/Failing-v0", FailingEnv)


def failing(kind, how):
    return vector(kind, "tests/Failing-v0", num_envs=2, kwargs={"how": how})


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
def test_a_failing_step_names_environment_seed_and_action(kind):
    envs = failing(kind, "raise")
    try:
        envs.reset([4, 5])
        envs.reset_one(0, 6)
        envs.step(np.array([1, 2]))
        envs.step(np.array([1, 2]))
        with pytest.raises(EnvError) as caught:
            envs.step(np.array([3, 4]))
        assert str(caught.value) == (
            "tests/Failing-v0: environment 0 (seed 6, step 3) failed in step(3)\nRuntimeError: out of eggs"
        )
    finally:
        envs.close()


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("reset", r"environment 0 \(seed 4\) failed in reset\(\)\nRuntimeError: out of eggs"),
        ("no info", r"it must return \(obs, info\), not ndarray array"),
        ("shape", r"its space is float32 \(1,\), but the observation is float32 \(2,\)"),
    ],
)
def test_a_failing_reset_says_why(kind, how, message):
    envs = failing(kind, how)
    try:
        with pytest.raises(EnvError, match=message):
            envs.reset([4, 5])
    finally:
        envs.close()


class ShrinkingEnv(gym.Env):
    """Forgets the shape of its observations after the first episode."""

    observation_space, action_space = gym.spaces.Box(0, 1, (3,)), gym.spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed=None, options=None):
        self.episodes += 1
        return np.zeros(3 if self.episodes == 1 else (), np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, True, False, {}


gym.register("tests/Shrinking-v0", ShrinkingEnv)


@pytest.mark.parametrize("kind", ["in_process", "subprocess"])
def test_every_reset_must_return_an_observation_of_the_space(kind):
    envs = vector(kind, "tests/Shrinking-v0", num_envs=1)
    try:
        envs.reset([4])
        with pytest.raises(EnvError, match=r"its space is float32 \(3,\), but the observation is float32 \(\)"):
            envs.step(np.array([0]))
    finally:
        envs.close()


def test_a_dying_child_is_named_and_leaves_no_sibling(capfd):
    envs = failing("subprocess", "exit")
    processes = envs._children.processes
    envs.reset([4, 5])
    envs.step(np.array([1, 2]))
    envs.step(np.array([1, 2]))
    with pytest.raises(EnvError, match=r"process of environment [01] \(seed [45]\) died in step\([34]\): exit code 9"):
        envs.step(np.array([3, 4]))
    assert not any(process.is_alive() for process in processes)
    envs.close()
    assert capfd.readouterr().err == ""


def test_a_child_that_cannot_start_is_named_and_leaves_no_sibling(monkeypatch):
    started = []

    def start(process):
        if started:
            raise EOFError("unexpected EOF")
        started.append(process)
        really_start(process)

    really_start = BaseProcess.start
    monkeypatch.setattr(BaseProcess, "start", start)
    with pytest.raises(EnvError, match=r"process of environment 1 could not be started: EOFError: unexpected EOF"):
        failing("subprocess", "")
    assert not started[0].is_alive()


def test_starting_children_leaves_the_parents_signals_as_they_were():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        envs = failing("subprocess", "")
        envs.close()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before | {signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_children_ignore_signals():
    envs = failing("subprocess", "")
    processes = envs._children.processes
    envs.reset([4, 5])
    for process in processes:
        assert "SigBlk:\t0000000000000000\n" in Path(f"/proc/{process.pid}/status").read_text()
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    assert envs.step(np.array([1, 2])).obs.ravel().tolist() == [1.0, 2.0]
    envs.close()
    assert not any(process.is_alive() for process in processes)


PARENT = """
import os, sys
import gymnasium as gym
import numpy as np
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig
from rlrun.seeding import SeedTree

class ThreadsEnv(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(100), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return int(os.environ["OMP_NUM_THREADS"]), {}

    def step(self, action):
        return 0, 0.0, False, False, {}

if __name__ == "__main__":
    gym.register("Threads-v0", ThreadsEnv)
    envs = GymEnvs(EnvConfig(id="Threads-v0", vector="subprocess"), SeedTree(0)).train(3)
    print(*envs.reset([1, 2, 3]), os.environ["OMP_NUM_THREADS"])
    print(*[process.pid for process in envs._children.processes], flush=True)
    if sys.argv[1] == "exit":
        sys.exit()
    while True:
        envs.step(np.zeros(3, int))
"""


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_children_compute_with_one_thread_and_do_not_outlive_their_parent(tmp_path, end):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "4"}
    parent = subprocess.Popen(
        [sys.executable, script, end], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout.readline().split() == ["1", "1", "1", "4"]
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 3
    if end == "kill":
        parent.kill()
    _, err = parent.communicate()
    deadline = time.monotonic() + 300
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in err
