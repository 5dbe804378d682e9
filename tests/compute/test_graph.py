"""Compiled updates against eager ones: the same steps up to rounding; and how graphs are cut, named and found again."""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrun import cli
from rlrun.algos.actor_learner.acer import ACER, ACERConfig
from rlrun.algos.actor_learner.acer_continuous import ContinuousACER, ContinuousACERConfig
from rlrun.algos.actor_learner.appo import APPO, APPOConfig
from rlrun.algos.actor_learner.async_dqn import AsyncDQN, AsyncDQNConfig
from rlrun.algos.actor_learner.impala import IMPALA, IMPALAConfig
from rlrun.algos.algorithm import Kit
from rlrun.algos.continuous.sac import SAC, SACConfig
from rlrun.algos.continuous.td3 import TD3, TD3Config
from rlrun.algos.policy.a2c import A2C, A2CConfig
from rlrun.algos.policy.ppo import PPO, PPOConfig
from rlrun.algos.policy.vpg import VPG, VPGConfig
from rlrun.algos.value.dqn import DQN, DQNConfig
from rlrun.compute import graph, libraries
from rlrun.compute.device import Device, DeviceConfig
from rlrun.compute.graph import GraphUpdate, longest
from rlrun.compute.rules import Adam, RAdam, Rule
from rlrun.compute.update import Update
from rlrun.errors import ConfigError
from rlrun.networks import Nets, NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.networks.target import TargetNet
from rlrun.ops import fields
from rlrun.ops.distributions import SquashedGaussian
from rlrun.types import EnvSpec, Progress, Rollout, Space

