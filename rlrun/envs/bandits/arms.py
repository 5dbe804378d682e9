"""Bandits: problems of one step, natively vectorised.

The observation (context) says which of P problems is played, the action which of A arms; every step is an episode of
length 1. With `drift` every mean walks at random, so that what was learned long ago misleads.

Source: Sutton & Barto, 2nd ed., sections 2.3 (testbed) and 2.5 (exercise 2.5: random walks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from rlrun.checks import Bounded, NotNegative, OneOf, Within, digest
from rlrun.envs.bandits.copies import BanditEnvironments, Copies
from rlrun.errors import ConfigError
from rlrun.files import of_user
from rlrun.footprint import Need
from rlrun.registry import register
from rlrun.seeding import Role, SeedTree
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, EnvSpec, Space, StateDict, Step

Million = Annotated[int, Within(1, 10**6)]


@dataclass
class BanditConfig(Bounded):
    """Options of every bandit."""

    name: str = "bandit"
    id: str = "Bandit"  # what the run is filed under
    num_envs: Million = 1  # copies played side by side
    bandits: Million | None = None  # number of problems; 1 unless the parameters say otherwise
    arms: Million | None = None  # arms of each problem; 5 unless the parameters say otherwise
    context: Annotated[str, OneOf("int", "one_hot")] = "int"  # the problem as a number (int) or as a vector (one_hot)
    # who plays what: a random problem each step, or fixed: environment e has problem e
    assign: Annotated[str, OneOf("random", "fixed")] = "random"
    # standard deviation of the step that every arm's mean takes with each sweep; 0 = stationary
    drift: Annotated[float, Within(0, 10**6)] = 0.0


@dataclass
class BernoulliConfig(BanditConfig):
    """Options of the Bernoulli bandit."""

    name: str = "bandit/bernoulli"
    id: str = "BernoulliBandit"  # what the run is filed under
    probs: Any = None  # success probability of each arm, a row of them per problem, or a CSV file; null: from U(0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        probs = _table("probs", self.probs, self)
        if probs is not None and not ((probs >= 0) & (probs <= 1)).all():
            raise ConfigError("probs", "a probability must be in [0, 1]", "it is the probability of reward 1")


@dataclass
class GaussianConfig(BanditConfig):
    """Options of the Gaussian bandit."""

    name: str = "bandit/gaussian"
    id: str = "GaussianBandit"  # what the run is filed under
    means: Any = None  # mean reward of each arm, a row of them per problem, or a CSV file; null: from the prior
    std: NotNegative = 1.0  # standard deviation of every reward
    prior: Annotated[str, OneOf("uniform", "normal")] = (
        "uniform"  # means are drawn from U(0, 1) (uniform) or N(prior_mean, 1) (normal)
    )
    prior_mean: float = 0.0  # of the normal prior

    def __post_init__(self) -> None:
        super().__post_init__()
        _table("means", self.means, self)


def _table(key: str, values: Any, cfg: BanditConfig) -> Array | None:
    """Parameters as [problems, arms], None if they are to be drawn; ConfigError if they do not fit `cfg`."""
    if values is None:
        return None
    try:
        table = _read(values) if isinstance(values, str) else np.array(values, np.float64)
    except OSError as error:
        raise ConfigError(key, f"{values} cannot be read", "give numbers, or a CSV file of them") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(key, f"must be numbers, in rows of equal length, got {values}") from error
    if not np.isfinite(table).all():
        raise ConfigError(key, "must be finite numbers", f"{values} has others")
    if table.ndim not in (1, 2) or table.size == 0:
        raise ConfigError(key, f"must be one list of arms or one list per problem, got {values}")
    if table.ndim == 1:
        table = np.tile(table, (cfg.bandits or 1, 1))
    problems, arms = table.shape
    if cfg.bandits not in (None, problems) or cfg.arms not in (None, arms):
        wrong, given = ("bandits", problems) if cfg.bandits not in (None, problems) else ("arms", arms)
        raise ConfigError(wrong, f"is {getattr(cfg, wrong)}, but {key} has {given}", f"leave out {wrong}")
    return table


def _read(path: str) -> Array:
    """A CSV file of numbers; a file, so that an address is not fetched, nor a pipe or a device waited for."""
    if not of_user(path).is_file():
        raise FileNotFoundError(path)
    with open(of_user(path), encoding="utf-8") as file:
        return np.loadtxt(file, delimiter=",")


class BanditVector(Copies):
    """E copies of P problems with A arms, stepped as arrays.

    One random stream serves the whole vector, or with `separate` one serves each copy.

    Args:
        env_id: name of the environment.
        values: [P, A] expected reward of each arm; not copied, since all vectors of a problem look at the same.
        std: standard deviation of Gaussian rewards; None for Bernoulli rewards with success probability `values`.
        num_envs: E.
        one_hot: contexts as vectors [P] instead of numbers.
        fixed: environment e always plays problem e (modulo P) instead of a random one each step.
        drift: standard deviation of the normal step that every value takes after each sweep; probabilities are
            reflected at 0 and 1.
        separate: give every copy its own stream, which costs time: for evaluation.
    """

    def __init__(
        self,
        env_id: str,
        values: Array,
        std: float | None,
        num_envs: int,
        *,
        one_hot: bool = False,
        fixed: bool = False,
        drift: float = 0.0,
        separate: bool = False,
    ):
        problems, arms = values.shape
        spec = EnvSpec(
            id=env_id,
            obs_space=_context_space(problems, one_hot),
            action_space=Space("discrete", (), np.dtype(np.int64), n=arms),
            num_envs=num_envs,
            max_episode_steps=1,
            reward_range=(0.0, 1.0) if std is None else (-np.inf, np.inf),
        )
        super().__init__(spec, problems)
        self.values = values
        self._best, self._std, self._drift = values.max(axis=1), std, drift
        self._one_hot, self._fixed, self._separate = one_hot, fixed, separate
        self._problem = np.arange(num_envs) % problems  # [E] being played
        self._rng = np.random.default_rng(0)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start all copies, on one stream made of all seeds or each on its own. Returns obs [E, *obs]."""
        self._best = self.values.max(axis=1)  # they may have drifted
        self._rng = np.random.default_rng([int(seed) for seed in seeds])
        return self._begin(seeds, self._separate)

    def reset_one(self, env: int, seed: int) -> Array:
        """Start one copy on a stream of its own. Returns its obs [*obs]."""
        self._own[env] = np.random.default_rng(int(seed))
        if not self._fixed:
            self._problem[env] = int(self._own[env].random() * len(self.values))
        self._show()
        return self.obs[env]

    def step(self, action: Array) -> Step:
        """Pull one arm in every copy; the reward belongs to the context that was shown before."""
        problem, value = self._problem, self.values[self._problem, action]
        best = self._best[problem]
        reward = self._pull(value)
        self._meter.add(action, reward, best - value, best - reward, problem)
        if self._drift:
            self._walk()
        return self._end(reward)

    def state_dict(self) -> StateDict:
        return {
            "grade": "exact",
            "problem": self._problem.copy(),
            "rng": generator_state(self._rng),
            **self._books(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a state; the values of the arms are back already."""
        self._best = self.values.max(axis=1)
        self._problem = np.array(state["problem"])
        restore_generator(self._rng, state["rng"])
        self._restore_books(state)
        self._show()

    def _pull(self, value: Array) -> Array:
        """Rewards [E] of arms with these expected values."""
        if self._std is None:
            noise = self._rng.random(self.num_envs)
            for e, rng in self._own.items():
                noise[e] = rng.random()
            return (noise < value).astype(np.float64)
        noise = self._rng.standard_normal(self.num_envs)
        for e, rng in self._own.items():
            noise[e] = rng.standard_normal()
        return value + self._std * noise

    def _walk(self) -> None:
        self.values += self._drift * self._rng.standard_normal(self.values.shape)
        if self._std is None:
            self.values[:] = 1 - np.abs(1 - np.abs(self.values) % 2)  # reflected at 0 and 1
        self._best = self.values.max(axis=1)

    def _show_next(self) -> None:
        problems = len(self.values)
        if not self._fixed and problems > 1:
            self._problem = self._rng.integers(problems, size=self.num_envs)
            for e, rng in self._own.items():
                self._problem[e] = int(rng.random() * problems)
        self._show()

    def _show(self) -> None:
        if self._one_hot:
            self.obs[:] = 0.0
            self.obs[np.arange(self.num_envs), self._problem] = 1.0
        else:
            self.obs[:] = self._problem


def _context_space(problems: int, one_hot: bool) -> Space:
    if not one_hot:
        return Space("discrete", (), np.dtype(np.int64), n=problems)
    low = np.zeros(problems, np.float32)
    return Space("box", (problems,), np.dtype(np.float32), low=low, high=low + 1, one_hot=True)


class _Bandits(BanditEnvironments):
    """Base: training and evaluation play the same problems, as they stand now if they drift."""

    state = ("_values",)

    def __init__(self, cfg: BanditConfig, values: Array, std: float | None):
        self._cfg, self._values, self._std = cfg, values, std
        self._fingerprint = digest(values)  # before they drift

    def fingerprint(self) -> str:
        """A hash of what the arms give at the beginning."""
        return self._fingerprint

    def _vector(self, num_envs: int, training: bool = False, separate: bool = False) -> BanditVector:
        """Only the copies that are learned from drift, and the values, which all share, with them."""
        cfg = self._cfg
        return BanditVector(
            cfg.id,
            self._values,
            self._std,
            num_envs,
            one_hot=cfg.context == "one_hot",
            fixed=cfg.assign == "fixed",
            drift=cfg.drift if training else 0.0,
            separate=separate,
        )


def footprint(cfg: BanditConfig, each: int) -> list[Need]:
    """The arms of all problems, their counts, and what every copy shows."""
    problems, arms = cfg.bandits or 1, cfg.arms or 5
    shown = 8 * (problems if cfg.context == "one_hot" else 1) + 200
    found = [Need("env.num_envs", cfg.num_envs * shown, f"{cfg.num_envs:,} copies of the bandit", shown)]
    if cfg.bandits or cfg.arms:
        key, rows = ("env.arms", problems) if arms > problems else ("env.bandits", arms)
        found.append(Need(key, 64 * problems * arms, f"{problems:,} problems of {arms:,} arms", 64 * rows))
    return found


@register("env", BernoulliConfig, footprint=footprint)
class BernoulliBandits(_Bandits):
    """Bernoulli bandits: an arm gives 1 with its probability, else 0."""

    def __init__(self, cfg: BernoulliConfig, seeds: SeedTree, **_: Any):
        drawn = seeds.generator(Role.PROBLEM).random((cfg.bandits or 1, cfg.arms or 5))
        given = _table("env.probs", cfg.probs, cfg)
        super().__init__(cfg, drawn if given is None else given, std=None)


@register("env", GaussianConfig, footprint=footprint)
class GaussianBandits(_Bandits):
    """Gaussian bandits: an arm gives its mean plus noise."""

    def __init__(self, cfg: GaussianConfig, seeds: SeedTree, **_: Any):
        rng, shape = seeds.generator(Role.PROBLEM), (cfg.bandits or 1, cfg.arms or 5)
        drawn = rng.random(shape) if cfg.prior == "uniform" else rng.normal(cfg.prior_mean, 1.0, shape)
        given = _table("env.means", cfg.means, cfg)
        super().__init__(cfg, drawn if given is None else given, cfg.std)
