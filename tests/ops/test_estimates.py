"""What a critic's numbers mean, and several critics as one target, against plain loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlrun.ops.categorical import cross_entropy, hl_gauss, project, support, two_hot
from rlrun.ops.critics import Categorical, HLGauss, Huber, Quantile, Returns, Squared, lowest, pooled, truncated


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gauss(value: float, low: float, high: float, atoms: int, sigma: float) -> list[float]:
    """The histogram of a normal, bin by bin, of what falls into any."""
    width, value = (high - low) / (atoms - 1), min(max(value, low), high)

    def below(x: float) -> float:
        return 0.5 * (1 + math.erf((x - value) / (sigma * width * math.sqrt(2))))

    mass = [below(low + (i + 0.5) * width) - below(low + (i - 0.5) * width) for i in range(atoms)]
    return [m / sum(mass) for m in mass]


def test_a_number_as_a_histogram_of_a_normal() -> None:
    values = torch.tensor([-9.0, -1.0, -0.3, 0.0, 0.77, 3.0, 40.0])
    ours = hl_gauss(values, -1, 3, 9, 0.75)
    theirs = [gauss(v, -1, 3, 9, 0.75) for v in values.tolist()]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    inside = hl_gauss(torch.tensor([0.9]), -10, 10, 101, 0.75)
    assert (inside @ support(-10, 10, 101, like=inside)).item() == pytest.approx(0.9, abs=1e-4)


def test_a_number_at_the_two_atoms_around_it() -> None:
    """It is the projection of a distribution that has all of its probability at one value."""
    values = torch.tensor([-3.0, 0.25, 1.0, 1.9, 2.0, 7.0])
    assert two_hot(values, 0, 2, 3)[1].tolist() == [0.75, 0.25, 0.0]
    certain = torch.tensor([[1.0, 0.0, 0.0]]).expand(6, 3)
    torch.testing.assert_close(two_hot(values, 0, 2, 3), project(certain, values[:, None].expand(6, 3), 0, 2))


def test_projection_onto_another_number_of_atoms() -> None:
    p, values = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 5.0]])
    assert project(p, values, 0, 2, 3).tolist() == [[0.375, 0.125, 0.5]]


def test_cross_entropy_by_hand() -> None:
    logits, p = torch.log(torch.tensor([[0.2, 0.8], [0.5, 0.5]])), torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    expected = [-0.5 * math.log(0.2) - 0.5 * math.log(0.8), math.log(2)]
    assert cross_entropy(logits, p).tolist() == pytest.approx(expected)
    assert cross_entropy(logits.expand(3, 2, 2), p).shape == (3, 2)


def test_the_critic_with_the_lowest_mean_of_all_or_of_some() -> None:
    """Each row by itself; REDQ's minimum over a random subset."""
    values = torch.tensor([[1.0, 5.0], [2.0, 3.0], [0.0, 4.0]]).unsqueeze(-1)  # [C, B, 1]
    assert lowest(Returns(values)).values.tolist() == [[0.0], [3.0]]
    assert lowest(Returns(values), torch.tensor([1, 0])).values.tolist() == [[1.0], [3.0]]
    assert lowest(Returns(values), torch.tensor([2])).values.tolist() == [[0.0], [4.0]]


def test_a_whole_distribution_is_taken_from_the_lowest_critic() -> None:
    values, p = normal(3, 4, 5), normal(3, 4, 5, seed=1).softmax(-1)
    for returns in (Returns(values, p), Returns(values)):
        found = lowest(returns)
        for b in range(4):
            means = [returns.mean[c, b].item() for c in range(3)]
            c = min(range(3), key=means.__getitem__)
            assert torch.equal(found.values[b], values[c, b])
            assert returns.p is None or torch.equal(found.p[b], p[c, b])
        assert found.mean.tolist() == pytest.approx(returns.mean.amin(0).tolist(), abs=1e-6)
    some = lowest(Returns(values, p), torch.tensor([2, 0]))
    assert torch.equal(some.values, lowest(Returns(values[[2, 0]], p[[2, 0]])).values)


