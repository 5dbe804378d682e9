"""The relatives of DQN: their losses against plain loops, and what all of them have in common."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from test_dqn import ACTIONS, SPEC, B, batch, steps

from rlrun import registry
from rlrun.algos.algorithm import Kit
from rlrun.algos.value.munchausen import SoftConfig
from rlrun.buffers import UniformConfig, uniform
from rlrun.compute.device import Device, DeviceConfig
from rlrun.config import plugins
from rlrun.errors import ConfigError
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.ops.categorical import project
from rlrun.ops.quantiles import quantile_huber
from rlrun.schedules import ScheduleConfig
from rlrun.types import MASK, Progress, Space

FAMILY = {
    "dqn": {},
    "c51": {"atoms": 7, "v_min": -4.0, "v_max": 4.0},
    "qr_dqn": {"quantiles": 5},
    "iqn": {"fractions": 6, "target_fractions": 5, "acting_fractions": 4},
}
SOFT = [name for name in FAMILY if name != "c51"]
RECORD = np.dtype([("seen", np.float32, (4,)), (MASK, bool, (ACTIONS,))])
FIELDS = {"seen": SPEC.obs_space, MASK: Space("multi_binary", (ACTIONS,), np.dtype(bool))}
MASKED = Space("dict", (), RECORD, fields=FIELDS)


def make(name: str, network: dict[str, Any] | None = None, masked: bool = False, **options: Any) -> Any:
    """An algorithm whose target network is another one than the network that learns."""
    plugins.load_installed()
    torch.manual_seed(0)
    entry = registry.get("algo", name)
    spec = SPEC
    if masked:
        spec = replace(SPEC, obs_space=MASKED)
    device, cfg = Device(DeviceConfig(accelerator="cpu")), entry.config(**FAMILY[name] | options)
    rng = np.random.default_rng
    buffer = uniform(UniformConfig(capacity=100), spec, gamma=cfg.gamma, rng=rng(0), device=device)
    build = partial(build_mlp, NetworkConfig(**{"hidden": [16]} | (network or {})))
    algo = entry.factory(cfg, Kit(spec, network=build, buffer=buffer, device=device, rng=rng(1), total_timesteps=1000))
    with torch.no_grad():
        for parameter in algo.q_target.module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return algo


def drawn(algo: Any) -> list[Any]:
    """Random numbers of one loss, as an argument."""
    if algo.generator is None:
        return []

    def first(value: Any) -> Any:
        return {key: first(item) for key, item in value.items()} if isinstance(value, dict) else value[0]

    return [first(algo.draw(1, B))]


# Losses by plain loops


def greedy(values: torch.Tensor) -> int:
    return int(values.argmax())


@pytest.mark.parametrize("double", [False, True])
def test_the_loss_of_c51(double: bool) -> None:
    algo, data, total = make("c51", double=double), batch(), 0.0
    z = torch.linspace(-4, 4, 7)
    online, target = (net(data.next_obs).reshape(B, ACTIONS, 7).softmax(-1) for net in (algo.q, algo.q_target))
    log_p = algo.q(data.obs).detach().reshape(B, ACTIONS, 7).log_softmax(-1)
    clipped = 0
    for i in range(B):
        a = greedy(((online if double else target)[i] * z).sum(-1))
        values = data.reward[i] + data.discount[i] * z
        m = project(target[i, a][None], values[None], -4, 4)[0]
        total -= float((m * log_p[i, data.action[i]]).sum())
        clipped += float(target[i, a][(values > 4.01) | (values < -4.01)].sum()) > 0.5
    loss, aux = algo.loss(algo.nets, data)
    assert loss.item() == pytest.approx(total / B, rel=1e-5)
    assert aux["clipped_targets"].item() == pytest.approx(clipped / B)
    assert (aux["td_error"] >= -1e-6).all(), "a divergence"


@pytest.mark.parametrize("double", [False, True])
def test_the_loss_of_qr_dqn(double: bool) -> None:
    algo, data, total = make("qr_dqn", double=double), batch(), 0.0
    outputs = algo.q(data.next_obs), algo.q_target(data.next_obs), algo.q(data.obs)
    online, target, now = (output.detach().reshape(B, ACTIONS, 5) for output in outputs)
    for i in range(B):
        a = greedy((online if double else target)[i].mean(-1))
        samples = data.reward[i] + data.discount[i] * target[i, a]
        tau = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
        total += quantile_huber(now[i, data.action[i]][None], samples[None], tau).item()
    loss, aux = algo.loss(algo.nets, data)
    assert loss.item() == pytest.approx(total / B, rel=1e-5)
    mean = now[torch.arange(B), data.action].mean(-1)
    assert aux["q_values"].item() == pytest.approx(mean.mean().item(), abs=1e-6)


@pytest.mark.parametrize("double", [False, True])
def test_the_loss_of_iqn(double: bool) -> None:
    algo, data, total = make("iqn", double=double), batch(), 0.0
    (random,) = drawn(algo)
    tau, tau_target = random["q"]["tau"], random["target"]["tau"]
    assert (tau.shape, tau_target.shape) == ((B, 6), (B, 5))
    now, target = algo.q(data.obs, tau=tau), algo.q_target(data.next_obs, tau=tau_target)
    choice = algo.q(data.next_obs) if double else target
    for i in range(B):
        a = greedy(choice[i].mean(0))
        samples = data.reward[i] + data.discount[i] * target[i, :, a]
        total += quantile_huber(now[i, :, data.action[i]][None], samples[None], tau[i]).item()
    assert algo.loss(algo.nets, data, random)[0].item() == pytest.approx(total / B, rel=1e-5)


def test_the_targets_of_munchausen_dqn() -> None:
    """Equation 5 of the paper, a number at a time."""
    algo, data, total = make("dqn", munchausen=True, temperature=0.2, loss="mse"), batch(), 0.0
    before, after, now = algo.q_target(data.obs), algo.q_target(data.next_obs), algo.q(data.obs).detach()
    clips = 0
    for i in range(B):
        log_pi = [0.2 * float(x) for x in (before[i] / 0.2).log_softmax(0)]
        clips += log_pi[data.action[i]] < -1
        target = float(data.reward[i]) + 0.9 * max(min(log_pi[data.action[i]], 0.0), -1.0)
        weights = [math.exp(float(q) / 0.2) for q in after[i]]
        for q, weight in zip(after[i].tolist(), weights, strict=True):
            pi = weight / sum(weights)
            target += float(data.discount[i]) * pi * (q - 0.2 * math.log(pi))
        total += (target - float(now[i, data.action[i]])) ** 2
    assert 0 < clips < B
    assert algo.loss(algo.nets, data)[0].item() == pytest.approx(total / B, rel=1e-4)


def test_munchausen_is_the_same_for_every_way_to_describe_a_value() -> None:
    """One quantile at one half with the absolute error is half of DQN's."""
    data = batch()
    dqn = make("dqn", munchausen=True, temperature=0.2)
    qr = make("qr_dqn", munchausen=True, temperature=0.2, quantiles=1)
    qr.nets.load_state_dict(dqn.nets.state_dict())
    assert qr.loss(qr.nets, data)[0].item() == pytest.approx(dqn.loss(dqn.nets, data)[0].item() / 2, rel=1e-5)
    iqn = make("iqn", munchausen=True)
    assert set(iqn.draw(1, B)) == {"q", "target"}
    assert np.isfinite(iqn.loss(iqn.nets, data, *drawn(iqn))[0].item())


