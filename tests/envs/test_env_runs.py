"""Runs in environments that ask for something: one of a kind, growing state, odd spaces, bytes; by the command."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlrun import cli, networks
from rlrun.envs.spaces import to_space
from rlrun.networks.builder import NetworkConfig, build_mlp
from rlrun.rundir import older
from rlrun.seeding import Role, SeedTree
from rlrun.testing import differences, interrupted
from rlrun.types import HeadSpec

SHORT = "total_timesteps=60 eval.freq=0 eval.episodes=2 eval.num_envs=1 checkpoint.freq=20 logger.console=off".split()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(file: str) -> Any:
    return json.loads(Path(file).read_text())


# --- instances -------------------------------------------------------------------------------------------------------


class WalkEnv(gym.Env):
    """Ten steps on a line; the class counts how many are open, and how many ever were."""

    observation_space, action_space = gym.spaces.Box(-99, 99, (1,)), gym.spaces.Discrete(2)
    made, open, most = 0, 0, 10**9

    def __init__(self):
        cls = WalkEnv
        if cls.open == cls.most:
            raise RuntimeError("the port is taken")
        cls.made, cls.open, self.closed = cls.made + 1, cls.open + 1, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t, self.x = self.t + 1, self.x + 2 * int(action) - 1
        return np.full(1, self.x, np.float32), float(self.x), self.t == 10, False, {}

    def close(self):
        if not self.closed:
            WalkEnv.open, self.closed = WalkEnv.open - 1, True


gym.register("tests/Walk-v0", WalkEnv, max_episode_steps=100)
WALK = ["algo=random", "env.id=tests/Walk-v0", *SHORT]


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("made", "open", "most"):
        monkeypatch.setattr(WalkEnv, name, {"made": 0, "open": 0, "most": 10**9}[name])


def test_a_run_makes_few_environments_and_closes_them() -> None:
    assert cli.main([*WALK, "eval.freq=20", "eval.num_envs=3", "hydra.run.dir=run"]) == 0
    assert WalkEnv.made == 1 + 1 + 2 + 2  # the spec's, the training's, two twins, as many as there are episodes
    assert WalkEnv.open == 0


def test_an_environment_that_exists_once_is_trained_resumed_and_evaluated() -> None:
    WalkEnv.most = 1
    once = ["checkpoint.env_state=off", "eval.episodes=0"]
    assert cli.main([*WALK, *once, "hydra.run.dir=run"]) == 0
    assert read("run/summary.json")["final_eval"] is None
    assert read("run/meta.json")["resume"].startswith(
        "new episodes are begun: its state is not saved (checkpoint.env_state=off)"
    )
    assert cli.main(["resume", "run", "total_timesteps=80"]) == 0
    assert cli.main(["eval", "run", "episodes=3", "num_envs=1"]) == 0
    assert WalkEnv.open == 0


def test_where_it_cannot_be_tried_the_run_goes_on_and_says_so(caplog: Any) -> None:
    WalkEnv.most = 1
    with caplog.at_level(logging.INFO):
        assert cli.main([*WALK, "eval.episodes=0", "hydra.run.dir=run"]) == 0
    why = "new episodes are begun: trying it failed: tests/Walk-v0 cannot be made: RuntimeError: the port is taken"
    assert read("run/meta.json")["resume"] == why
    assert f"a resumed run will not be exact: {why}" in caplog.messages
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert cli.main(["resume", "run", "total_timesteps=80"]) == 0
    assert f"a resumed run will not be exact: {why}" in caplog.messages


def test_trying_changes_no_byte_of_a_run() -> None:
    words = ["algo=dqn", "env=cartpole", "+smoke=on", *SHORT]
    assert cli.main([*words, "hydra.run.dir=auto"]) == 0
    assert cli.main([*words, "checkpoint.env_state=off", "hydra.run.dir=off"]) == 0
    auto, off = (Path(run, "checkpoints/last/algo.safetensors").read_bytes() for run in ("auto", "off"))
    assert auto == off


class DiaryEnv(WalkEnv):
    """Appends every action to a list and shows how many were 1; never forgets."""

    def __init__(self):
        super().__init__()
        self.diary = []

    def step(self, action):
        self.diary.append(int(action))
        obs, reward, terminated, truncated, info = super().step(action)
        return obs + sum(self.diary), reward, terminated, truncated, info


gym.register("tests/RunDiary-v0", DiaryEnv, max_episode_steps=100)


def test_an_environment_that_keeps_a_list_is_resumed_exactly() -> None:
    words = ["algo=dqn", "env.id=tests/RunDiary-v0", "~tuned", *SHORT, "+smoke=on", "checkpoint.freq=300"]
    assert cli.main([*words, "total_timesteps=600", "hydra.run.dir=whole"]) == 0
    assert cli.main([*words, "total_timesteps=500", "hydra.run.dir=parts"]) == 0
    assert read("parts/meta.json")["resume"] == "exact"
    assert cli.main(["resume", "parts", "total_timesteps=600"]) == 0
    whole, parts = (Path(run, "checkpoints/last/source.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


class LateEnv(WalkEnv):
    """Gets an engine of unknown kind after 300 steps."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 300:
            self.engine = object()
        return super().step(action)


