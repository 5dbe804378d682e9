"""What an algorithm is built from: in a notebook a description of the environment is enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import algorithms

from rlrun import registry
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.compute.device import Device, DeviceConfig
from rlrun.types import EnvSpec, HeadSpec, Space

BOX = Space("box", (3,), np.dtype(np.float32))
INTERVAL = BOX._replace(shape=(1,), low=np.array([-2.0], np.float32), high=np.array([2.0], np.float32))
FOUR, TWO = (Space("discrete", (), np.dtype(np.int64), n=n) for n in (4, 2))
# Two actions, stay and end; every state leads to itself until then.
MODEL = {s: {0: [(1.0, s, 0.0, False)], 1: [(1.0, s, 1.0, True)]} for s in range(4)}


def spec(obs: Space, actions: Space = TWO) -> EnvSpec:
    return EnvSpec("test", obs, actions, num_envs=2, max_episode_steps=1, model=MODEL, reward_range=(0.0, 1.0))


@pytest.mark.parametrize("name", sorted(algorithms()))
def test_every_algorithm_is_built_from_its_defaults_and_a_description_of_the_environment(name: str) -> None:
    entry = registry.get("algo", name)
    assert entry.config is not None
    tabular = "box" not in entry.needs.obs or "bandits" in entry.factory.__module__
    env = spec(FOUR if tabular else BOX, TWO if "discrete" in entry.needs.action else INTERVAL)
    algo = entry.factory(entry.config(), Kit(env))
    assert isinstance(algo, Algorithm)
    obs = np.zeros((2, *env.obs_space.shape), env.obs_space.dtype)
    action, _, _ = algo.agent.act(obs, algo.agent.initial_memory(2), explore=True, env_steps=0)
    assert action.shape == (2, *env.action_space.shape)
    algo.load_state_dict(algo.state_dict())


def test_the_learner_s_stream_is_one_and_follows_the_seed() -> None:
    kits = [Kit(spec(BOX), rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    draws = [torch.rand(3, generator=kit.generator).tolist() for kit in kits]
    assert draws[0] == draws[1] != draws[2]
    assert kits[0].generator is kits[0].generator


def test_nobody_is_given_anything_of_another_kit() -> None:
    one, other = Kit(spec(BOX)), Kit(spec(BOX))
    assert one.rng is not other.rng and one.sampling is not one.rng
    assert one.replay(0.9) is not other.replay(0.9)
    assert one.rng.random() != other.rng.random()


def test_a_network_reads_the_environment_s_observations() -> None:
    kit = Kit(spec(FOUR), device=Device(DeviceConfig(accelerator="cpu")))
    network = kit.module(HeadSpec("q", 2))
    assert sum(p.numel() for p in network.parameters()) == (4 + 1) * 64 + (64 + 1) * 64 + (64 + 1) * 2
