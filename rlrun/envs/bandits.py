"""Bandits: problems of one step, natively vectorised.

The observation (context) says which of P problems is played, the action which of A arms; every step is an episode of
length 1. Regret is what the best arm would have given: the expected (pseudo-) regret q* - q(a) with the true values,
and the realised q* - r.

Sources: Sutton & Barto, 2nd ed., section 2.3 (testbed); Auer, Cesa-Bianchi & Fischer 2002 (regret).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from rlrun.checks import one_of, within
from rlrun.errors import ConfigError
from rlrun.registry import register
from rlrun.seeding import Role, SeedTree, generator_state, restore_generator
from rlrun.types import Array, EnvSpec, EpisodeStat, Metrics, Space, StateDict, Step, VectorEnv


@dataclass
class BanditConfig:
    """Options of every bandit."""

    name: str = "bandit"
    id: str = "Bandit"  # what the run is filed under
    num_envs: int = 1  # copies played side by side
    bandits: int | None = None  # number of problems; 1 unless the parameters say otherwise
    arms: int | None = None  # arms of each problem; 5 unless the parameters say otherwise
    context: str = "int"  # the problem as a number (int) or as a vector (one_hot)
    assign: str = "random"  # who plays what: a random problem each step, or fixed: environment e has problem e

    def __post_init__(self) -> None:
        within("num_envs", self.num_envs, low=1)
        within("bandits", self.bandits, low=1)
        within("arms", self.arms, low=1)
        one_of("context", self.context, ("int", "one_hot"))
        one_of("assign", self.assign, ("random", "fixed"))


@dataclass
class BernoulliConfig(BanditConfig):
    """Options of the Bernoulli bandit."""

    name: str = "bandit/bernoulli"
    id: str = "BernoulliBandit"  # what the run is filed under
    probs: Any = None  # success probability of each arm, or one row of them per problem; null: drawn from U(0, 1)

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
    means: Any = None  # mean reward of each arm, or one row of them per problem; null: drawn from the prior
    std: float = 1.0  # standard deviation of every reward
    prior: str = "uniform"  # means are drawn from U(0, 1) (uniform) or N(prior_mean, 1) (normal)
    prior_mean: float = 0.0  # of the normal prior

    def __post_init__(self) -> None:
        super().__post_init__()
        _table("means", self.means, self)
        within("std", self.std, low=0)
        one_of("prior", self.prior, ("uniform", "normal"))


def _table(key: str, values: Any, cfg: BanditConfig) -> Array | None:
    """Parameters as [problems, arms], None if they are to be drawn; ConfigError if they do not fit `cfg`."""
    if values is None:
        return None
    try:
        table = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(key, f"must be numbers, in rows of equal length, got {values}") from error
    if table.ndim not in (1, 2) or table.size == 0:
        raise ConfigError(key, f"must be one list of arms or one list per problem, got {values}")
    if table.ndim == 1:
        table = np.tile(table, (cfg.bandits or 1, 1))
    problems, arms = table.shape
    if cfg.bandits not in (None, problems) or cfg.arms not in (None, arms):
        wrong, given = ("bandits", problems) if cfg.bandits not in (None, problems) else ("arms", arms)
        raise ConfigError(wrong, f"is {getattr(cfg, wrong)}, but {key} has {given}", f"leave out {wrong}")
    return table


class BanditVector:
    """E copies of P problems with A arms, stepped as arrays.

    One random stream serves the whole vector, or with `separate` one serves each copy. A copy that is started by
    `reset_one` has a stream of its own from then on, so that its episode depends on its seed alone.

    Args:
        env_id: name of the environment.
        values: [P, A] expected reward of each arm.
        std: standard deviation of Gaussian rewards; None for Bernoulli rewards with success probability `values`.
        num_envs: E.
        one_hot: contexts as vectors [P] instead of numbers.
        fixed: environment e always plays problem e (modulo P) instead of a random one each step.
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
        separate: bool = False,
    ):
        problems, arms = values.shape
        self.num_envs = num_envs
        self.spec = EnvSpec(
            id=env_id,
            obs_space=_context_space(problems, one_hot),
            action_space=Space("discrete", (), np.dtype(np.int64), n=arms),
            num_envs=num_envs,
            max_episode_steps=1,
        )
        self.obs = np.zeros((num_envs, *self.spec.obs_space.shape), self.spec.obs_space.dtype)
        self._values, self._best, self._std = values, values.max(axis=1), std
        self._one_hot, self._fixed, self._separate = one_hot, fixed, separate
        self._problem = np.arange(num_envs) % problems  # [E] being played
        self._rng = np.random.default_rng(0)
        self._own: dict[int, np.random.Generator] = {}
        self._over, self._never = np.ones(num_envs, bool), np.zeros(num_envs, bool)
        self._steps = 0  # since the last metrics(), as the three sums below
        self._regret = self._realised = self._optimal = 0.0
        self._total_regret = 0.0

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start all copies, on one stream made of all seeds or each on its own. Returns obs [E, *obs]."""
        self._rng = np.random.default_rng([int(seed) for seed in seeds])
        self._own.clear()
        self._next_problem()
        if self._separate:
            for e, seed in enumerate(seeds):
                self.reset_one(e, seed)
        return self.obs

    def reset_one(self, env: int, seed: int) -> Array:
        """Start one copy on a stream of its own. Returns its obs [*obs]."""
        self._own[env] = np.random.default_rng(int(seed))
        if not self._fixed:
            self._problem[env] = int(self._own[env].random() * len(self._values))
        self._show()
        return self.obs[env]

    def step(self, action: Array) -> Step:
        """Pull one arm in every copy; the reward belongs to the context that was shown before."""
        value, best = self._values[self._problem, action], self._best[self._problem]
        reward = self._pull(value)
        self._account(value, best, reward)
        final_obs = dict(enumerate(self.obs.copy()))
        self._next_problem()
        episodes = [EpisodeStat(r, 1, e) for e, r in enumerate(reward.tolist())]
        return Step(self.obs, reward.astype(np.float32), self._over, self._never, final_obs, episodes)

    def metrics(self) -> Metrics:
        """Per step since the last call: regret, realised regret, share of best arms; and all regret so far."""
        if not self._steps:
            return {}
        metrics = {
            "bandit/regret": self._regret / self._steps,
            "bandit/realised_regret": self._realised / self._steps,
            "bandit/optimal_share": self._optimal / self._steps,
            "bandit/cumulative_regret": self._total_regret,
        }
        self._steps, self._regret, self._realised, self._optimal = 0, 0.0, 0.0, 0.0
        return metrics

    def state_dict(self) -> StateDict:
        return {
            "grade": "exact",
            "problem": self._problem.copy(),
            "rng": generator_state(self._rng),
            "own": [(e, generator_state(rng)) for e, rng in self._own.items()],
            "sums": [self._regret, self._realised, self._optimal, self._total_regret],
            "steps": self._steps,
        }

    def load_state_dict(self, state: StateDict) -> None:
        self._problem = np.array(state["problem"])
        restore_generator(self._rng, state["rng"])
        self._own = {e: np.random.default_rng(0) for e, _ in state["own"]}
        for e, saved in state["own"]:
            restore_generator(self._own[e], saved)
        self._regret, self._realised, self._optimal, self._total_regret = state["sums"]
        self._steps = state["steps"]
        self._show()

    def close(self) -> None:
        pass

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

    def _account(self, value: Array, best: Array, reward: Array) -> None:
        regret = float((best - value).sum())
        self._steps += self.num_envs
        self._regret += regret
        self._total_regret += regret
        self._realised += float((best - reward).sum())
        self._optimal += float((value == best).sum())

    def _next_problem(self) -> None:
        problems = len(self._values)
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
    return Space("box", (problems,), np.dtype(np.float32), low=low, high=low + 1)


class _Bandits:
    """Base: training and evaluation play the same problems."""

    def __init__(self, cfg: BanditConfig, values: Array, std: float | None):
        self._cfg, self._values, self._std = cfg, values, std

    def spec(self, num_envs: int) -> EnvSpec:
        """What an algorithm may know."""
        return self.train(num_envs).spec

    def train(self, num_envs: int) -> VectorEnv:
        """The copies a learner plays."""
        return self._vector(num_envs)

    def evaluation(self, num_envs: int, train: VectorEnv | None = None) -> VectorEnv:
        """Other copies of the same problems, each with a random stream of its own."""
        return self._vector(num_envs, separate=True)

    def render(self, mode: str) -> NoReturn:
        raise ConfigError("env", f"{self._cfg.id} has nothing to show")

    def _vector(self, num_envs: int, separate: bool = False) -> BanditVector:
        cfg = self._cfg
        one_hot, fixed = cfg.context == "one_hot", cfg.assign == "fixed"
        return BanditVector(cfg.id, self._values, self._std, num_envs, one_hot=one_hot, fixed=fixed, separate=separate)


@register("env", "bandit/bernoulli", config=BernoulliConfig)
class BernoulliBandits(_Bandits):
    """Bernoulli bandits: an arm gives 1 with its probability, else 0."""

    def __init__(self, cfg: BernoulliConfig, seeds: SeedTree, vector: str = "in_process", gamma: float = 0.99):
        drawn = seeds.generator(Role.PROBLEM).random((cfg.bandits or 1, cfg.arms or 5))
        given = _table("env.probs", cfg.probs, cfg)
        super().__init__(cfg, drawn if given is None else given, std=None)


@register("env", "bandit/gaussian", config=GaussianConfig)
class GaussianBandits(_Bandits):
    """Gaussian bandits: an arm gives its mean plus noise."""

    def __init__(self, cfg: GaussianConfig, seeds: SeedTree, vector: str = "in_process", gamma: float = 0.99):
        rng, shape = seeds.generator(Role.PROBLEM), (cfg.bandits or 1, cfg.arms or 5)
        drawn = rng.random(shape) if cfg.prior == "uniform" else rng.normal(cfg.prior_mean, 1.0, shape)
        given = _table("env.means", cfg.means, cfg)
        super().__init__(cfg, drawn if given is None else given, cfg.std)