gym.register("tests/RunLate-v0", LateEnv, max_episode_steps=100)


def test_a_promise_that_no_longer_holds_is_taken_back(caplog: Any) -> None:
    words = ["algo=random", "env.id=tests/RunLate-v0", *SHORT, "total_timesteps=400", "checkpoint.freq=100"]
    with caplog.at_level(logging.WARNING):
        assert cli.main([*words, "hydra.run.dir=run"]) == 0
    why = "new episodes are begun: `engine` of LateEnv is a object, which may hide anything"
    assert read("run/meta.json")["resume"] == why
    assert caplog.messages.count(f"a resumed run will not be exact: {why}") == 1
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert cli.main(["resume", "run", "total_timesteps=450"]) == 0
    assert f"a resumed run will not be exact: {why}" in caplog.messages


# --- every way of stepping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["in_process", "subprocess", "native"])
def test_every_vector_trains_and_resumes_exactly(kind: str) -> None:
    words = ["algo=dqn", "env=cartpole", f"env.vector={kind}", "env.num_envs=2", "+smoke=on", *SHORT]
    words += ["total_timesteps=240", "checkpoint.freq=80", "eval.freq=100"]
    with interrupted() as checks:
        assert cli.main([*words, "hydra.run.dir=whole"]) == 0
    assert read("whole/meta.json")["resume"] == "exact"
    with interrupted(after=checks[0] * 2 // 3):
        assert cli.main([*words, "hydra.run.dir=parts"]) == 75
    assert cli.main(["resume", "parts"]) == 0
    assert differences("whole", "parts") == []


# --- spaces ----------------------------------------------------------------------------------------------------------


class ShapedEnv(gym.Env):
    """Rewards an action near what it shows."""

    def __init__(self, obs=(), action=(), dtype="float32"):
        self.observation_space = gym.spaces.Box(0, 255 if dtype == "uint8" else 1, tuple(obs), np.dtype(dtype))
        self.action_space = gym.spaces.Box(-1, 1, tuple(action)) if action is not None else gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action if isinstance(action, int) else np.asarray(action, np.float32))
        self.t += 1
        return self.observation_space.sample(), -float(np.square(action).sum()), self.t == 7, False, {}


gym.register("tests/Shaped-v0", ShapedEnv, max_episode_steps=20)


@pytest.mark.parametrize(
    ("algo", "obs", "action"),
    [("ppo", [], []), ("ppo", [2, 3], [2, 2]), ("random", [], [2, 2]), ("dqn", [], None), ("ppo", [2], [])],
)
def test_spaces_of_every_shape_train(algo: str, obs: list[int], action: list[int] | None) -> None:
    kwargs = f"env.kwargs={{obs:{obs},action:{'null' if action is None else action}}}".replace(" ", "")
    words = [f"algo={algo}", "env.id=tests/Shaped-v0", kwargs, "+smoke=on", *SHORT]
    assert cli.main([*words, "env.num_envs=2", "total_timesteps=160", "hydra.run.dir=run"]) == 0
    assert cli.main(["resume", "run", "total_timesteps=200"]) == 0
    assert cli.main(["eval", "run", "episodes=2"]) == 0


