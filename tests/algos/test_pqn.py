"""PQN's targets against a plain loop, and what goes into its minibatches."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from test_dqn import ACTIONS, SPEC

from rlrun.algos.algorithm import Kit
from rlrun.algos.value.pqn import PQN, PQNConfig
from rlrun.compute.device import Device, DeviceConfig
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.types import EnvSpec, Progress, Rollout

T, E = 6, 3


def pqn(network: dict[str, Any] | None = None, **options: Any) -> PQN:
    torch.manual_seed(0)
    kit = Kit(
        EnvSpec(SPEC.id, SPEC.obs_space, SPEC.action_space, E),
        network=partial(build_mlp, NetworkConfig(**{"hidden": [16], "layer_norm": True} | (network or {}))),
        device=Device(DeviceConfig(accelerator="cpu")),
        rng=np.random.default_rng(1),
        sampling=np.random.default_rng(2),
        total_timesteps=1000,
    )
    return PQN(PQNConfig(**{"n_steps": T, "batch_size": 6, "q_lambda": 0.6, "gamma": 0.9} | options), kit)


def rollout(algo: PQN) -> Rollout:
    """Collected by the agent; one episode ends in the second environment, one is cut in the third."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(T + 1, E, 4)).astype(np.float32)
    terminated, truncated = np.zeros((T, E), bool), np.zeros((T, E), bool)
    terminated[2, 1] = truncated[3, 2] = True
    final = {where: rng.normal(size=4).astype(np.float32) for where in ((2, 1), (3, 2))}
    acted = [algo.agent.act(row, None, explore=True, env_steps=0) for row in obs[:-1]]
    value = np.stack([extras["value"] for _, _, extras in acted])
    action = np.stack([action for action, _, _ in acted])
    return Rollout(
        obs, action, rng.normal(size=(T, E)).astype(np.float32), terminated, truncated, final, {"value": value}
    )


def highest(algo: PQN, obs: np.ndarray) -> float:
    with torch.no_grad():
        return float(algo.q(torch.from_numpy(obs)[None]).max())


def test_targets_are_those_of_the_plain_loop() -> None:
    """And the values recorded are those of the network that acted."""
    algo = pqn()
    data = rollout(algo)
    expected = np.zeros((T, E))
    for e in range(E):
        following = None
        for t in reversed(range(T)):
            r = data.reward[t, e]
            if data.terminated[t, e]:
                following = r
            elif data.truncated[t, e]:
                following = r + 0.9 * highest(algo, data.final_obs[t, e])
            elif following is None:
                following = r + 0.9 * highest(algo, data.obs[T, e])
            else:
                following = r + 0.9 * (0.4 * highest(algo, data.obs[t + 1, e]) + 0.6 * following)
            expected[t, e] = following
    np.testing.assert_allclose(algo.returns(data), expected, rtol=1e-5)


@pytest.mark.parametrize(("q_lambda", "steps"), [(0.0, 1), (1.0, T)])
def test_lambda_0_and_1_are_one_step_and_all_rewards(q_lambda: float, steps: int) -> None:
    algo = pqn(q_lambda=q_lambda)
    data = rollout(algo)
    total = sum(0.9**t * data.reward[t, 0] for t in range(steps))
    assert algo.returns(data)[0, 0] == pytest.approx(total + 0.9**steps * highest(algo, data.obs[steps, 0]), rel=1e-5)


def test_the_loss_is_the_squared_error_of_the_actions_taken() -> None:
    algo, generator = pqn(), torch.Generator().manual_seed(0)
    batch = {
        "obs": torch.randn(5, 4, generator=generator),
        "action": torch.tensor([0, 1, 2, 1, 0]),
        "returns": torch.randn(5, generator=generator),
    }
    values = algo.q(batch["obs"])
    expected = sum((values[i, a] - batch["returns"][i]) ** 2 for i, a in enumerate(batch["action"].tolist())) / 5
    assert algo.loss(algo.nets, batch)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_rollout_is_learned_from_so_often() -> None:
    """18 transitions are 3 minibatches of 6, in each of 4 epochs."""
    algo, progress = pqn(n_epochs=4, learning_rate=0.01), Progress(1000, env_steps=T * E)
    data = rollout(algo)
    error = np.square(values(algo, data) - (target := algo.returns(data))).mean()
    metrics = algo.learn(data, progress)
    assert progress.gradient_steps == 12
    assert set(metrics) == {"loss", "q_values", "learning_rate"}
    assert np.square(values(algo, data) - target).mean() < error


def values(algo: PQN, data: Rollout) -> np.ndarray:
    """Of the actions taken [T, E]."""
    with torch.no_grad():
        q = algo.q(torch.from_numpy(data.obs[:-1].reshape(-1, 4))).numpy()
    return q[np.arange(T * E), data.action.ravel()].reshape(T, E)


def test_a_noisy_network_gets_noise_in_every_minibatch() -> None:
    algo = pqn({"noisy": "factorised"})
    columns = {"obs": np.zeros((T, E, 4), np.float32), "returns": np.zeros((T, E), np.float32)}
    noises = torch.cat([stack["noise"] for stack in algo.stacks(columns)])
    assert len(noises.unique(dim=0)) == 2 * T * E // 6
    assert "generator" in algo.state_dict()
    assert algo.agent.metrics(0) == {"exploration_rate": 0.0}
    assert pqn().agent.metrics(0) == {"exploration_rate": 1.0}
    assert algo.agent.values(np.zeros((2, 4), np.float32)).shape == (2, ACTIONS)
