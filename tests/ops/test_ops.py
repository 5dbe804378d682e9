from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrun.networks.target import TargetNet
from rlrun.ops.distributions import Categorical, Gaussian, inverse_cdf, sample_categorical, sample_gaussian
from rlrun.ops.losses import approx_kl, clipped_surrogate, clipped_value_loss, gather
from rlrun.ops.returns import discounted_returns, gae, lambda_returns
from rlrun.types import Array


def random_rollout(seed: int, T: int = 50, E: int = 3) -> tuple[Array, ...]:
    """Rewards, values and episode ends, some terminated, some truncated, some both; float32 as in a Rollout."""
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, T, E)).astype(np.float32)
    terminated, truncated = rng.random((2, T, E)) < 0.1
    last = terminated | truncated
    next_value[:-1] = np.where(
        last[:-1], next_value[:-1], value[1:]
    )  # within an episode the next value is the next row's
    return reward, value, next_value, terminated, truncated


def successor_value(next_value: Array, terminated: Array, t: int, e: int) -> float:
    return 0.0 if terminated[t, e] else float(next_value[t, e])


# Returns


def test_gae_equals_the_sum_of_its_definition() -> None:
    """A_t = sum over l of (gamma lam)^l d_{t+l}, as far as the episode and the rollout go."""
    reward, value, next_value, terminated, truncated = random_rollout(0)
    gamma, lam = 0.9, 0.8
    T, E = reward.shape
    expected = np.zeros((T, E))
    for t in range(T):
        for e in range(E):
            for k in range(t, T):
                delta = reward[k, e] + gamma * successor_value(next_value, terminated, k, e) - value[k, e]
                expected[t, e] += (gamma * lam) ** (k - t) * delta
                if terminated[k, e] or truncated[k, e]:
                    break
    advantage = gae(reward, value, next_value, terminated, truncated, gamma, lam)
    assert advantage == pytest.approx(expected, abs=1e-5)
    assert advantage.dtype == np.float32


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_equals_stable_baselines3(lam: float) -> None:
    """SB3 knows `done` only and has time limits bootstrapped by adding gamma * V(final_obs) to the reward."""
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    spaces = pytest.importorskip("gymnasium.spaces")
    reward, value, next_value, terminated, truncated = random_rollout(1)
    gamma = 0.97
    T, E = reward.shape
    done = terminated | truncated
    theirs = buffers.RolloutBuffer(
        T, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", gae_lambda=lam, gamma=gamma, n_envs=E
    )
    start = np.ones(E, bool)
    for t in range(T):
        limit = reward[t] + gamma * np.where(truncated[t] & ~terminated[t], next_value[t], 0)
        theirs.add(np.zeros((E, 1)), np.zeros((E, 1)), limit, start, torch.tensor(value[t]), torch.zeros(E))
        start = done[t]
    theirs.compute_returns_and_advantage(torch.tensor(next_value[-1]), done[-1])
    ours = gae(reward, value, next_value, terminated, truncated, gamma, lam)
    assert ours == pytest.approx(theirs.advantages, abs=1e-5)
    assert ours + value == pytest.approx(theirs.returns, abs=1e-5)


def test_lambda_return_is_value_plus_gae() -> None:
    reward, value, next_value, terminated, truncated = random_rollout(2)
    advantage = gae(reward, value, next_value, terminated, truncated, 0.9, 0.7)
    target = lambda_returns(reward, next_value, terminated, truncated, 0.9, 0.7)
    assert target == pytest.approx(value + advantage, abs=1e-5)


def test_lambda_return_by_hand() -> None:
    """gamma = lambda = .5, V' = 4, 8, 2, terminated at 1: G_0 = 1 + .5 (.5 * 4 + .5 G_1), G_1 = 2, G_2 = 3 + .5 * 2."""
    reward, next_value = np.array([[1.0], [2.0], [3.0]]), np.array([[4.0], [8.0], [2.0]])
    terminated, truncated = np.array([[False], [True], [False]]), np.zeros((3, 1), bool)
    assert lambda_returns(reward, next_value, terminated, truncated, 0.5, 0.5)[:, 0].tolist() == [2.5, 2.0, 4.0]