OBS = Space("box", (3,), np.dtype(np.float32))
INTERVAL = Space("box", (1,), np.dtype(np.float32), low=-np.ones(1, np.float32), high=np.ones(1, np.float32))
DISCRETE = Space("discrete", (), np.dtype(np.int64), n=2)
compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Graphs are not compiled but run as they are; lists how many updates each one makes."""
    made: list[int] = []

    def load_or_compile(function: Any, kept: Any, one: Any, inputs: Any, cache: Path) -> Any:
        made.append(len(inputs[-1]))
        return lambda tensors: function(*tensors)

    monkeypatch.setattr(graph, "load_or_compile", load_or_compile)
    yield made


def loss(nets: Any, batch: dict[str, Tensor], scale: float | Tensor = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    error = scale * nets.net(batch["x"]) - batch["y"]
    return error.square().mean(), {"error": error.detach().abs().mean(), "each": error.detach().abs().sum(1)}


def stack(n: int, size: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return {key: torch.randn(n, size, width, generator=generator) for key, width in (("x", 3), ("y", 2))}


def update(kind: type[Update], tau: float = 1.0, rule: Rule = Adam(), **options: Any) -> Update:  # noqa: B008
    torch.manual_seed(0)
    nets = Nets(net=nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    target = TargetNet(nets.net, tau)
    nets.target = target.module
    return kind(loss, nets, "net", rule, max_grad_norm=0.5, followers=[target], **options)


def said(made: Update, n: int, rate: float = 0.01) -> tuple[list[Any], dict[str, Tensor]]:
    """Which rows were updated together, and what all updates of a burst said."""
    pieces = list(made.burst(stack(n), 0.5, learning_rate=rate))
    rows = [piece.rows for piece in pieces]
    aux = [piece.aux if isinstance(piece.rows, slice) else fields.rows(piece.aux, None) for piece in pieces]
    return rows, {key: torch.cat([each[key] for each in aux]) for key in aux[0]}


def state(made: Any) -> dict[str, Any]:
    """Weights and moments of an update or a learner."""
    optimiser = made.state_dict() if isinstance(made, Update) else made.optimiser.state_dict()
    return {"nets": dict(made.nets.state_dict()), "optimiser": optimiser}


@pytest.mark.parametrize(("burst", "size"), [(1, 1), (2, 2), (7, 7), (8, 8), (10, 5), (11, 1), (12, 6), (128, 8)])
def test_a_burst_is_cut_into_equal_calls_of_at_most_8(burst: int, size: int) -> None:
    assert longest(burst) == size


def test_the_cuts_follow_from_the_numbers_alone(untouched: list[int], cache: Path) -> None:
    """Calls of 4, then of 1 if the config says that such come, and the rest eagerly: no new length compiles."""
    made = update(GraphUpdate, bursts=(4,), cache=cache)
    assert said(made, 8)[0] == [slice(0, 4), slice(4, 8)]
    assert said(made, 6)[0] == [slice(0, 4), 4, 5]
    assert said(made, 1)[0] == [0]
    assert untouched == [4]
    both = update(GraphUpdate, bursts=(4, 1), cache=cache)
    assert said(both, 5)[0] == [slice(0, 4), slice(4, 5)]
    assert untouched == [4, 4, 1]


@pytest.mark.parametrize(("tau", "rule"), [(1.0, Adam()), (0.3, Adam()), (1.0, RAdam())])
def test_one_graph_makes_the_steps_of_many_eager_updates(
    untouched: list[int], cache: Path, tau: float, rule: Rule
) -> None:
    eager, made = update(Update, tau, rule), update(GraphUpdate, tau, rule, bursts=(3,), cache=cache)
    for n, rate in ((3, 0.01), (6, 0.02), (5, 0.005)):
        torch.testing.assert_close(said(made, n, rate)[1], said(eager, n, rate)[1])
    torch.testing.assert_close(state(made), state(eager))
    once = {key: value[0] for key, value in stack(1).items()}
    torch.testing.assert_close(made(once, learning_rate=0.01), eager(once, learning_rate=0.01))
    torch.testing.assert_close(state(made), state(eager))
    assert (tau < 1) == (not torch.equal(made.nets.target[0].weight, update(Update).nets.target[0].weight))


def test_a_state_goes_over_from_one_way_to_the_other(untouched: list[int], cache: Path) -> None:
    eager, made = update(Update), update(GraphUpdate, bursts=(3,), cache=cache)
    said(eager, 6)
    made.nets.load_state_dict(eager.nets.state_dict())
    made.load_state_dict(copy.deepcopy(eager.state_dict()))
    said(eager, 3), said(made, 3)
    torch.testing.assert_close(state(made), state(eager))


@compiles
@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize("rule", [Adam(), RAdam()])
def test_compiled_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    """Batches that lie in memory in several ways; then another update of the kind finds the library."""

    def compare(made: Update) -> None:
        eager, columns = update(Update, 0.3, rule), stack(8)
        columns["y"] = columns["y"][:1].expand(8, -1, -1)
        columns["x"] = columns["x"].transpose(1, 2).contiguous().transpose(1, 2)
        for one in (made, eager):
            list(one.burst(columns, 0.5, learning_rate=0.01))
        torch.testing.assert_close(state(made), state(eager))

    compare(update(GraphUpdate, 0.3, rule, bursts=(2,), cache=tmp_path))
    monkeypatch.setattr(libraries, "_compile", lambda *_: pytest.fail("it is there already"))
    compare(update(GraphUpdate, 0.3, rule, bursts=(2,), cache=tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


def name(made: Update, n: int = 2, size: int = 4, scale: float = 1.0) -> str:
    """Of the library for bursts of n batches of a size."""
    names: list[str] = []

    def load_or_compile(function: Any, kept: Any, one: Any, inputs: Any, cache: Path) -> Any:
        names.append(libraries._name(function, [*kept, *one], [*kept, *inputs]))
        return lambda tensors: function(*tensors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "load_or_compile", load_or_compile)
        list(made.burst(stack(n, size), scale, learning_rate=0.01))
    return names[0]


def test_a_library_is_named_by_what_it_computes(cache: Path) -> None:
    def made(tau: float = 1.0, by: Any = loss, n: int = 2) -> Update:
        found = update(GraphUpdate, tau, bursts=(n,), cache=cache)
        found.loss = by
        return found

    constant = torch.tensor([0.5, 1.0])

    def other(nets: Any, batch: dict[str, Tensor], scale: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return (constant * nets.net(batch["x"]) - scale * batch["y"]).square().mean(), {}

    first, later = name(made()), made()
    name(later)  # weights, moments and the count have changed
    later._graphs.clear()
    assert first == name(made()) == name(later, scale=0.3), "values make no difference"
    names = [first, name(made(n=4), n=4), name(made(), size=5), name(made(0.5)), name(made(0.4)), name(made(by=other))]
    constant += 1
    names.append(name(made(by=other)))
    assert len(set(names)) == 7, "length, shapes, operations and constants do"


def test_the_libraries_that_were_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def compiled(function: Any, inputs: Any, folder: Path) -> None:
        folder.mkdir()
        made.append(folder.name)

    def use(name: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(libraries, "_name", lambda *_: name * libraries.NAME)
            libraries.load_or_compile(lambda x: [x], [torch.zeros(1)], [], [], tmp_path)

    monkeypatch.setattr(libraries, "_compile", compiled)
    monkeypatch.setattr(libraries, "_load", lambda folder: folder.name)
    monkeypatch.setattr(libraries, "KEPT", 2)
    (tmp_path / "being made").mkdir()
    for age, name in ((20, "a"), (10, "b")):
        use(name)
        os.utime(tmp_path / (name * libraries.NAME), (time.time() - age,) * 2)
    use("a")
    use("c")
    assert {folder.name[0] for folder in tmp_path.glob("?" * libraries.NAME)} == {"a", "c"}
    assert (tmp_path / "being made").exists()
    use("b")
    assert [name[0] for name in made] == ["a", "b", "c", "b"]


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    assert libraries._private(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert not libraries._private(tmp_path / "open")


def rollout(algo: Any, steps: int, envs: int, seed: int) -> Rollout:
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(steps + 1, envs, 3)).astype(np.float32)
    acted = [algo.agent.act(row, None, explore=True, env_steps=0) for row in obs[:-1]]
    extras = {key: np.stack([extra[key] for _, _, extra in acted]) for key in acted[0][2]}
    ended = np.zeros((steps, envs), bool)
    return Rollout(
        obs,
        np.stack([action for action, _, _ in acted]),
        rng.normal(size=(steps, envs)).astype(np.float32),
        ended,
        ended.copy(),
        {},
        extras,
    )


def kit(compile: str, envs: int, actions: Space = DISCRETE, **network: Any) -> Kit:
    torch.manual_seed(0)
    return Kit(
        EnvSpec("toy", OBS, actions, envs),
        network=lambda *args: build_mlp(NetworkConfig(hidden=[4], **network), *args),
        device=Device(DeviceConfig(accelerator="cpu", compile=compile)),
        rng=np.random.default_rng(0),
        sampling=np.random.default_rng(1),
        total_timesteps=1000,
    )


@pytest.mark.parametrize(
    "algo",
    [
        *("dqn", "dqn with tau", "ppo", "ppo with a rest", "ppo with one minibatch", "a2c", "vpg", "td3"),
        *("sac", "crossq", "impala", "acer", "acer_continuous", "appo", "async_dqn"),
    ],
)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=[compiles, pytest.mark.slow])])
def test_algorithms_learn_the_same_either_way(
    algo: str, compiled: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Weights, moments and metrics after several rounds; the last one is shorter, as that of a run may be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[int] = [] if compiled else request.getfixturevalue("untouched")
    options: dict[str, Any] = {"batch_size": 8, "learning_rate_schedule": "linear", "learning_rate": 0.01}
    learners: list[Any] = []
    for compile in ("false", "true"):
        if algo.startswith("dqn"):
            options |= {"train_freq": 8, "gradient_steps": 6, "learning_starts": 8, "double": True}
            options |= {"tau": 0.2} if "tau" in algo else {"target_update_interval": 16}
            learners.append(DQN(DQNConfig(**options), kit(compile, 2)))
        elif algo == "td3":
            twins = TD3Config(batch_size=8, train_freq=8, gradient_steps=3, learning_starts=8)
            learners.append(TD3(twins, kit(compile, 2, INTERVAL)))
        elif algo == "sac":
            soft = SACConfig(batch_size=8, train_freq=8, gradient_steps=3, learning_starts=8)
            learners.append(SAC(soft, kit(compile, 2, INTERVAL)))
        elif algo == "crossq":
            soft = SACConfig(batch_size=8, train_freq=8, gradient_steps=3, learning_starts=8, tau=None, adam_beta1=0.5)
            learners.append(SAC(soft, kit(compile, 2, INTERVAL, batch_norm="after", renorm_after=5)))
        elif algo == "a2c":
            config = A2CConfig(n_steps=16, learning_rate_schedule="linear", learning_rate=0.01)
            learners.append(A2C(config, kit(compile, 2)))
        elif algo in ("impala", "acer", "acer_continuous", "appo", "async_dqn"):
            kind, config = {
                "impala": (IMPALA, IMPALAConfig),
                "acer": (ACER, ACERConfig),
                "acer_continuous": (ContinuousACER, ContinuousACERConfig),
                "appo": (APPO, APPOConfig),
                "async_dqn": (AsyncDQN, AsyncDQNConfig),
            }[algo]
            space, own = [], {}
            if algo == "acer_continuous":  # advantages beside their mean: what they have in common has no gradient
                space, own = [INTERVAL], {"optimizer": "sgd"}  # but for rounding, which Adam would make steps of
            sizes = {"n_steps": 16, "batch_rollouts": 2, "learning_rate": 0.01}
            learners.append(kind(config(**sizes, **own), kit(compile, 2, *space)))
        elif algo == "vpg":
            learners.append(VPG(VPGConfig(**options, n_steps=16, n_critic_updates=3), kit(compile, 2)))
        else:
            size = {"ppo with a rest": 7, "ppo with one minibatch": 99}.get(algo, 8)
            options |= {"batch_size": size, "n_steps": 16, "n_epochs": 3, "clip_range_schedule": "linear"}
            learners.append(PPO(PPOConfig(**options), kit(compile, 2)))
    metrics: list[Any] = []
    for learner in learners:
        progress = Progress(1000)
        for seed, steps in enumerate([learner.rollout_steps] * 4 + [3]):
            data = rollout(learner, steps, 2, seed)
            progress.env_steps += data.reward.size
            found = learner.learn(data, progress)
        metrics.append(found | {"gradient_steps": progress.gradient_steps})
    torch.testing.assert_close(state(learners[1]), state(learners[0]))
    if not compiled:
        expected = {"dqn": [6], "dqn with tau": [6], "ppo": [4], "ppo with a rest": [4, 1], "a2c": [1], "vpg": [1, 4]}
        expected |= {"td3": [1, 1], "sac": [1, 1], "crossq": [1, 1]}  # critics and actor take turns
        expected |= {"impala": [1], "acer": [1], "acer_continuous": [1], "appo": [4], "async_dqn": [1]}
        assert made == expected.get(algo, [3])


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_where_a_run_is_cut_makes_no_difference(algo: str, untouched: list[int]) -> None:
    def learner() -> Any:
        options: dict[str, Any] = {"batch_size": 8, "learning_rate": 0.01}
        if algo == "dqn":  # 9 updates for each 8 of 12 steps: 9 or 18 at once, in calls of 3
            options |= {"train_freq": 8, "gradient_steps": 9, "learning_starts": 8, "tau": 0.2}
            return DQN(DQNConfig(**options), kit("true", 6))
        return PPO(PPOConfig(**options, n_steps=7, n_epochs=3), kit("true", 6))

    def learn(algo: Any, seeds: range) -> None:
        for seed in seeds:
            algo.learn(rollout(algo, algo.rollout_steps, 6, seed), Progress(1000, env_steps=100 * seed + 100))

    whole, first, second = learner(), learner(), learner()
    learn(whole, range(5))
    learn(first, range(2))
    if algo == "dqn":
        second.buffer.load_state_dict(first.buffer.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    learn(second, range(2, 5))
    torch.testing.assert_close(state(second), state(whole), rtol=0, atol=0)
    assert set(untouched) == ({3} if algo == "dqn" else {5, 1})


@pytest.mark.parametrize(
    ("words", "graphs"),
    [
        ("algo=bootstrap env=bandit/wine algo.dropout=0.1", 1),
        ("algo=ppo env=pendulum", 1),
        ("algo=a2c env=pendulum algo.squash=true algo.log_std=state", 1),
        ("algo=c51 network.noisy=factorised network.dueling=true algo.double=true", 1),
        ("algo=iqn network.noisy=independent algo.munchausen=true algo.double=false", 1),
        ("algo=crossq env=pendulum algo.critics.hidden=[8] algo.policy_delay=1", 2),
    ],
)
def test_updates_of_every_kind_can_be_traced(
    words: str, graphs: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stacked members under vmap with masks drawn beforehand; Gaussians; noise and fractions that come as inputs."""
    made: list[Any] = []

    def load_or_compile(function: Any, kept: Any, one: Any, inputs: Any, cache: Path) -> Any:
        made.append(libraries._trace(function, [*kept, *inputs]).graph)
        return lambda tensors: function(*tensors)

    monkeypatch.setattr(graph, "load_or_compile", load_or_compile)
    run = ["+smoke=on", "device.compile=true", "logger.console=off", f"hydra.run.dir={tmp_path / 'run'}"]
    assert cli.main([*words.split(), *run]) == 0
    assert len(made) == graphs, "one of each loss does for the whole run"
    assert len(made[0].nodes) > 100
    assert not [node for found in made for node in found.nodes if node.op == "get_attr"], "tensors that none can hold"


