"""Masks of actions: nobody takes, draws or bootstraps from an action that is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlrun.agents.q import EpsilonAgent, QAgent
from rlrun.agents.selectors import EpsilonGreedyActionSelector
from rlrun.algos.algorithm import Kit
from rlrun.algos.baselines.random import RandomAgent
from rlrun.algos.policy.ppo import PPO, PPOConfig
from rlrun.algos.value.dqn import DQN, DQNConfig
from rlrun.compute.device import Device, DeviceConfig
from rlrun.ops.fields import tensors
from rlrun.types import MASK, Array, Batch, EnvSpec, Space

N = 5  # actions
INT, FLOAT = np.dtype(np.int64), np.dtype(np.float32)
VECTOR = Space("box", (3,), FLOAT)
FIELDS = {"obs": VECTOR, MASK: Space("multi_binary", (N,), np.dtype(bool))}
SEEN = Space("dict", (), np.dtype([("obs", "f4", (3,)), (MASK, "?", (N,))]), fields=FIELDS)
ACTIONS = Space("discrete", (), INT, n=N)
SPEC = EnvSpec("test", SEEN, ACTIONS)


def observations(count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    obs = np.zeros(count, SEEN.dtype)
    obs["obs"] = rng.normal(size=(count, 3))
    obs[MASK] = rng.random((count, N)) < 0.4
    obs[MASK][np.arange(count), rng.integers(N, size=count)] = True
    return obs


def kit() -> Kit:
    torch.manual_seed(0)
    return Kit(SPEC, device=Device(DeviceConfig(accelerator="cpu")), rng=np.random.default_rng(0))


def allowed(obs: Array, action: Array) -> bool:
    return bool(obs[MASK][np.arange(len(obs)), action].all())


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_dqn_explores_and_plays_among_the_allowed(epsilon: float) -> None:
    obs, scores = observations(2000), np.random.default_rng(1).normal(size=(2000, N)).astype(np.float32)
    explorer = EpsilonGreedyActionSelector(epsilon, np.random.default_rng(0), masked=True)
    agent = QAgent(lambda _: scores, explorer, N)
    explored, _, _ = agent.act(obs, None, explore=True, env_steps=0)
    greedy, _, _ = agent.act(obs, None, explore=False, env_steps=0)
    assert allowed(obs, explored)
    assert (greedy == np.where(obs[MASK], scores, -9).argmax(1)).all()
    assert (explored == greedy).all() == (epsilon == 0)
    fork = agent.fork(np.random.default_rng(7))
    assert allowed(obs, fork.act(obs, None, explore=True, env_steps=0)[0])


def test_random_actions_are_uniform_over_the_allowed() -> None:
    scores = np.tile([[0.0, -np.inf, 3.0, -np.inf, 1.0]], (30_000, 1))
    drawn = EpsilonGreedyActionSelector(1.0, np.random.default_rng(0), masked=True)(scores)
    assert np.bincount(drawn, minlength=N) / 30_000 == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3], abs=0.01)


def test_random_play_and_random_moves_in_evaluation_obey() -> None:
    obs, rng = observations(2000), np.random.default_rng(0)
    agents: list[Any] = [RandomAgent(ACTIONS, rng, masked=True)]
    agents.append(EpsilonAgent(agents[0], 0.5, N, rng, masked=True))
    for agent in [*agents, *(agent.fork(np.random.default_rng(1)) for agent in agents)]:
        assert allowed(obs, agent.act(obs, None, explore=False, env_steps=0)[0])


@pytest.mark.parametrize("double", [False, True])
def test_dqn_bootstraps_from_allowed_actions_only(double: bool) -> None:
    """r + discount * max over what is allowed next; where nothing is, at an episode's end, the reward alone."""
    algo, obs, following = DQN(DQNConfig(double=double), kit()), observations(40), observations(40, seed=1)
    following[MASK][:3] = False
    action, reward = obs[MASK].argmax(1), np.random.default_rng(2).normal(size=40).astype(np.float32)
    discount = np.where(np.arange(40) < 3, 0, 0.9).astype(np.float32)
    q, next_q = algo.agent.scores(obs), algo.agent.scores(following)
    best = np.array([max(row[mask], default=0.0) for row, mask in zip(next_q, following[MASK], strict=True)])
    expected = np.abs(reward + discount * best - q[np.arange(40), action])
    columns = (tensors(column) for column in (obs, action, following, reward, discount))
    aux = algo.optimiser(Batch(*columns, torch.ones(40), torch.arange(40)), learning_rate=0.0)
    assert aux["td_error"].numpy() == pytest.approx(expected, abs=1e-5)


def test_ppo_samples_records_and_learns_the_masked_policy() -> None:
    algo, obs = PPO(PPOConfig(n_steps=8), kit()), observations(500)
    logits, _ = algo.agent.forward(obs)
    p = np.where(obs[MASK], np.exp(logits), 0)
    p /= p.sum(1, keepdims=True)
    action, _, extras = algo.agent.act(obs, None, explore=True, env_steps=0)
    assert allowed(obs, action)
    assert np.exp(extras["log_prob"]) == pytest.approx(p[np.arange(500), action], abs=1e-5)
    assert (algo.agent.act(obs, None, explore=False, env_steps=0)[0] == p.argmax(1)).all()
    ones = torch.ones(500)
    batch = {"obs": tensors(obs), "action": tensors(action), "log_prob": torch.log(2 * ones), "advantage": ones}
    aux = algo.optimiser(batch | {"value": ones, "returns": ones}, 0.2, learning_rate=0.0)
    ratio = p[np.arange(500), action] / 2  # below 0.8, where nothing is clipped for an advantage of 1
    assert aux["policy_gradient_loss"].item() == pytest.approx(-ratio.mean(), abs=1e-5)
