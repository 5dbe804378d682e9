"""What a Bayesian bandit believes: a posterior of each arm's mean reward, from a conjugate prior.

    beta      rewards in [0, 1]:   Beta(alpha + sum r, beta + sum (1 - r)), exact for rewards 0 and 1
    gaussian  noise s known:       N(m, s^2 / k), where k = k0 + n and m = (k0 m0 + sum r) / k
              noise unknown:       Student's t around m, 2a degrees of freedom, scale sqrt(b / (a k)), from a
                                   normal-inverse-gamma prior: a = a0 + n / 2,
                                   b = b0 + sum (r - mean r)^2 / 2 + k0 n (mean r - m0)^2 / (2k)

where n counts the pulls of an arm. The prior's strength k0 is worth so many pulls.

Source: Gelman et al. 2013, Bayesian Data Analysis, 3rd ed., sections 2.4, 2.5 and 3.3.
Letters: S contexts, A arms, E environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Protocol

import numpy as np

from rlrun.algos.bandits.bandit import Averages, table_shape, unit_rewards
from rlrun.checks import Bounded, OneOf, Positive
from rlrun.errors import ConfigError
from rlrun.types import Array, EnvSpec


@dataclass
class BeliefConfig(Bounded):
    """The prior of every arm."""

    prior: Annotated[str, OneOf("beta", "gaussian")] = "beta"  # beta (rewards in [0, 1]) | gaussian (any rewards)
    alpha: Positive = 1.0  # beta: successes it is worth
    beta: Positive = 1.0  # beta: failures it is worth
    prior_mean: float = 0.0  # gaussian: expected mean of an arm
    prior_pulls: Positive = 1.0  # gaussian: pulls it is worth
    noise_std: Positive | None = None  # gaussian: standard deviation of a reward around its arm's mean; null: unknown
    noise_shape: Positive = 1.0  # gaussian, noise unknown: a0 of the inverse-gamma prior of its variance
    noise_scale: Positive = 1.0  # gaussian, noise unknown: b0 of that prior


class Belief(Protocol):
    """The posterior of every arm's mean; also the memory of the bandit that holds it."""

    mean: Array  # [S, A] of the posterior
    count: Array  # [S, A] pulls
    tables: Mapping[str, Array]

    def add(self, context: Array, arm: Array, reward: Array) -> None: ...

    def sample(self, context: Array, rng: np.random.Generator) -> Array:
        """A draw [E, A] of the means in contexts [E]."""
        ...

    def std(self, context: Array) -> Array:
        """Standard deviations [E, A] of the posterior; infinite where it has none."""
        ...

    def quantile(self, context: Array, level: Array) -> Array:
        """The values [E, A] below which the means lie with probability `level` [E, 1]."""
        ...


def make(cfg: BeliefConfig, env: EnvSpec) -> Belief:
    """The belief before the first pull; ConfigError if the prior does not suit the environment's rewards."""
    if cfg.prior == "beta":
        return BetaBelief(cfg, env)
    return StudentBelief(cfg, env) if cfg.noise_std is None else GaussianBelief(cfg, env, cfg.noise_std)


def special_functions() -> ModuleType:
    """SciPy's, which quantiles need; ConfigError if it is not there."""
    try:
        from scipy import special
    except ImportError as error:
        raise ConfigError("algo.index", "quantile needs SciPy", "pip install scipy") from error
    return special


class BetaBelief:
    """Rewards in [0, 1], Beta prior."""

    def __init__(self, cfg: BeliefConfig, env: EnvSpec):
        self.range = unit_rewards(env, "algo.prior", "beta", "write algo.prior=gaussian")
        self.pseudo = cfg.alpha + cfg.beta
        self.averages = Averages(table_shape(env), cfg.alpha / self.pseudo, self.pseudo)
        self.mean, self.count, self.tables = self.averages.mean, self.averages.count, self.averages.tables

    def add(self, context: Array, arm: Array, reward: Array) -> None:
        self.averages.add(context, arm, self.range.scaled(reward))

    def parameters(self, context: Array) -> tuple[Array, Array]:
        """alpha and beta [E, A]."""
        alpha = self.averages.total[context]
        return alpha, self.pseudo + self.count[context] - alpha

    def sample(self, context: Array, rng: np.random.Generator) -> Array:
        return rng.beta(*self.parameters(context))

    def std(self, context: Array) -> Array:
        alpha, beta = self.parameters(context)
        return np.sqrt(alpha * beta / (alpha + beta + 1)) / (alpha + beta)

    def quantile(self, context: Array, level: Array) -> Array:
        return special_functions().betaincinv(*self.parameters(context), level)


class GaussianBelief:
    """Gaussian rewards whose noise is known, Gaussian prior."""

    def __init__(self, cfg: BeliefConfig, env: EnvSpec, noise_std: float):
        self.noise_std, self.pseudo = noise_std, cfg.prior_pulls
        self.averages = Averages(table_shape(env), cfg.prior_mean, cfg.prior_pulls)
        self.mean, self.count, self.tables = self.averages.mean, self.averages.count, self.averages.tables
        self.add = self.averages.add

    def sample(self, context: Array, rng: np.random.Generator) -> Array:
        return rng.normal(self.mean[context], self.std(context))

    def std(self, context: Array) -> Array:
        return self.noise_std / np.sqrt(self.pseudo + self.count[context])

    def quantile(self, context: Array, level: Array) -> Array:
        return self.mean[context] + self.std(context) * special_functions().ndtri(level)


class StudentBelief:
    """Gaussian rewards whose noise is unknown, normal-inverse-gamma prior."""

    def __init__(self, cfg: BeliefConfig, env: EnvSpec):
        self.noise_shape, self.pseudo = cfg.noise_shape, cfg.prior_pulls
        self.averages = Averages(table_shape(env), cfg.prior_mean, cfg.prior_pulls)
        self.mean, self.count = self.averages.mean, self.averages.count
        self.b = np.full(self.mean.shape, cfg.noise_scale)  # [S, A]
        self.tables: Mapping[str, Array] = {**self.averages.tables, "b": self.b}

    def add(self, context: Array, arm: Array, reward: Array) -> None:
        """Rewards of the same arm are taken in as a group: within it, and of it around the mean before, b grows."""
        cell, group = np.unique(context * self.mean.shape[1] + arm, return_inverse=True)
        n = np.bincount(group)
        average = np.bincount(group, reward) / n
        within = np.bincount(group, (reward - average[group]) ** 2)
        k = self.pseudo + self.count.reshape(-1)[cell]
        around = k * n / (k + n) * (average - self.mean.reshape(-1)[cell]) ** 2
        self.b.reshape(-1)[cell] += (within + around) / 2
        self.averages.add(context, arm, reward)

    def parameters(self, context: Array) -> tuple[Array, Array]:
        """Degrees of freedom and scale [E, A]."""
        count = self.count[context]
        a = self.noise_shape + count / 2
        return 2 * a, np.sqrt(self.b[context] / (a * (self.pseudo + count)))

    def sample(self, context: Array, rng: np.random.Generator) -> Array:
        freedom, scale = self.parameters(context)
        return self.mean[context] + scale * rng.standard_t(freedom)

    def std(self, context: Array) -> Array:
        freedom, scale = self.parameters(context)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(freedom > 2, scale * np.sqrt(freedom / (freedom - 2)), np.inf)

    def quantile(self, context: Array, level: Array) -> Array:
        freedom, scale = self.parameters(context)
        return self.mean[context] + scale * special_functions().stdtrit(freedom, level)
