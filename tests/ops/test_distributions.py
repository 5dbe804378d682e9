"""Action distributions: what is drawn carries the probability that the loss sees, with and without masks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrun.ops.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    distribution,
    sample_categorical,
    sample_gaussian,
)
from rlrun.ops.fields import tensors
from rlrun.types import Array, Space

INT, FLOAT = np.dtype(np.int64), np.dtype(np.float32)
BOX = Space("box", (2, 2), FLOAT, low=np.full((2, 2), -1, np.float32), high=np.ones((2, 2), np.float32))
SCALAR = Space("box", (), FLOAT, low=np.array(-2, np.float32), high=np.array(3, np.float32))
CHOICES = Space("multi_discrete", (2,), INT, nvec=(2, 3))
GRID = Space("multi_discrete", (2, 2), INT, nvec=(2, 3, 4, 2))
BITS = Space("multi_binary", (3,), np.dtype(np.int8))
PARTS = {"n": Space("discrete", (), INT, n=4), "x": SCALAR, "bits": BITS, "box": BOX, "grid": GRID}
RECORD = np.dtype([(name, part.dtype, part.shape) for name, part in PARTS.items()])
DICT = Space("dict", (), RECORD, fields=PARTS)
SPACES = {**PARTS, "choices": CHOICES, "dict": DICT}
GAUSSIANS: list[dict[str, Any]] = [
    {"log_std": "state", "log_std_init": -0.5},
    {"squash": True, "log_std_init": -0.5},
    {"squash": True, "log_std": "state", "log_std_init": -1.0},
]
POLICIES = {name: distribution(space) for name, space in SPACES.items()} | {
    f"{name} {options}": distribution(SPACES[name], **options) for name in ("x", "box", "dict") for options in GAUSSIANS
}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> Space:
    return SPACES[request.param]


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> Distribution:
    return POLICIES[request.param]


def outputs(policy: Distribution, rows: int, seed: int = 0) -> Array:
    """Random outputs of a policy's head; all rows the same."""
    row = np.random.default_rng(seed).normal(size=policy.size + policy.log_stds).astype(np.float32)
    return np.tile(row, (rows, 1))


def masks(policy: Categorical | MultiCategorical, rows: int, seed: int = 0) -> Array:
    """Random masks that leave each choice something."""
    rng, sizes = np.random.default_rng(seed), [policy.size]
    if isinstance(policy, MultiCategorical):
        sizes = [choice.size for choice in policy.choices]
    mask = rng.random((rows, policy.size)) < 0.5
    for n, start in zip(sizes, np.cumsum([0, *sizes[:-1]]), strict=True):
        mask[np.arange(rows), start + rng.integers(n, size=rows)] = True
    return mask


def test_what_is_drawn_carries_the_log_probability_that_the_loss_sees(policy: Distribution) -> None:
    output = np.random.default_rng(1).normal(size=(50, policy.size + policy.log_stds)).astype(np.float32)
    drawn, log_prob = policy.sample(output, np.random.default_rng(0))
    assert log_prob.shape == (50,)
    assert log_prob.dtype == np.float32
    seen = policy.log_prob(torch.from_numpy(output), tensors(drawn))
    assert log_prob == pytest.approx(seen.numpy(), abs=1e-4)


@pytest.mark.parametrize("squash", [False, True])
def test_what_is_drawn_is_of_the_space(space: Space, squash: bool) -> None:
    policy = distribution(space, squash)
    drawn, _ = policy.sample(outputs(policy, 50), np.random.default_rng(0))
    action = policy.action(drawn)
    assert action.shape == drawn.shape == (50, *space.shape)
    assert action.dtype == space.dtype
    assert policy.squashes or action is drawn


def test_no_action_is_likelier_than_the_mode(space: Space) -> None:
    policy = distribution(space)
    output = outputs(policy, 200)
    drawn, log_prob = policy.sample(output, np.random.default_rng(0))
    mode = policy.mode(output)
    assert mode.shape == drawn.shape
    assert mode.dtype == space.dtype
    highest = policy.log_prob(torch.from_numpy(output), tensors(mode)).numpy()
    assert (highest >= log_prob - 1e-4).all()
    assert (highest > log_prob + 0.01).any()