def test_arguments_are_left_alone() -> None:
    arguments = random_rollout(3)
    copies = [x.copy() for x in arguments]
    reward, _, next_value, terminated, truncated = arguments
    gae(*arguments, 0.9, 0.9)
    lambda_returns(reward, next_value, terminated, truncated, 0.9, 0.9)
    for ours, before in zip(arguments, copies, strict=True):
        assert (ours == before).all()


def test_discounted_returns_bootstrap_where_the_rollout_is_cut() -> None:
    """Five rewards of 1, gamma .9, V = .5: without an end 4.3904..., and from t = 3 of a terminated episode 1.9, 1."""
    reward, next_value = np.ones((5, 2)), np.full((5, 2), 0.5)
    terminated, truncated = np.zeros((5, 2), bool), np.zeros((5, 2), bool)
    terminated[1, 1] = True
    returns = discounted_returns(reward, next_value, terminated, truncated, 0.9)
    assert returns[:, 0] == pytest.approx([4.390345, 3.76705, 3.0745, 2.305, 1.45])
    assert returns[:, 1] == pytest.approx([1.9, 1.0, 3.0745, 2.305, 1.45])


def test_rewards_to_go_without_a_critic() -> None:
    reward = np.array([[1.0], [2.0], [4.0]], np.float32)
    terminated, truncated = np.array([[False], [True], [False]]), np.zeros((3, 1), bool)
    returns = discounted_returns(reward, 0, terminated, truncated, 0.5)
    assert returns[:, 0].tolist() == [2.0, 2.0, 4.0]
    assert returns.dtype == np.float32


@pytest.mark.parametrize("estimate", ["gae", "lambda", "discounted"])
def test_an_endless_state_cut_every_five_steps_is_worth_ten(estimate: str) -> None:
    """One state, reward 1, gamma .9, truncated every 5 steps: V = 1 / (1 - gamma). Were a cut an end: 3.57."""
    reward, terminated = np.ones((12, 1)), np.zeros((12, 1), bool)
    truncated = (np.arange(1, 13) % 5 == 0)[:, None]
    v = 0.0
    for _ in range(500):
        value = np.full((12, 1), v)
        target = {
            "gae": lambda value=value: value + gae(reward, value, value, terminated, truncated, 0.9, 0.95),
            "lambda": lambda value=value: lambda_returns(reward, value, terminated, truncated, 0.9, 0.5),
            "discounted": lambda value=value: discounted_returns(reward, value, terminated, truncated, 0.9),
        }[estimate]()
        v += 0.5 * (target.mean() - v)
    assert v == pytest.approx(10, abs=1e-6)


# Losses


def test_gather_takes_the_value_of_the_action() -> None:
    q = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert gather(q, torch.tensor([2, 0])).tolist() == [3.0, 4.0]


def test_surrogate_clips_only_what_would_gain() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    loss = clipped_surrogate(ratio, advantage, torch.tensor(0.2))
    assert loss.tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8, -2.2])
    loss.sum().backward()
    assert ratio.grad.tolist() == pytest.approx([0, -1, 1, 0, -2])


def test_clipped_value_loss_takes_the_larger_error() -> None:
    """Old value 0, range 1. Moved to 3 towards 5: clipped to 1, error 16. Moved to 3 past 1: error 4 counts, not 0."""
    value = torch.tensor([3.0, 3.0, 0.5])
    loss = clipped_value_loss(value, torch.zeros(3), torch.tensor([5.0, 1.0, 1.0]), clip_range=1.0)
    assert loss.tolist() == [16.0, 4.0, 0.25]