def test_a_temperature_near_0_without_bonus_is_q_learning() -> None:
    data = batch()
    for name in ("dqn", "qr_dqn"):
        soft, hard = make(name, munchausen=True, munchausen_alpha=0.0, temperature=1e-6), make(name)
        assert soft.loss(soft.nets, data)[0].item() == pytest.approx(hard.loss(hard.nets, data)[0].item(), rel=1e-4)


# What all have in common

NETWORKS = [{}, {"noisy": "factorised", "dueling": True}, {"noisy": "independent"}]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_weights_weigh_and_targets_get_no_gradient(name: str, network: dict[str, Any]) -> None:
    algo, data = make(name, network, double=True), batch()
    random = drawn(algo)
    single = algo.loss(algo.nets, data, *random)[0]
    assert algo.loss(algo.nets, data._replace(weight=2 * data.weight), *random)[0].item() == pytest.approx(
        2 * single.item()
    )
    single.backward()
    assert all(p.grad is None for p in algo.q_target.module.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in algo.q.parameters())
    over = algo.loss(algo.nets, data._replace(discount=torch.zeros(B)), *random)[0]
    other = data._replace(discount=torch.zeros(B), next_obs=data.next_obs + 1)
    assert algo.loss(algo.nets, other, *random)[0].item() == pytest.approx(over.item(), rel=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_noise_is_another_in_every_update_and_pass(name: str) -> None:
    algo = make(name, {"noisy": "factorised"}, double=True)
    random = algo.draw(3, B)
    noises = [random[where]["noise"] for where in ("q", "target", "choice")]
    flat = torch.cat(noises)
    assert flat.shape == (9, algo.q.units)
    assert len(flat.unique(dim=0)) == 9
    assert "generator" in algo.state_dict()


@pytest.mark.parametrize("name", FAMILY)
def test_acting_is_noisy_while_exploring_and_at_the_mean_otherwise(name: str) -> None:
    algo, obs = make(name, {"noisy": "factorised"}), np.zeros((4, 4), np.float32)
    agent = algo.agent
    before = agent.rng.bit_generator.state
    one, two = agent.values(obs), agent.values(obs)
    assert (one == two).all()
    assert agent.rng.bit_generator.state == before
    noisy = agent.values(obs, noisy=True)
    assert len(np.unique(noisy, axis=0)) == 4, "every environment has noise of its own"
    assert not np.array_equal(noisy, agent.values(obs, noisy=True))
    assert agent.metrics(0) == {"exploration_rate": 0.0}, "noise explores"
    chosen = make(name, {"noisy": "factorised"}, epsilon=ScheduleConfig("constant", 0.2))
    assert chosen.agent.metrics(0) == {"exploration_rate": 0.2}
    assert make(name).agent.metrics(0) == {"exploration_rate": 1.0}


@pytest.mark.parametrize("munchausen", [False, True])
@pytest.mark.parametrize("name", FAMILY)
def test_what_is_masked_is_in_no_target_and_not_played(name: str, munchausen: bool) -> None:
    """However high its value is."""
    if munchausen and name not in SOFT:
        return
    algo, data = make(name, masked=True, **({"munchausen": True} if munchausen else {"double": True})), batch()
    mask = torch.ones(B, ACTIONS, dtype=torch.bool)
    mask[:, 1] = False
    action = torch.where(data.action == 1, 0, data.action)
    seen = data._replace(
        obs={"seen": data.obs, MASK: mask}, next_obs={"seen": data.next_obs, MASK: mask}, action=action
    )
    random = drawn(algo)
    expected = algo.loss(algo.nets, seen, *random)[0].item()
    width = next(m for m in reversed(list(algo.q.modules())) if isinstance(m, torch.nn.Linear)).out_features // ACTIONS
    with torch.no_grad():
        for network in (algo.q, algo.q_target.module):
            last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
            last.bias[width : 2 * width] += torch.linspace(100, 900, width)
    assert algo.loss(algo.nets, seen, *random)[0].item() == pytest.approx(expected, rel=1e-5)
    obs = np.zeros(5, RECORD)
    obs[MASK] = mask[:5].numpy()
    assert 1 not in algo.agent.act(obs, None, explore=False, env_steps=0)[0]


def test_a_support_that_is_too_narrow_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    algo = make("c51", v_min=-0.1, v_max=0.1, batch_size=16, learning_starts=16, train_freq=4, gradient_steps=60)
    progress = Progress(1000)
    with caplog.at_level(logging.WARNING):
        for _ in range(11):
            progress.env_steps += 4
            algo.learn(steps(4), progress)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(
        "% of the targets lie outside of algo.v_min=-0.1 algo.v_max=0.1: widen the support"
    )
    assert algo.warned


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("c51", {"v_min": 1.0, "v_max": 1.0}, r"v_max: must be above v_min = 1, got 1"),
        ("c51", {"atoms": 1}, r"atoms: must be in \[2"),
        ("dqn", {"munchausen": True, "double": True}, r"double: has no meaning with munchausen"),
        ("iqn", {"munchausen_clip": 0.5}, r"munchausen_clip: must be"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, **options)


def test_the_options_of_munchausen_are_those_of_the_paper() -> None:
    cfg = SoftConfig()
    assert (cfg.munchausen_alpha, cfg.temperature, cfg.munchausen_clip) == (0.9, 0.03, -1.0)