def test_the_entropy_is_the_mean_surprise(policy: Distribution) -> None:
    output = outputs(policy, 40_000)
    _, log_prob = policy.sample(output, np.random.default_rng(0))
    entropy = policy.entropy(torch.from_numpy(output[:3])).numpy()
    assert entropy == pytest.approx(np.full(3, -log_prob.mean()), abs=0.03)


def test_the_divergence_is_the_mean_difference_of_log_probabilities(policy: Distribution) -> None:
    old, new = outputs(policy, 40_000), 0.7 * outputs(policy, 40_000) + 0.1
    drawn, log_prob = policy.sample(old, np.random.default_rng(0))
    later = policy.log_prob(torch.from_numpy(new), tensors(drawn)).numpy()
    found = policy.kl(torch.from_numpy(old[:2]), torch.from_numpy(new[:2])).numpy()
    assert found == pytest.approx((log_prob - later).mean(), abs=0.02)
    assert found.min() > 0.002
    assert policy.kl(torch.from_numpy(old[:2]), torch.from_numpy(old[:2])).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["n", "choices", "grid"])
def test_masked_actions_count_in_no_divergence(name: str) -> None:
    """Whatever their scores are: it is that of the choices that are left."""
    policy: Any = POLICIES[name]
    mask = torch.from_numpy(masks(policy, 1, seed=3))
    old, new = (torch.from_numpy(outputs(policy, 1, seed)).requires_grad_() for seed in (0, 1))
    found = policy.kl(old, new, mask)
    odd = policy.kl(old.masked_fill(~mask, 7.0), new.masked_fill(~mask, -3.0), mask)
    assert found.item() == pytest.approx(odd.item(), abs=1e-6) and found.item() > 0.01
    assert all(g[~mask].abs().max() == 0 for g in torch.autograd.grad(found.sum(), [old, new]))


@pytest.mark.parametrize("log_std", ["free", "state"])
def test_a_squashed_gaussian_is_that_of_torch(log_std: str) -> None:
    """Bounds that differ by dimension. What lies beyond three standard units torch has no way back from."""
    low, high = np.array([-2, 0], np.float32), np.array([3, 0.5], np.float32)
    policy = SquashedGaussian((2,), low, high, log_std=log_std)
    output = outputs(policy, 1).repeat(100, 0) * np.linspace(-2, 2, 100, dtype=np.float32)[:, None]
    drawn, log_prob = policy.sample(output, np.random.default_rng(0))
    action = policy.action(drawn)
    mean, log_std_ = policy.parameters(torch.from_numpy(output).double())
    normal = torch.distributions.Normal(mean, log_std_.exp())
    middle, half = (torch.from_numpy(x).double() for x in ((low + high) / 2, (high - low) / 2))
    transforms = [torch.distributions.TanhTransform(), torch.distributions.AffineTransform(middle, half)]
    peer = torch.distributions.TransformedDistribution(normal, transforms)  # type: ignore[no-untyped-call]
    exact = middle + half * torch.from_numpy(drawn).double().tanh()
    inside = (np.abs(drawn) < 3).all(1)
    assert 20 < inside.sum() < 100
    assert log_prob[inside] == pytest.approx(peer.log_prob(exact).sum(-1)[inside].numpy(), abs=1e-4)
    assert action == pytest.approx(exact.numpy(), abs=1e-6)

    made, its = policy.rsample(torch.from_numpy(output).double(), (torch.from_numpy(drawn) - mean) / log_std_.exp())
    assert made.numpy() == pytest.approx(action, abs=1e-6)
    assert its.numpy() == pytest.approx(log_prob, abs=1e-4)


def test_far_out_a_squashed_action_is_its_bound_and_its_density_finite() -> None:
    low, high = np.array([-2, 0], np.float32), np.array([3, 0.7], np.float32)
    policy, output = SquashedGaussian((2,), low, high), np.array([[50.0, -50.0, 0.0, 0.0]], np.float32)
    drawn, log_prob = policy.sample(output, np.random.default_rng(0))
    assert policy.action(drawn).tolist() == [[3.0, 0.0]] == policy.mode(output).tolist()
    slopes = 2 * math.log(2) - 2 * np.abs(drawn) + np.log((high - low) / 2)  # of 1 - tanh(u)^2 = 4 exp(-2 |u|)
    noise = drawn - output[:, :2]
    expected = (-0.5 * noise**2 - 0.5 * math.log(2 * math.pi) - slopes).sum()
    assert log_prob == pytest.approx(expected, abs=1e-3)
    assert policy.log_prob(torch.from_numpy(output), torch.from_numpy(drawn)).item() == pytest.approx(
        expected, abs=1e-3
    )


