"""Bayesian linear regression, updated one observation at a time, against the formulas for all of them at once."""

from __future__ import annotations

import numpy as np
import pytest

from rlrun.algos.contextual.regression import LinearRegressions

Array = np.ndarray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exact(x: Array, y: Array, precision: float, a0: float, b0: float) -> tuple[Array, Array, float, float]:
    """Posterior mean, covariance, a and b by the textbook formula."""
    covariance = np.linalg.inv(x.T @ x + precision * np.eye(x.shape[1]))
    mean = covariance @ x.T @ y
    b = b0 + 0.5 * (y @ y - mean @ np.linalg.inv(covariance) @ mean)
    return mean, covariance, a0 + len(y) / 2, b


def test_posterior_by_hand() -> None:
    """x = 1, y = 2 twice, lambda = 1: Lambda = 3, mean = 4/3, b = 6 + (8 - 16/3) / 2; the other arm knows nothing."""
    model = LinearRegressions(2, 1, precision=1.0, a0=6.0, b0=6.0)
    for _ in range(2):
        model.add(1, np.array([1.0]), 2.0)
    assert model.mean.ravel() == pytest.approx([0, 4 / 3])
    assert np.square(model.root).ravel() == pytest.approx([1, 1 / 3])
    assert model.a.tolist() == [6, 7]
    assert model.b == pytest.approx([6, 6 + 4 / 3])


def test_updates_and_refit_equal_the_formula() -> None:
    data = rng(1)
    x, y, arm = data.normal(size=(60, 4)), data.normal(size=60), data.integers(3, size=60)
    online, batch = (LinearRegressions(3, 4, 0.25, 6.0, 6.0) for _ in range(2))
    batch.add(0, np.ones(4), 100.0)  # forgotten by fit
    batch.fit(arm, x, y)
    for row in range(60):
        online.add(int(arm[row]), x[row], y[row])
    for model in (online, batch):
        for k in range(3):
            mean, covariance, a, b = exact(x[arm == k], y[arm == k], 0.25, 6.0, 6.0)
            assert model.mean[k] == pytest.approx(mean, abs=1e-10)
            assert model.root[k] @ model.root[k].T == pytest.approx(covariance, abs=1e-10)
            assert (model.a[k], model.b[k]) == pytest.approx((a, b), abs=1e-9)


def test_a_hundred_thousand_updates_stay_exact() -> None:
    """Two features are almost the same and scales differ a thousandfold: what breaks an updated inverse."""
    data = rng(2)
    x = data.normal(size=(100_000, 5)) * [30.0, 1.0, 1.0, 0.03, 1.0]
    x[:, 2] = x[:, 1] + 1e-3 * data.normal(size=len(x))
    y = x @ data.normal(size=5) + data.normal(size=len(x))
    model = LinearRegressions(1, 5, 0.25, 6.0, 6.0)
    for row, target in zip(x, y.tolist(), strict=True):
        model.add(0, row, target)
    mean, covariance, _, b = exact(x, y, 0.25, 6.0, 6.0)
    scale = np.sqrt(np.diag(covariance))
    assert model.root[0] @ model.root[0].T / np.outer(scale, scale) == pytest.approx(
        covariance / np.outer(scale, scale), abs=1e-7
    )
    assert model.mean[0] / scale == pytest.approx(mean / scale, abs=1e-5)
    assert model.b[0] == pytest.approx(b, rel=1e-9)


def test_sampled_scores_are_those_of_sampled_weights() -> None:
    """Against sigma^2 ~ IG(a, b), beta ~ N(mean, sigma^2 Lambda^-1) drawn the long way: mean, variance, quantiles."""
    data, draws = rng(3), 100_000
    model = LinearRegressions(2, 3, 0.25, 3.0, 2.0)
    x, y = data.normal(size=(4, 3)), data.normal(size=4)
    for row, target in zip(x, y, strict=True):
        model.add(1, row, target)
    context = np.array([1.0, -2.0, 0.5])
    drawn = model.sample(np.tile(context, (draws, 1)), data)

    mean, covariance, a, b = exact(x, y, 0.25, 3.0, 2.0)
    sigma = np.sqrt(1 / data.gamma(a, 1 / b, draws))
    beta = mean + sigma[:, None] * data.multivariate_normal(np.zeros(3), covariance, draws)
    assert drawn[:, 1].mean() == pytest.approx(context @ mean, abs=0.02)
    assert drawn[:, 1].var() == pytest.approx(b / (a - 1) * (context @ covariance @ context), rel=0.05)
    levels = [0.02, 0.2, 0.5, 0.8, 0.98]
    assert np.quantile(drawn[:, 1], levels) == pytest.approx(np.quantile(beta @ context, levels), abs=0.06)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.02  # arms are independent
    assert drawn[:, 0].var() == pytest.approx(2.0 / 2 * (context @ context) / 0.25, rel=0.05)  # the prior's