def test_bounds_of_every_dimension_can_be_compiled() -> None:
    """What a graph keeps as a tensor of its own the compiler refuses."""
    high = np.array([2.0, 5.0], np.float32)
    policy = SquashedGaussian((2,), -high, high)
    graph = libraries._trace(lambda unit: [policy.stretch(unit)], [torch.rand(4, 2)]).graph
    assert not [node for node in graph.nodes if node.op == "get_attr"]


def test_without_a_compiler_auto_is_eager_and_true_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    auto = Device(DeviceConfig(accelerator="cpu", compile="auto"))
    nets = update(Update).nets
    assert type(auto.update(loss, nets, "net", Adam(), ahead=10**6)) is Update
    with pytest.raises(ConfigError, match=r"device.compile: there is no C\+\+ compiler"):
        Device(DeviceConfig(accelerator="cpu", compile="true")).update(loss, nets, "net", Adam())


def test_auto_goes_by_the_updates_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    auto = Device(DeviceConfig(accelerator="cpu", compile="auto"))
    kinds = [type(auto.update(loss, update(Update).nets, "net", Adam(), ahead=n)) for n in (299_999, 300_000)]
    assert kinds == [Update, GraphUpdate]


def test_a_loss_that_looks_at_values_is_refused(cache: Path) -> None:
    def looks(nets: Any, batch: dict[str, Tensor], scale: Any) -> tuple[Tensor, dict[str, Tensor]]:
        error = (nets.net(batch["x"]) - batch["y"]).square().mean()
        return (error if error.item() > 1 else 2 * error), {}

    made = update(GraphUpdate, bursts=(2,), cache=cache)
    made.loss = looks
    with pytest.raises(ConfigError, match=r"(?s)device\.compile: the update cannot be compiled.*device\.compile=false"):
        list(made.burst(stack(2), 1.0, learning_rate=0.01))


def test_a_compiler_that_fails_without_a_word_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(libraries, "_compile", fails)
    made = update(GraphUpdate, bursts=(2,), cache=cache)
    with pytest.raises(ConfigError, match=r"device\.compile: the update cannot be compiled: AssertionError"):
        list(made.burst(stack(2), 1.0, learning_rate=0.01))