def test_what_has_no_bounds_is_not_squashed() -> None:
    with pytest.raises(ValueError, match="no bounds to squash a policy into"):
        distribution(BOX._replace(high=np.full((2, 2), np.inf, np.float32)), squash=True)


def test_gradients_are_those_of_finite_differences(policy: Distribution) -> None:
    start = outputs(policy, 2)
    action = tensors(policy.sample(start, np.random.default_rng(0))[0])
    output = torch.from_numpy(start).double().requires_grad_()
    torch.autograd.gradcheck(lambda x: (policy.log_prob(x, action), policy.entropy(x)), (output,))


def test_uniform_actions_lie_in_the_space(space: Space) -> None:
    actions = distribution(space).uniform(4000, np.random.default_rng(0))
    assert actions.shape == (4000, *space.shape)
    assert actions.dtype == space.dtype
    parts = [(actions[name], part) for name, part in space.fields.items()] or [(actions, space)]
    for drawn, part in parts:
        low = part.low if part.low is not None else 0
        high = (
            part.high if part.high is not None else np.reshape(part.nvec, part.shape) - 1 if part.nvec else part.n - 1
        )
        high = 1 if part.kind == "multi_binary" else high
        assert (drawn >= low).all()
        assert (drawn <= high).all()
        assert drawn.mean(0) == pytest.approx(np.broadcast_to((np.add(low, high)) / 2, part.shape), abs=0.15)


@pytest.mark.parametrize("name", ["n", "choices", "grid"])
def test_probabilities_of_all_actions_sum_to_one_and_masked_ones_have_none(name: str) -> None:
    space = SPACES[name]
    policy: Any = distribution(space)
    every = np.array(list(itertools.product(*map(range, space.nvec or (space.n,))))).reshape(-1, *space.shape)
    output, mask = outputs(policy, 1), masks(policy, 1, seed=3)
    assert not mask.all()
    spread, where = (torch.from_numpy(np.tile(x, (len(every), 1))) for x in (output, mask))
    p = policy.log_prob(spread, torch.from_numpy(every), where).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    starts = np.cumsum([0, *(space.nvec or (space.n,))[:-1]])
    there = mask[0][starts + every.reshape(len(every), -1)].all(1)
    assert (p.numpy()[~there] == 0).all()
    assert (p.numpy()[there] > 0).all()
    surprise = -(p[p > 0] * p[p > 0].log()).sum().item()
    assert policy.entropy(spread[:1], where[:1]).item() == pytest.approx(surprise, abs=1e-5)


@pytest.mark.parametrize("name", ["n", "choices", "grid"])
def test_masked_actions_are_not_drawn(name: str) -> None:
    space = SPACES[name]
    policy: Any = distribution(space)
    output, mask = 5 * outputs(policy, 3000), masks(policy, 3000)
    starts = np.cumsum([0, *(space.nvec or (space.n,))[:-1]])
    rng = np.random.default_rng(0)
    sampled, log_prob = policy.sample(output, rng, mask)
    for action in (sampled, policy.mode(output, mask), policy.uniform(3000, rng, mask)):
        assert mask[np.arange(3000)[:, None], starts + action.reshape(3000, -1)].all()
    seen = policy.log_prob(torch.from_numpy(output), torch.from_numpy(sampled), torch.from_numpy(mask))
    assert log_prob == pytest.approx(seen.numpy(), abs=1e-4)


def test_uniform_over_what_a_mask_leaves() -> None:
    mask = np.tile([[True, False, True, True]], (30_000, 1))
    drawn = Categorical(4).uniform(30_000, np.random.default_rng(0), mask)
    assert np.bincount(drawn, minlength=4) / 30_000 == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)


@pytest.mark.parametrize("name", ["n", "choices", "grid"])
def test_a_mask_that_lets_all_pass_changes_nothing(name: str) -> None:
    policy: Any = distribution(SPACES[name])
    output, everything = outputs(policy, 20), np.ones((20, policy.size), bool)
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(3):
        assert (policy.sample(output, one)[0] == policy.sample(output, other, everything)[0]).all()