@pytest.mark.parametrize("what", ["obs", "action"])
def test_a_box_without_elements_is_a_mistake(what: str, capsys: Any) -> None:
    words = ["algo=ppo", "env.id=tests/Shaped-v0", f"env.kwargs={{obs:[2],action:[2],{what}:[0,3]}}", *SHORT]
    words = [word.replace(f"{what}:[2],", "").replace(f",action:[2],{what}", f",{what}") for word in words]
    assert cli.main([*words, "hydra.run.dir=run"]) == 2
    assert "space (0, 3) has no elements" in capsys.readouterr().err
    assert not Path("run").exists()


def test_bytes_are_scaled_once_inside_the_network() -> None:
    space = to_space(gym.spaces.Box(np.array([[0, 50]]), np.array([[255, 150]]), dtype=np.uint8))
    network = build_mlp(NetworkConfig(hidden=[4]), space, HeadSpec("q", 3))
    obs = np.array([[[0, 50]], [[255, 150]], [[51, 100]]], np.uint8)
    features = network.trunk[0](torch.as_tensor(obs))
    assert features.tolist() == [[0, 0], [1, 1], [pytest.approx(0.2), 0.5]]
    inference = networks.Inference(network)
    assert inference._numpy is not None
    assert inference(obs) == pytest.approx(inference.torch(obs), abs=1e-6)
    assert not any("low" in name or "factor" in name for name in network.state_dict())
    plain = build_mlp(NetworkConfig(hidden=[4], scale=False), space, HeadSpec("q", 3))
    assert plain.trunk[0](torch.as_tensor(obs)).max() == 255


def test_pictures_train_without_diverging() -> None:
    words = ["algo=ppo", "env.id=tests/Shaped-v0", "env.kwargs={obs:[8,8,3],action:null,dtype:uint8}", "+smoke=on"]
    assert cli.main([*words, *SHORT, "total_timesteps=256", "hydra.run.dir=run"]) == 0


# --- seeds and old runs ----------------------------------------------------------------------------------------------


class SmallSeedsEnv(WalkEnv):
    """Keeps its seed in 32 bits with a sign."""

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            assert np.int32(seed) >= 0
        return super().reset(seed=seed)


gym.register("tests/SmallSeeds-v0", SmallSeedsEnv, max_episode_steps=100)


def test_seeds_fit_into_31_bits() -> None:
    new, old = SeedTree(3), SeedTree(3, version=1)
    roles = [(role, index) for role in Role for index in range(20)]
    assert max(old.integer(*role) for role in roles) >= 2**31 > max(new.integer(*role) for role in roles)
    assert all(new.integer(*role) == old.integer(*role) % 2**31 for role in roles)
    assert new.generator(Role.AGENT).random() == old.generator(Role.AGENT).random()
    for seed in range(4):
        words = ["algo=random", "env.id=tests/SmallSeeds-v0", *SHORT, f"seed={seed}"]
        assert cli.main([*words, f"hydra.run.dir=run{seed}"]) == 0
        assert cli.main(["eval", f"run{seed}", "episodes=5"]) == 0


def test_an_old_run_keeps_its_seeds_and_its_unscaled_bytes() -> None:
    assert older.config({"seed": 3, "network": {"name": "mlp"}}) == {
        "seed_tree": 1,
        "seed": 3,
        "network": {"name": "mlp", "conv": "flat", "scale": False},
    }
    assert older.config({"seed": 3, "network": None})["network"] is None
    new = {"seed_tree": 2, "network": {"name": "mlp", "conv": "none"}}
    assert older.config(new) == new


# --- where modules are -----------------------------------------------------------------------------------------------

MODULE = """
import gymnasium
from rlrun.envs.toy import CountingEnv
gymnasium.register("Mine-v0", CountingEnv, max_episode_steps=3)
"""


def test_the_module_of_an_id_is_found_in_the_working_directory(folder: Path, monkeypatch: Any, capsys: Any) -> None:
    (folder / "module_beside.py").write_text(MODULE)
    words = ["algo=random", "env.id=module_beside:Mine-v0", *SHORT]
    assert cli.main([*words, "hydra.run.dir=run"]) == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(folder)])
    monkeypatch.delitem(sys.modules, "module_beside")
    for verb in (["eval", "../run", "episodes=1"], ["resume", "../run", "total_timesteps=80"], ["play", "../run"]):
        capsys.readouterr()
        assert cli.main(verb) == 2
        said = capsys.readouterr().err
        assert "importing 'module_beside' failed: No module named 'module_beside'" in said
        assert f"the run was started in {folder}: go there, and it is found" in said
