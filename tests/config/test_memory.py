"""What does not fit into memory is refused with a value that would; estimates by hand."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlrun import cli
from rlrun.buffers.replay import UniformConfig, uniform
from rlrun.compute.device import Device
from rlrun.config import compose, memory
from rlrun.config.validate import validate
from rlrun.errors import ConfigError
from rlrun.footprint import Need
from rlrun.run import build
from rlrun.text import size
from rlrun.types import EnvSpec, Progress, Space

GIB = 2.0**30

HUGE = """
import gymnasium as gym
import numpy as np

class Huge(gym.Env):
    def __init__(self, states=10**9):
        self.observation_space = gym.spaces.Discrete(states)
        self.action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, 0.0, False, True, {}

class Pictures(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (210, 160, 3), np.uint8)
    action_space = gym.spaces.Discrete(6)

    def reset(self, *, seed=None, options=None):
        return np.zeros((210, 160, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((210, 160, 3), np.uint8), 0.0, False, True, {}

gym.register("Huge-v0", Huge)
gym.register("Pictures-v0", Pictures)
"""


@pytest.fixture(autouse=True)
def eight_gib_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: 8 * GIB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("huge_envs.py").write_text(HUGE)


REFUSED = [
    (["algo=dqn", "env=cartpole", "buffer.capacity=900000000"], "buffer.capacity"),
    (["algo=dqn", "imports=[huge_envs]", "env.id=Pictures-v0"], "buffer.capacity"),
    (["algo=dqn", "env=cartpole", "network.hidden=[100000,100000]"], "network.hidden"),
    (["algo=ppo", "env=cartpole", "network.hidden=[1000000,1000000]"], "network.hidden"),
    (["algo=ppo", "env=cartpole", "algo.n_steps=10000000"], "algo.n_steps"),
    (["algo=ppo", "env=cartpole", "env.num_envs=1000000"], "env.num_envs"),
    (["algo=ppo", "env=cartpole", "env.vector=subprocess", "env.num_envs=1000"], "env.num_envs"),
    (
        ["algo=dqn", "env=cartpole", "env.vector=subprocess", "eval.num_envs=9000", "eval.episodes=9000"],
        "eval.num_envs",
    ),
    (["algo=dqn", "env=cartpole", "algo.batch_size=10000", "algo.gradient_steps=1000000"], "algo.gradient_steps"),
    (["algo=dqn", "env=cartpole", "buffer.capacity=1000", "algo.batch_size=10000000"], "algo.batch_size"),
    (["algo=q_learning", "imports=[huge_envs]", "env.id=Huge-v0"], "env.id"),
    (["algo=eps_greedy", "env=bandit/bernoulli", "env.bandits=1000", "env.arms=1000000"], "env.arms"),
    (["algo=ucb", "env=bandit/gaussian", "env.arms=1000", "env.bandits=1000000"], "env.bandits"),
    (["algo=bootstrap", "env=bandit/bernoulli", "network.hidden=[30000,30000]"], "network.hidden"),
    (
        ["algo=ppo", "env=cartpole", "experience=actors", "experience.actors=500", "env.num_envs=500"],
        "experience.actors",
    ),
    (
        ["algo=ppo", "env=cartpole", "experience=actors", "algo.n_steps=2000000", "experience.ahead=9"],
        "experience.ahead",
    ),
    (["algo=acer_continuous", "env=pendulum", "algo.samples=10000000"], "algo.samples"),
    (["algo=lin_ucb", "env=bandit/bernoulli", "env.bandits=3000", "env.arms=1000", "env.context=one_hot"], "env.id"),
]


@pytest.mark.parametrize(("words", "key"), REFUSED, ids=[key for _, key in REFUSED])
def test_what_does_not_fit_is_refused_before_anything_is_made(
    words: list[str], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "hydra.run.dir=run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rlrun: {key}: ") and "would need" in error, error
    assert len(error.splitlines()) <= 2
    assert not Path("run").exists()


@pytest.mark.parametrize("number", [1, 2, 4, 5, 13, 14])
def test_the_value_that_is_named_fits(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    words, key = REFUSED[number]
    cli.main([*words, "hydra.run.dir=run"])
    hint = re.search(rf"^({key}=\d+) fits$", capsys.readouterr().err, re.MULTILINE)
    if key == "network.hidden":
        assert hint is None, "layers are not in proportion"
        return
    assert hint is not None
    words = [word for word in words if not word.startswith(key)]
    compose.set_up(words)
    build.setting(validate(compose.compose([*words, hint[1]]).data))
    digits = hint[1].partition("=")[2].rstrip("0")
    assert len(digits) <= 2, "a round number"


def test_estimates_by_hand() -> None:
    def needs(*words: str) -> dict[str, float]:
        compose.set_up(words)
        where = build.setting(validate(compose.compose(words).data))
        return {need.key: need.bytes for need in memory.of_run(where.cfg, where.spec)}

    dqn = needs("algo=dqn", "env=cartpole", "~tuned", "buffer.capacity=1000", "network.hidden=[8]", "env.num_envs=3")
    assert dqn["buffer.capacity"] == 1000 * (
        4 * 4 + 8 + 2 * 4 + 2 * 8
    )  # an observation of 4 floats, int64, 2 floats, 2 int64
    assert dqn["network.hidden"] == 4 * 5 * ((4 + 1) * 8 + (8 + 1) * 2)  # weights, gradient, two moments, the target
    assert dqn["env.num_envs"] == 3 * 20_000
    words = ["algo=dqn", "env=cartpole", "~tuned", "buffer.capacity=1000", "network=gru", "network.memory_size=5"]
    assert needs(*words)["buffer.capacity"] == 1000 * (4 * 5 + 4)  # its memory, and how old the episode was
    tables = needs("algo=q_learning", "env=taxi", "~tuned")
    assert tables["env.id"] == 8 * 500 * 6


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
@pytest.mark.parametrize("options", [[], ["network.shared=true", "network.layer_norm=true", "network.hidden=[5,7,3]"]])
def test_parameters_are_counted_as_they_are_built(algo: str, options: list[str]) -> None:
    words = [f"algo={algo}", "env=pendulum" if algo == "ppo" else "env=cartpole", "buffer.capacity=1000", *options]
    words = [word for word in words if algo == "dqn" or not word.startswith("buffer")]
    compose.set_up(words)
    cfg = validate(compose.compose(words).data)
    parts = build.parts(cfg)
    network = parts.algo.q if algo == "dqn" else parts.algo.network  # type: ignore[attr-defined]
    declared = next(n for n in memory.of_run(cfg, parts.spec) if n.key == "network.hidden")
    built = sum(p.numel() for p in network.parameters())
    assert declared.bytes == 4 * (5 if algo == "dqn" else 4) * built
    parts.close()


@pytest.mark.parametrize("options", [["network=lstm"], ["network=gru", "network.shared=true"]])
def test_what_a_rollout_keeps_of_memory_is_counted(options: list[str]) -> None:
    def rollout(*words: str) -> tuple[float, Any]:
        words = ("algo=ppo", "env=cartpole", "~tuned", "env.num_envs=3", "algo.n_steps=50", *words)
        compose.set_up(words)
        cfg = validate(compose.compose(words).data)
        parts = build.parts(cfg)
        parts.close()
        need = next(need for need in memory.of_run(cfg, parts.spec) if need.key == "algo.n_steps")
        assert need.bytes == 50 * need.each
        return need.bytes, parts.algo.network  # type: ignore[attr-defined]

    bytes_without, _ = rollout()
    bytes_with, network = rollout(*options)
    assert bytes_with - bytes_without == 50 * 3 * network.memory_size * 4


@pytest.mark.parametrize(
    "words",
    [
        ["algo=acer", "env=cartpole"],
        ["algo=acer_continuous", "env=pendulum"],
        ["algo=impala", "env=cartpole", "algo.replay_ratio=1"],
        ["algo=async_dqn", "env=acrobot", "algo.asynchronous=false", "algo.batch_rollouts=9"],
    ],
)
def test_trajectories_are_counted_as_they_are_kept(words: list[str]) -> None:
    words = [*words, "~tuned", "env.num_envs=4", "algo.n_steps=40"]
    compose.set_up(words)
    cfg = validate(compose.compose(words).data)
    parts = build.parts(cfg)
    parts.algo.learn(next(iter(parts.source)).data, Progress(1000, env_steps=160))
    parts.close()
    need = next(need for need in memory.of_run(cfg, parts.spec) if "trajectories of" in need.what)
    held = parts.algo.trajectories  # type: ignore[attr-defined]
    assert need.bytes == pytest.approx(held.capacity * need.each)
    assert need.bytes == pytest.approx(sum(column.nbytes for column in held.columns.values()), rel=0.07)


def test_a_replay_takes_memory_when_it_is_first_used() -> None:
    """The evaluation of a run whose replay fits only elsewhere."""
    space = Space("box", (10**6,), np.dtype(np.float32))
    env = EnvSpec("wide", space, Space("discrete", (), np.dtype(np.int64), n=2))
    ring = uniform(UniformConfig(capacity=10**12), env, gamma=0.9, rng=np.random.default_rng(0), device=Device())
    assert (ring.capacity, len(ring)) == (10**12, 0)


def test_a_run_can_be_evaluated_where_its_replay_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["algo=dqn", "env=cartpole", "+smoke=on", "buffer.capacity=3000000", "hydra.run.dir=run"]) == 0
    assert "memory for a replay of 3,000,000 transitions: 137.3 MiB; 8.0 GiB are free" in capsys.readouterr().out
    monkeypatch.setattr(memory, "free", lambda: 100e6)
    assert cli.main(["eval", "run", "episodes=1"]) == 0
    assert cli.main(["resume", "run", "total_timesteps=600"]) == 2
    assert "buffer.capacity: a replay of 3,000,000 transitions would need 137.3 MiB" in capsys.readouterr().err


def test_the_line_on_memory_says_whose_it_is() -> None:
    needs = [Need("buffer.capacity", 2**20, "a replay of 9 transitions", 1)]
    assert memory.notice(needs) == ["memory for a replay of 9 transitions: 1.0 MiB; 8.0 GiB are free"]
    assert memory.notice(needs, ranks=2)[0].startswith("memory of each of 2 ranks for a replay of 9 transitions: 1.0")


def test_what_is_free_is_the_least_of_all_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    group = tmp_path / "group"
    files: dict[str, list[str]] = {
        "/proc/meminfo": ["MemTotal: 9 kB", "MemAvailable: 5000000 kB"],
        "/proc/self/cgroup": ["0::/job/step"],
        "/sys/fs/cgroup/job/memory.max": ["3000000000"],
        "/sys/fs/cgroup/job/memory.current": ["1200000000"],
        "/sys/fs/cgroup/job/memory.stat": ["anon 5", "inactive_file 200000000"],
        "/sys/fs/cgroup/job/step/memory.max": ["max"],
        "/sys/fs/cgroup/job/step/memory.current": ["5"],
        str(group): [],
    }
    monkeypatch.setattr(memory, "_lines", lambda path: files.get(str(path), []))
    assert memory.free() == 2e9
    files["/proc/self/cgroup"] = ["9:cpu,memory:/old", "1:name=x:/"]
    assert memory.free() == 5000000 * 1024
    files["/sys/fs/cgroup/memory/old/memory.limit_in_bytes"] = ["1000"]
    files["/sys/fs/cgroup/memory/old/memory.usage_in_bytes"] = ["4000"]
    assert memory.free() == 0
    files.clear()
    assert memory.free() == np.inf


@pytest.mark.parametrize(
    ("count", "text"), [(5, "5 bytes"), (93.9 * GIB, "93.9 GiB"), (2.0**60, "1,024.0 PiB"), (1e40, "PiB")]
)
def test_sizes_in_words(count: float, text: str) -> None:
    assert size(count).endswith(text)


def test_parameters_are_held_against_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg: Any = SimpleNamespace(device=None, buffer=SimpleNamespace(capacity=100))
    needs = [Need("network.hidden", 6 * GIB, "networks", on_device=True), Need("buffer.capacity", 7 * GIB, "replay", 1)]
    with pytest.raises(
        ConfigError, match=r"^buffer.capacity: replay would need 7.0 GiB of 13.0 GiB in all, 8.0 GiB of memory are free"
    ):
        memory.check(cfg, needs)
    monkeypatch.setattr(memory, "_gpu_free", lambda device: 10 * GIB)
    memory.check(cfg, needs)
    monkeypatch.setattr(memory, "_gpu_free", lambda device: 5 * GIB)
    with pytest.raises(
        ConfigError, match=r"^network.hidden: networks would need 6.0 GiB, 5.0 GiB of GPU memory are free"
    ):
        memory.check(cfg, needs)