def test_a_mask_leaves_no_gradient_on_what_it_hides() -> None:
    logits = torch.tensor([[1.0, 5.0, -2.0]], requires_grad=True)
    mask, policy = torch.tensor([[True, False, True]]), Categorical(3)
    loss = policy.log_prob(logits, torch.tensor([0]), mask) + policy.entropy(logits, mask)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[0, 1] == 0
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] != 0


def test_actions_are_drawn_as_ever() -> None:
    """The random numbers behind discrete and continuous actions: runs of before depend on them."""
    logits, gaussian = outputs(Categorical(4), 5), outputs(Gaussian((2,)), 5)
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(3):
        ours, theirs = Categorical(4).sample(logits, rng), sample_categorical(logits, again)
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
        ours, theirs = Gaussian((2,)).sample(gaussian, rng), sample_gaussian(gaussian[:, :2], gaussian[:, 2:], again)
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
    assert (Categorical(4).uniform(5, rng) == again.integers(4, size=5)).all()
    low, high = np.array([-1, 0], np.float32), np.array([1, 9], np.float32)
    expected = again.uniform(low, high, (5, 2)).astype(np.float32)
    assert (Gaussian((2,), low, high).uniform(5, rng) == expected).all()


def test_several_choices_and_bits_by_hand() -> None:
    """p = (1/4, 3/4) and (1/2, 1/3, 1/6); bits with p = 1/2 and 4/5."""
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0, 1.0]]).log()
    policy = MultiCategorical((2, 3))
    assert policy.log_prob(logits, torch.tensor([[1, 2]])).exp().item() == pytest.approx(3 / 4 / 6)
    bits = Bernoulli((2,))
    output = torch.tensor([[0.0, math.log(4)]])
    assert bits.log_prob(output, torch.tensor([[1, 0]], dtype=torch.int8)).exp().item() == pytest.approx(0.5 * 0.2)
    expected = math.log(2) - 0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    assert bits.entropy(output).item() == pytest.approx(expected)


def test_extreme_bits_stay_finite() -> None:
    bits, output = Bernoulli((2,)), np.array([[-300.0, 300.0]], np.float32)
    action, log_prob = bits.sample(output, np.random.default_rng(0))
    assert action.tolist() == [[0, 1]]
    assert log_prob.tolist() == [0]
    assert bits.entropy(torch.from_numpy(output)).item() == 0


def test_a_gaussian_integrates_to_one() -> None:
    """A trapezoid sum over a grid of its only dimension, and its mean and entropy with it."""
    policy, output = Gaussian(()), torch.tensor([[0.7, math.log(0.4)]], dtype=torch.float64)
    x = torch.linspace(-5, 6, 4001, dtype=torch.float64)
    log_p = policy.log_prob(output.expand(4001, 2), x)
    p = log_p.exp()
    assert torch.trapezoid(p, x).item() == pytest.approx(1, abs=1e-9)
    assert torch.trapezoid(p * x, x).item() == pytest.approx(0.7, abs=1e-9)
    assert torch.trapezoid(-p * log_p, x).item() == pytest.approx(policy.entropy(output).item(), abs=1e-9)


def test_the_parts_of_a_dict_are_independent() -> None:
    """Its log-probability and entropy are the sums of theirs, and every part reads its own piece of the output."""
    policy: Any = distribution(DICT)
    assert policy.size == 4 + 1 + 3 + 4 + 11
    assert policy.log_stds == 1 + 4
    output = torch.randn(6, policy.size + policy.log_stds, generator=torch.Generator().manual_seed(0))
    drawn = tensors(policy.sample(output.numpy(), np.random.default_rng(0))[0])
    log_prob, entropy, at, std = torch.zeros(6), torch.zeros(6), 0, policy.size
    for name, part in PARTS.items():
        alone = distribution(part)
        own: Tensor = torch.cat([output[:, at : at + alone.size], output[:, std : std + alone.log_stds]], 1)
        at, std = at + alone.size, std + alone.log_stds
        log_prob += alone.log_prob(own, drawn[name])
        entropy += alone.entropy(own)
    assert torch.allclose(policy.log_prob(output, drawn), log_prob, atol=1e-5)
    assert torch.allclose(policy.entropy(output), entropy, atol=1e-5)