def test_approx_kl_averages_to_the_divergence() -> None:
    p, q = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.4, 0.4, 0.2])
    kl = approx_kl(q / p)
    assert (kl >= 0).all()
    assert (p * kl).sum().item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)


def test_losses_can_be_vmapped() -> None:
    """No branch on data and no `.item()`: the same functions run on a batch of batches, with the same gradients."""

    def loss(logits: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
        ratio = (Categorical(3).log_prob(logits, action) - gather(logits, action)).exp()
        return clipped_surrogate(ratio, advantage, torch.tensor(0.2)).mean() + approx_kl(ratio).mean()

    torch.manual_seed(0)
    logits, action, advantage = torch.randn(5, 8, 3), torch.randint(3, (5, 8)), torch.randn(5, 8)
    together = torch.func.vmap(torch.func.grad(loss))(logits, action, advantage)
    one_by_one = [torch.func.grad(loss)(*sample) for sample in zip(logits, action, advantage, strict=True)]
    assert torch.allclose(together, torch.stack(one_by_one), atol=1e-6)


# Distributions


def test_categorical_agrees_with_torch() -> None:
    torch.manual_seed(0)
    logits, action = 3 * torch.randn(7, 4), torch.randint(4, (7,))
    oracle = torch.distributions.Categorical(logits=logits)
    policy = Categorical(4)
    assert torch.allclose(policy.log_prob(logits, action), oracle.log_prob(action), atol=1e-6)
    assert torch.allclose(policy.entropy(logits), oracle.entropy(), atol=1e-6)


def test_gaussian_agrees_with_torch() -> None:
    torch.manual_seed(0)
    mean, log_std, action = torch.randn(3, 7, 2)
    oracle = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    policy, output = Gaussian((2,)), torch.cat([mean, log_std], -1)
    assert torch.allclose(policy.log_prob(output, action), oracle.log_prob(action), atol=1e-5)
    assert torch.allclose(policy.entropy(output), oracle.entropy(), atol=1e-5)


def test_drawn_categorical_actions_carry_the_log_probability_that_the_loss_sees() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(20_000, 3)).astype(np.float32)
    logits[:] = logits[0]
    action, log_prob = sample_categorical(logits, rng)
    assert log_prob.dtype == np.float32
    assert np.bincount(action, minlength=3) / 20_000 == pytest.approx(_softmax(logits[0]), abs=0.015)
    expected = Categorical(3).log_prob(torch.tensor(logits), torch.tensor(action))
    assert log_prob == pytest.approx(expected.numpy(), abs=1e-5)


def test_drawn_gaussian_actions_carry_the_log_probability_that_the_loss_sees() -> None:
    rng = np.random.default_rng(0)
    parameters = np.tile(np.array([[-1.0, 5.0, math.log(0.5), math.log(2.0)]], np.float32), (20_000, 1))
    action, log_prob = sample_gaussian(parameters[:, :2], parameters[:, 2:], rng)
    assert action.dtype == log_prob.dtype == np.float32
    assert action.mean(axis=0) == pytest.approx([-1, 5], abs=0.06)
    assert action.std(axis=0) == pytest.approx([0.5, 2], rel=0.03)
    expected = Gaussian((2,)).log_prob(torch.tensor(parameters), torch.tensor(action))
    assert log_prob == pytest.approx(expected.numpy(), abs=1e-4)


def test_inverse_cdf_takes_weights_of_any_sum() -> None:
    rng = np.random.default_rng(0)
    draws = inverse_cdf(np.tile([[0.0, 3.0, 1.0, 0.0]], (10_000, 1)), rng)
    assert np.bincount(draws, minlength=4) / 10_000 == pytest.approx([0, 0.75, 0.25, 0], abs=0.02)


def _softmax(x: Array) -> Array:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


# Target network


