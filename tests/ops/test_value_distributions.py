"""Projection onto atoms and quantile regression, against plain loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlrun.ops.categorical import project, support
from rlrun.ops.quantiles import midpoints, quantile_huber


def projected(p: np.ndarray, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Algorithm 1 of Bellemare et al. 2017, a number at a time; a value that hits an atom gives it everything."""
    atoms = len(p)
    step, m = (high - low) / (atoms - 1), np.zeros(atoms)
    for share, value in zip(p, values, strict=True):
        place = (min(max(value, low), high) - low) / step
        below, above = math.floor(place), math.ceil(place)
        if below == above:
            m[below] += share
        else:
            m[below] += share * (above - place)
            m[above] += share * (place - below)
    return m


def test_projection_is_that_of_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(11), 40)
    values = rng.uniform(-9, 9, (40, 11))
    values[0] = np.linspace(-5, 5, 11)  # all hit their atoms
    values[1], values[2] = -5, 5  # the ends
    values[3] = np.linspace(-5, 5, 11) + 1
    ours = project(torch.tensor(p), torch.tensor(values), -5, 5)
    theirs = [projected(*row, -5, 5) for row in zip(p, values, strict=True)]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)
    torch.testing.assert_close(ours.sum(-1), torch.ones(40, dtype=ours.dtype))


def test_projection_keeps_the_mean_inside_of_the_support() -> None:
    p = torch.tensor([[0.2, 0.3, 0.5]])
    atoms = support(0, 2, 3, like=p)
    values = 0.25 + 0.5 * atoms[None]  # .25 .75 1.25
    assert project(p, values, 0, 2).tolist() == [pytest.approx([0.15 + 0.075, 0.05 + 0.225 + 0.375, 0.125])]
    assert (project(p, values, 0, 2) @ atoms).item() == pytest.approx((p * values).sum().item())


def test_quantile_regression_by_hand() -> None:
    """Quantiles 0 and 2 at .25 and .75; samples 1 and 5: u = 1, 5 and -1, 3; Huber .5, 4.5, .5, 2.5."""
    loss = quantile_huber(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 5.0]]), midpoints(2, torch.ones(1)))
    assert loss.tolist() == [pytest.approx((0.25 * 0.5 + 0.25 * 4.5) / 2 + (0.25 * 0.5 + 0.75 * 2.5) / 2)]
    absolute = quantile_huber(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 5.0]]), torch.tensor([0.25, 0.75]), 0)
    assert absolute.tolist() == [pytest.approx((0.25 * 1 + 0.25 * 5) / 2 + (0.25 * 1 + 0.75 * 3) / 2)]


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
def test_quantile_regression_is_that_of_the_plain_loop(kappa: float) -> None:
    generator = torch.Generator().manual_seed(0)
    theta, target = torch.randn(6, 4, generator=generator), 2 * torch.randn(6, 5, generator=generator)
    tau = torch.rand(6, 4, generator=generator)
    for b, found in enumerate(quantile_huber(theta, target, tau, kappa).tolist()):
        total = 0.0
        for i in range(4):
            for j in range(5):
                u = (target[b, j] - theta[b, i]).item()
                error = abs(u) if kappa == 0 else min(abs(u), u * u / 2 / kappa + 1e9 * (abs(u) > kappa))
                if kappa and abs(u) > kappa:
                    error = abs(u) - kappa / 2
                total += abs(tau[b, i].item() - (u < 0)) * error / 5
        assert found == pytest.approx(total, rel=1e-5)


def test_quantile_regression_finds_quantiles() -> None:
    """Descending the plain loss on samples 0 ... 99, the quantiles at .1 and .9 come to lie around 10 and 90."""
    theta = torch.tensor([[50.0, 50.0]], requires_grad=True)
    samples, tau = torch.arange(100.0)[None], torch.tensor([0.1, 0.9])
    for _ in range(300):
        (grad,) = torch.autograd.grad(quantile_huber(theta, samples, tau, 0).sum(), theta)
        theta = (theta - 2 * grad).detach().requires_grad_()
    assert theta.detach().tolist()[0] == pytest.approx([10, 90], abs=2)
