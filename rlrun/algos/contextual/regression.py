"""Bayesian linear regression with unknown noise, one observation at a time.

Model of an arm: y = x . beta + N(0, sigma^2), with the conjugate prior beta ~ N(0, sigma^2 / lambda I),
sigma^2 ~ IG(a0, b0). After n observations X [n, D], y [n] (Riquelme et al. 2018, arXiv:1802.09127, section 3.1):

    Lambda = X'X + lambda I         mean = Lambda^-1 X'y
    a = a0 + n / 2                  b = b0 + (y'y - mean' Lambda mean) / 2
    sigma^2 ~ IG(a, b)              beta ~ N(mean, sigma^2 Lambda^-1)

Kept is a square root R of the covariance, R R' = Lambda^-1, which a new observation changes by a matrix of rank one
(Potter 1963, the square-root Kalman filter): nothing is ever solved or inverted, R R' cannot lose its positivity to
rounding, and x' Lambda^-1 x = |R'x|^2. With p = R'x, s = 1 + |p|^2 and the error e = y - x . mean of the prediction:

    mean += R p e / s       b += e^2 / (2 s)       R -= R p p' / (s + sqrt(s))

Letters: K arms, D features, E contexts, N observations. Everything is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlrun.state import Stateful

if TYPE_CHECKING:
    Array = np.ndarray


class LinearRegressions(Stateful):
    """The posteriors of K arms that learn nothing from each other. An update costs O(D^2), however many came before.

    Args:
        arms: K.
        features: D, a constant 1 for the intercept included if there is to be one.
        precision: lambda of the prior, greater than 0.
        a0, b0: shape and scale of the prior of sigma^2.
    """

    state = ("mean", "root", "count", "b")

    def __init__(self, arms: int, features: int, precision: float, a0: float = 1.0, b0: float = 1.0):
        self.precision, self.a0, self.b0 = precision, a0, b0
        self.mean = np.zeros((arms, features))
        self.root = np.tile(np.eye(features) / np.sqrt(precision), (arms, 1, 1))  # R of each arm, [K, D, D]
        self.count = np.zeros(arms, np.int64)
        self.b = np.full(arms, float(b0))

    @property
    def a(self) -> Array:
        """Shapes [K] of the posteriors of sigma^2: every arm counts its own observations."""
        return self.a0 + self.count / 2

    def add(self, arm: int, x: Array, y: float) -> None:
        """Take in one observation, x [D]."""
        mean, root = self.mean[arm], self.root[arm]
        p = x @ root
        s = 1 + p @ p
        direction = root @ p
        error = y - x @ mean
        mean += direction * (error / s)
        root -= np.multiply.outer(direction, p / (s + np.sqrt(s)))
        self.b[arm] += error * error / (2 * s)
        self.count[arm] += 1

    def fit(self, arm: Array, x: Array, y: Array) -> None:
        """Forget everything and take in all observations at once: arm [N], x [N, D], y [N]."""
        for a in range(len(self.mean)):
            mine = arm == a
            features, targets = x[mine], y[mine]
            precision = features.T @ features + self.precision * np.eye(x.shape[1])
            root = np.linalg.inv(np.linalg.cholesky(precision)).T
            mean = root @ (root.T @ (features.T @ targets))
            self.mean[a], self.root[a], self.count[a] = mean, root, len(targets)
            # y'y - m'Lm, written as a sum of squares: the difference of large numbers could come out negative.
            residual = targets - features @ mean
            self.b[a] = self.b0 + 0.5 * (residual @ residual + self.precision * (mean @ mean))

    def predict(self, x: Array) -> Array:
        """Expected rewards [E, K] of contexts [E, D]."""
        return x @ self.mean.T

    def width(self, x: Array) -> Array:
        """sqrt(x' Lambda^-1 x) [E, K]: the standard deviation of x . beta in units of sigma."""
        p = np.matmul(x, self.root)  # [K, E, D]
        return np.sqrt(np.einsum("ked,ked->ek", p, p))

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """x . beta [E, K] with a new sigma^2 and beta drawn for every context and arm.

        Given sigma, x . beta is itself normal, so one number is drawn in place of the D of beta.
        """
        mean = self.predict(x)
        sigma = np.sqrt(self.b / rng.standard_gamma(self.a, mean.shape))
        return mean + sigma * self.width(x) * rng.standard_normal(mean.shape)