def test_pooled_returns_are_the_mixture() -> None:
    values, p = normal(3, 4, 5), normal(3, 4, 5, seed=1).softmax(-1)
    assert pooled(Returns(values, p)).mean.tolist() == pytest.approx(Returns(values, p).mean.mean(0).tolist(), abs=1e-6)
    assert pooled(Returns(values)).mean.tolist() == pytest.approx(values.mean((0, 2)).tolist(), abs=1e-6)
    assert pooled(Returns(values, p)).p.sum(-1).tolist() == pytest.approx([1.0] * 4)


def test_truncation_leaves_out_the_highest_of_all_critics() -> None:
    quantiles = torch.tensor([[[1.0, 9.0, 3.0]], [[8.0, -2.0, 5.0]]])  # [C=2, B=1, K=3]
    assert truncated(Returns(quantiles), 2).values.tolist() == [[-2.0, 1.0, 3.0, 5.0]]
    assert truncated(Returns(quantiles), 0).values.tolist() == [[-2.0, 1.0, 3.0, 5.0, 8.0, 9.0]]


def test_a_target_is_the_reward_and_what_follows() -> None:
    """Where nothing follows, the reward alone."""
    returns = Returns(torch.tensor([[1.0, 3.0], [7.0, 9.0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    target = returns.target(torch.tensor([10.0, 20.0]), torch.tensor([0.5, 0.0]))
    assert target.values.tolist() == [[10.5, 11.5], [20.0, 20.0]]
    assert target.mean.tolist() == [11.25, 20.0]


def test_errors_by_hand() -> None:
    output = torch.tensor([[[1.0], [5.0]], [[2.0], [0.0]]])  # [C=2, B=2, K=1]
    target = Returns(torch.tensor([[1.5, 2.5], [4.0, 4.0]]))  # means 2 and 4
    assert Squared().error(output, target).tolist() == [[1.0, 1.0], [0.0, 16.0]]
    assert Huber().error(output, target).tolist() == [[0.5, 0.5], [0.0, 3.5]]


def test_a_categorical_critic_learns_the_projected_target() -> None:
    estimate = Categorical(5, -1.0, 1.0)
    logits = normal(2, 3, 5)
    target = estimate.returns(logits)
    target = lowest(target).target(torch.tensor([0.1, 0.0, 2.0]), torch.tensor([0.5, 0.9, 0.9]))
    error = estimate.error(logits, target)
    assert error.shape == (2, 3)
    for c in range(2):
        for b in range(3):
            p = project(target.p[b : b + 1], target.values[b : b + 1], -1, 1)[0]
            log_p = logits[c, b] - logits[c, b].exp().sum().log()
            assert error[c, b].item() == pytest.approx(-(p * log_p).sum().item(), abs=1e-5)
    samples = Returns(torch.tensor([[0.5, -0.5]]))  # equally likely, none of them with a probability
    expected = cross_entropy(logits[:, :1], torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]))
    torch.testing.assert_close(estimate.error(logits[:, :1], samples), expected)


@pytest.mark.parametrize("sigma", [0.0, 0.75])
def test_a_histogram_is_least_wrong_where_its_mean_is_the_target(sigma: float) -> None:
    estimate = HLGauss(21, -2.0, 2.0, sigma)
    logits = torch.zeros(1, 1, 21, requires_grad=True)
    target = Returns(torch.tensor([[0.5, 0.9]]))
    for _ in range(300):
        (grad,) = torch.autograd.grad(estimate.error(logits, target).sum(), logits)
        logits = (logits - 2 * grad).detach().requires_grad_()
    assert estimate.returns(logits).values.item() == pytest.approx(0.7, abs=0.02)
    assert estimate.returns(logits).values.shape == (1, 1, 1)


def test_quantile_critics_against_the_plain_loop() -> None:
    """TQC: every critic's quantiles against all samples that are left."""
    estimate, output, samples = Quantile(3), normal(2, 4, 3), normal(4, 5, seed=1) * 2
    error = estimate.error(output, Returns(samples))
    for c in range(2):
        for b in range(4):
            total = 0.0
            for i, theta in enumerate(output[c, b].tolist()):
                for sample in samples[b].tolist():
                    u = sample - theta
                    huber = u * u / 2 if abs(u) <= 1 else abs(u) - 0.5
                    total += abs((i + 0.5) / 3 - (u < 0)) * huber / 5
            assert error[c, b].item() == pytest.approx(total, rel=1e-5)
