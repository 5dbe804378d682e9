"""Every deep algorithm on environments whose values are known (tests/support/probes.py).

Those that learn continuous actions from replay do it once more with all actions between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from probes import GAMMA, VALUES, Probe

from rlrun import registry
from rlrun.agents.actor import NoiseConfig
from rlrun.algos.algorithm import Kit
from rlrun.buffers import Replay, UniformConfig, uniform
from rlrun.compute.device import Device, DeviceConfig
from rlrun.config import plugins
from rlrun.experience.rollouts import Rollouts
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.schedules import ScheduleConfig
from rlrun.types import Batch, Progress

ENVS = 4
STEPS = {"one_step": 384, "two_steps": 384, "action": 384, "observation": 1024, "discount": 384}
HALF = ScheduleConfig("constant", 0.5)
REPLAY: dict[str, Any] = {
    "learning_rate": 5e-3,
    "batch_size": 4,
    "train_freq": 128,
    "gradient_steps": 64,
    "tau": 0.1,
    "epsilon": HALF,
}
ACTOR: dict[str, Any] = {
    **{"batch_size": 32, "learning_starts": 64, "random_steps": 1024},
    "actor_learning_rate": 2e-3,  # slower than the critics, or it is at the bounds before they know better
}
ROLLOUT: dict[str, Any] = {"learning_rate": 5e-3, "n_steps": 16, "batch_size": 16, "n_epochs": 8}
SHORT = {"n_steps": 4, "learning_rate": 5e-3, "learning_rate_schedule": "linear", "ent_coef": 0.05}
OWN: dict[str, dict[str, Any]] = {
    "c51": {"v_min": -3.0, "v_max": 3.0, "atoms": 25},
    "qr_dqn": {"quantiles": 8},
    "iqn": {"fractions": 8, "target_fractions": 8, "acting_fractions": 8, "batch_size": 8, "learning_rate": 3e-3},
    "pqn": {"epsilon": HALF},
    "a2c": SHORT,
    "a3c": SHORT | {"batch_rollouts": ENVS},
    "acer": SHORT | {"batch_rollouts": ENVS, "replay_min": ENVS},
    "appo": SHORT | {"batch_rollouts": ENVS},
    "async_dqn": {"n_steps": 1, "batch_rollouts": ENVS, "sync_interval": 4, "learning_rate": 5e-3, "epsilon": HALF},
    "impala": SHORT | {"batch_rollouts": ENVS},
    "vpg": {"learning_rate": 2e-2, "value_learning_rate": 5e-3},
    "trpo": {"target_kl": 0.1},
    "sac": {"alpha": "0.02"},
    "td3": {"noise": NoiseConfig(std=0.5)},
    "ddpg": {"noise": NoiseConfig(std=0.5)},
}
MORE = {
    "a2c": 6,
    "a3c": 6,
    "impala": 6,
    "vpg": 3,
    "trpo": 2,
}  # times as many steps, for one step of the policy on each rollout
NEAR = 0.15
NEAR_A_POLICY = 0.5  # a policy that still explores is worth less than the best


def deep() -> list[registry.Entry]:
    """The algorithms with a network that look further than one step."""
    plugins.load_installed()
    entries = [registry.get("algo", name) for name in registry.names("algo")]
    return [e for e in entries if e.ours and e.network and not e.needs.one_step]


def is_actor_critic(entry: registry.Entry) -> bool:
    return entry.factory.__module__.startswith("rlrun.algos.continuous")


def learned(name: str, probe: str, seed: int = 0, continuous: bool = False) -> Any:
    """The algorithm after some hundred steps."""
    torch.manual_seed(seed)
    steps = STEPS[probe] * MORE.get(name, 1)
    entry, envs = registry.get("algo", name), Probe(probe, ENVS, continuous)
    replays, given = entry.needs.memory == "replay", {"gamma": GAMMA} | OWN.get(name, {})
    options = (REPLAY | (ACTOR if is_actor_critic(entry) else {}) if replays else ROLLOUT) | given
    options = {key: value for key, value in options.items() if hasattr(entry.config(), key)}
    device, rng = Device(DeviceConfig(accelerator="cpu")), np.random.default_rng
    buffer = uniform(UniformConfig(capacity=2 * steps), envs.spec, gamma=GAMMA, rng=rng(seed), device=device)
    network = partial(build_mlp, NetworkConfig(hidden=[32, 32], layer_norm=name == "pqn"))
    algo = entry.factory(
        entry.config(**options),
        Kit(envs.spec, network, buffer, device, rng(seed + 1), rng(seed + 2), total_timesteps=steps),
    )
    progress = Progress(steps)
    for chunk in Rollouts(envs, algo.agent, algo.rollout_steps, [0] * ENVS, total_timesteps=steps):
        progress.advance(chunk)
        algo.learn(chunk.data, progress)
        if progress.done:
            return algo
    raise AssertionError("it never ends")


def errors(name: str, probe: str) -> Iterator[tuple[str, float]]:
    """How far values are off, in units of what is near, and whether another than the best action is played."""
    agent = learned(name, probe).agent
    for seen, known in VALUES[probe].items():
        obs = np.array([seen], np.float32)
        if hasattr(agent, "values"):
            yield f"values at {seen}", float(np.abs(agent.values(obs)[0] - known).max()) / NEAR
        else:
            near = NEAR if known[0] == known[1] else NEAR_A_POLICY
            yield f"value at {seen}", abs(value(agent, obs) - max(known)) / near
        if known[0] != known[1]:
            played = agent.act(obs, None, explore=False, env_steps=0)[0][0]
            yield f"action at {seen}", 2.0 * (played != np.argmax(known))


def value(agent: Any, obs: np.ndarray) -> float:
    """Of one observation; the mean of its action values, where the agent has those."""
    if agent.has_value:
        return float(agent.value(obs)[0])
    logits, q = map(torch.from_numpy, agent.forward(obs))
    return float((logits.softmax(-1) * q).sum())


@pytest.mark.parametrize("probe", VALUES)
@pytest.mark.parametrize("name", [e.name for e in deep() if "discrete" in e.needs.action and not is_actor_critic(e)])
def test_known_values_are_found(name: str, probe: str) -> None:
    found = dict(errors(name, probe))
    assert max(found.values()) < 1, found


@pytest.mark.parametrize("probe", VALUES)
@pytest.mark.parametrize(
    ("name", "kind"), [(e.name, kind) for e in deep() if is_actor_critic(e) for kind in sorted(e.needs.action)]
)
def test_an_actor_finds_what_is_best_and_its_critics_the_values(name: str, kind: str, probe: str) -> None:
    algo, wrong = learned(name, probe, continuous=kind == "box"), 0
    for seen, known in VALUES[probe].items():
        obs = np.array([seen], np.float32)
        action, _, _ = algo.agent.act(obs, None, explore=False, env_steps=0)
        played = 2.0 * action[0] - 1 if kind == "discrete" else action[0, 0]
        if known[0] != known[1] and abs(played - np.sign(known[1])) > 0.2:
            wrong += 1
            continue
        asked = (torch.from_numpy(obs), torch.from_numpy(action))[: 1 + (kind == "box")]
        with torch.no_grad():
            values = algo.critics(*asked)[..., 0 if kind == "box" else int(action[0])]
        assert float((values - max(known)).abs().max()) < 2 * NEAR, seen
    assert wrong <= len(VALUES[probe]) // 8  # an actor at the wrong bound does not come back


def test_the_same_batch_in_a_whole_burst_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    bursts = Replay.bursts

    def same(self: Replay, count: int, batch_size: int) -> Iterator[Batch]:
        (batch,) = bursts(self, 1, batch_size)
        yield Batch(*(x.expand(count, *x.shape[1:]) for x in batch))

    monkeypatch.setattr(Replay, "bursts", same)
    assert max(error for _, error in errors("dqn", "observation")) > 5
