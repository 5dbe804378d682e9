"""DQN's targets against a plain loop, and its loss against what the weights and the target network must do to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from rlrun.algos.algorithm import Kit
from rlrun.algos.value.dqn import DQN, DQNConfig
from rlrun.buffers import UniformConfig, uniform
from rlrun.compute.device import Device, DeviceConfig
from rlrun.errors import ConfigError
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.schedules import ScheduleConfig
from rlrun.types import Batch, EnvSpec, Progress, Rollout, Space

ACTIONS, B = 3, 32
SPEC = EnvSpec("test", Space("box", (4,), np.dtype(np.float32)), Space("discrete", (), np.dtype(np.int64), n=ACTIONS))


def dqn(num_envs: int = 1, total_timesteps: int = 1000, capacity: int = 100, **options: Any) -> DQN:
    torch.manual_seed(0)
    spec = EnvSpec(SPEC.id, SPEC.obs_space, SPEC.action_space, num_envs)
    cfg, device = DQNConfig(**options), Device(DeviceConfig(accelerator="cpu"))
    buffer = uniform(
        UniformConfig(capacity=capacity), spec, gamma=cfg.gamma, rng=np.random.default_rng(0), device=device
    )
    network = partial(build_mlp, NetworkConfig(hidden=[16]))
    rng = np.random.default_rng(1)
    kit = Kit(spec, network=network, buffer=buffer, device=device, rng=rng, total_timesteps=total_timesteps)
    return DQN(cfg, kit)


def batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    gammas = 0.9 ** torch.randint(1, 4, (B,), generator=generator)  # gamma^m of pieces of m steps
    terminated = torch.rand(B, generator=generator) < 0.3
    return Batch(
        normal(B, 4),
        torch.randint(ACTIONS, (B,), generator=generator),
        normal(B, 4),
        2 * normal(B),
        gammas * ~terminated,
        torch.ones(B),
        torch.arange(B),
    )


def with_other_target(**options: Any) -> DQN:
    algo = dqn(**options)
    with torch.no_grad():
        for parameter in algo.q_target.module.parameters():
            parameter.add_(torch.randn_like(parameter))
    return algo


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_the_loss_is_that_of_a_plain_loop(double: bool, loss: str) -> None:
    algo, data = with_other_target(double=double, loss=loss), batch()
    online, target = algo.q(data.next_obs), algo.q_target(data.next_obs)
    total = 0.0
    for i in range(B):
        best = (online if double else target)[i].argmax()
        y = data.reward[i] + data.discount[i] * target[i, best]
        error = abs(float((y - algo.q(data.obs)[i, data.action[i]]).detach()))
        total += error**2 if loss == "mse" else (error**2 / 2 if error < 1 else error - 0.5)
    value, aux = algo.loss(algo.nets, data)
    assert value.item() == pytest.approx(total / B, rel=1e-5)
    assert aux["td_error"].shape == (B,)


def test_a_terminated_transition_is_worth_its_reward() -> None:
    algo, data = with_other_target(loss="mse"), batch()
    data = data._replace(discount=torch.zeros(B))
    value = algo.q(data.obs)[torch.arange(B), data.action]
    assert algo.loss(algo.nets, data)[0].item() == pytest.approx(
        functional.mse_loss(value, data.reward).item(), rel=1e-5
    )


def test_weights_weigh() -> None:
    algo, data = dqn(), batch()
    single = algo.loss(algo.nets, data)[0].item()
    assert algo.loss(algo.nets, data._replace(weight=2 * data.weight))[0].item() == pytest.approx(2 * single)
    only = torch.zeros(B)
    only[3] = B
    one = Batch(*(column[3:4] for column in data))
    assert algo.loss(algo.nets, data._replace(weight=only))[0].item() == pytest.approx(
        algo.loss(algo.nets, one)[0].item()
    )


@pytest.mark.parametrize("double", [False, True])
def test_the_target_gets_no_gradient(double: bool) -> None:
    algo, data = dqn(double=double), batch()
    data = data._replace(obs=torch.zeros(B, 4), next_obs=torch.randn(B, 4))
    algo.loss(algo.nets, data)[0].backward()
    first = algo.q.branches[0][0].weight.grad
    assert first.abs().max() == 0, "the first layer is reached through next_obs only"
    assert all(p.grad is None for p in algo.q_target.module.parameters())


def steps(count: int, envs: int = 1) -> Rollout:
    rng = np.random.default_rng(0)
    return Rollout(
        rng.normal(size=(count + 1, envs, 4)).astype(np.float32),
        rng.integers(ACTIONS, size=(count, envs)),
        rng.normal(size=(count, envs)).astype(np.float32),
        np.zeros((count, envs), bool),
        np.zeros((count, envs), bool),
        {},
        {},
    )


@pytest.mark.parametrize("envs", [1, 2, 8, 16])
def test_updates_per_env_step_do_not_depend_on_the_number_of_environments(envs: int) -> None:
    """3 updates per 8 env steps from step 32 on: the chunk that reaches 32 counts, so (128 - 32 + first) / 8 * 3."""
    algo = dqn(envs, batch_size=4, learning_starts=32, train_freq=8, gradient_steps=3)
    progress = Progress(1000)
    for _ in range(128 // (algo.rollout_steps * envs)):
        data = steps(algo.rollout_steps, envs)
        progress.env_steps += data.reward.size
        algo.learn(data, progress)
    first = max(8, envs)
    assert progress.gradient_steps == (128 - 32 + first) // 8 * 3


def test_nothing_is_learned_before_there_is_a_batch() -> None:
    algo = dqn(batch_size=16, learning_starts=0, train_freq=4)
    progress = Progress(1000)
    for expected in (0, 0, 0, 1, 2):
        progress.env_steps += 4
        algo.learn(steps(4), progress)
        assert progress.gradient_steps == expected


def first_weight(network: Any) -> torch.Tensor:
    return network.branches[0][0].weight.detach().clone()


def test_a_hard_copy_is_the_network_as_it_was_when_the_env_step_was_crossed() -> None:
    """And every update of the burst that follows looks at it, the first one included."""
    algo = dqn(batch_size=4, learning_starts=4, train_freq=4, gradient_steps=3, target_update_interval=12)
    progress, seen, loss = Progress(1000), [], algo.optimiser.loss

    def spy(nets: Any, data: Batch) -> Any:
        seen.append(first_weight(algo.q_target.module))
        return loss(nets, data)

    algo.optimiser.loss = spy
    expected = first_weight(algo.q)
    for env_steps in range(4, 32, 4):
        progress.env_steps = env_steps
        if env_steps in (12, 24):
            expected = first_weight(algo.q)
        seen.clear()
        algo.learn(steps(4), progress)
        assert len(seen) == 3
        assert all(torch.equal(weight, expected) for weight in seen), env_steps
    assert not torch.equal(expected, first_weight(algo.q))


def test_soft_copies_follow_every_update() -> None:
    soft, data = dqn(tau=0.25), batch()
    before = first_weight(soft.q_target.module)
    soft.optimiser(data, learning_rate=1e-3)
    expected = 0.75 * before + 0.25 * soft.q.branches[0][0].weight
    torch.testing.assert_close(soft.q_target.module.branches[0][0].weight, expected)


def test_the_exploration_rate_is_reported() -> None:
    """Also before the first update; 1 to .2 over half of 1000 steps is .6 at step 250."""
    algo = dqn(epsilon=ScheduleConfig("linear", 1.0, 0.2, fraction=0.5))
    assert algo.learn(steps(4), Progress(1000, env_steps=250)) == {}
    assert algo.agent.metrics(250) == {"exploration_rate": pytest.approx(0.6)}


def test_metrics_are_means_over_all_updates_of_a_chunk() -> None:
    algo = dqn(batch_size=4, learning_starts=4, train_freq=4, gradient_steps=5)
    burst, seen = algo.optimiser.burst, []

    def spy(*args: Any, **rates: Any) -> Any:
        for piece in burst(*args, **rates):
            seen.append(piece.aux)
            yield piece

    algo.optimiser.burst = spy  # type: ignore[method-assign]
    metrics = algo.learn(steps(4), Progress(1000, env_steps=4))
    assert len({float(aux["loss"]) for aux in seen}) == 5
    for key in ("loss", "q_values"):
        assert float(metrics[f"{key}"]) == pytest.approx(np.mean([float(aux[key]) for aux in seen]))


def test_the_learning_rate_is_that_of_the_step_where_the_experience_began() -> None:
    """From .01 at 0 to 0 at 1000 it is .0025 at 750; the chunk that ends the run still learns."""
    algo = dqn(learning_rate=0.01, learning_rate_schedule="linear", batch_size=50, learning_starts=50, train_freq=50)
    assert algo.learn(steps(50), Progress(1000, env_steps=800))["learning_rate"] == pytest.approx(0.0025)
    before = first_weight(algo.q)
    assert algo.learn(steps(50), Progress(1000, env_steps=1000))["learning_rate"] == pytest.approx(0.0005)
    assert not torch.equal(before, first_weight(algo.q))


def test_adams_epsilon_is_an_option() -> None:
    """With one that dwarfs every gradient nothing moves."""
    algo, data = dqn(adam_eps=1e9), batch()
    before = first_weight(algo.q)
    algo.optimiser(data, learning_rate=1e-3)
    torch.testing.assert_close(first_weight(algo.q), before, rtol=0, atol=1e-9)
    assert DQNConfig().adam_eps == 1e-8


def test_random_steps_come_first() -> None:
    algo = dqn(random_steps=100, epsilon=ScheduleConfig("constant", 0.0))
    obs = np.zeros((1, 4), np.float32)
    early = {int(algo.agent.act(obs, None, explore=True, env_steps=99)[0][0]) for _ in range(100)}
    late = {int(algo.agent.act(obs, None, explore=True, env_steps=100)[0][0]) for _ in range(100)}
    assert early == {0, 1, 2}
    assert len(late) == 1


def test_a_buffer_that_came_back_empty_warms_up_again() -> None:
    """As after a resume without replay: learning_starts counts what is stored."""
    algo = dqn(batch_size=4, learning_starts=12, train_freq=4)
    progress = Progress(1000, env_steps=500)
    for expected in (0, 0, 1, 2):
        progress.env_steps += 4
        algo.learn(steps(4), progress)
        assert progress.gradient_steps == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.1}, r"gamma: must be in \[0, 1\], got 1.1"),
        ({"loss": "l1"}, "loss: there is no 'l1'"),
        ({"tau": 0.0}, r"tau: must be in \(0, 1\]"),
        ({"tau": 0.01, "target_update_interval": 10}, "target_update_interval: has no meaning with tau < 1"),
        ({"epsilon": ScheduleConfig("constant", 1.5)}, r"epsilon.start: must be in \[0, 1\]"),
        ({"capacity": 40, "train_freq": 41}, "buffer.capacity: 40 transitions are less than one chunk"),
        ({"batch_size": 101}, "algo.batch_size: 101 transitions can't be drawn from a buffer of 100"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dqn(**options)