class WithBuffers(nn.Module):
    """A linear layer, batch norm (float and integer buffers) and a buffer that is replaced, not overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)
        self.register_buffer("noise", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x)) + self.noise

    def move(self) -> None:
        """Change every parameter and buffer."""
        self.noise = torch.full((3,), 8.0)
        with torch.no_grad():
            for p in self.parameters():
                p.add_(torch.randn_like(p))
        self.norm.running_mean.fill_(4.0)
        self.norm.num_batches_tracked.fill_(5)


def everything(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_averaging_blends_floats_copies_integers_and_leaves_the_source_alone() -> None:
    torch.manual_seed(0)
    module = WithBuffers()
    target = TargetNet(module, tau=0.25)
    before = everything(module)
    module.move()
    source = everything(module)
    target.sync(1)  # is for hard copies
    assert all(torch.equal(value, before[name]) for name, value in target.module.state_dict().items())
    target.follow()
    for name, value in target.module.state_dict().items():
        integer = name == "norm.num_batches_tracked"
        expected = source[name] if integer else 0.75 * before[name] + 0.25 * source[name]
        assert torch.allclose(value, expected, atol=1e-6), name
    assert all(torch.equal(value, source[name]) for name, value in module.state_dict().items())
    assert target.module.noise.tolist() == [2.0, 2.0, 2.0]
    assert target.module.norm.num_batches_tracked.item() == 5


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_no_gradient_reaches_the_target_or_passes_through_it(tau: float) -> None:
    module = WithBuffers()
    target = TargetNet(module, tau=tau)
    target.sync(1)
    target.follow()
    assert all(p.requires_grad for p in module.parameters())
    assert not any(p.requires_grad for p in target.module.parameters())
    assert not target(torch.ones(4, 2)).requires_grad


def test_hard_copies_happen_on_crossing_the_interval() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    target = TargetNet(module, interval=10)
    seen = []
    for env_steps in (4, 8, 12, 16, 20, 41, 44, 50):
        nn.init.constant_(module.weight, env_steps)
        target.follow()  # is for averages
        target.sync(env_steps)
        seen.append(int(target.module.weight))
    assert seen == [0, 0, 12, 12, 20, 41, 41, 50]


def test_a_hard_copy_takes_the_buffers_along() -> None:
    torch.manual_seed(0)
    module = WithBuffers()
    target = TargetNet(module)
    module.move()
    target.sync(1)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in target.module.state_dict().items())


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_a_copy_that_is_asked_for_is_made_at_once(tau: float) -> None:
    module = nn.Linear(1, 1, bias=False)
    target = TargetNet(module, tau=tau, interval=1000)
    nn.init.constant_(module.weight, 7.0)
    assert target.model is module
    assert target.target_model.weight.item() != 7.0
    target.sync()
    assert target.target_model.weight.item() == 7.0


def test_target_resumes_with_its_trigger() -> None:
    def build(weight: float) -> nn.Linear:
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, weight)
        return module

    first = build(1.0)
    target = TargetNet(first, interval=10)
    nn.init.constant_(first.weight, 2.0)
    target.sync(12)
    second = build(3.0)
    again = TargetNet(second, interval=10)
    again.load_state_dict(target.state_dict())
    again.sync(19)
    assert again.module.weight.item() == 2.0  # restored, and not due again before 20
    again.sync(20)
    assert again.module.weight.item() == 3.0


def test_a_target_is_evaluated_while_its_source_trains() -> None:
    """It drops no units and its statistics are the source's, whatever goes through it."""
    module = nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.5), nn.BatchNorm1d(64))
    target, x = TargetNet(module), torch.ones(8, 2)
    before = everything(target.module)
    assert module.training
    assert torch.equal(target(x), target(x))
    assert all(torch.equal(value, before[name]) for name, value in target.module.state_dict().items())


@pytest.mark.parametrize("options", [{"tau": 0.0}, {"tau": 1.5}, {"interval": 0}])
def test_target_refuses_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        TargetNet(nn.Linear(1, 1), **options)
