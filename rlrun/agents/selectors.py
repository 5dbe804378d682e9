"""From scores to actions: PTAN's selectors. Numpy in, numpy out; one row per environment.

    selector = EpsilonGreedyActionSelector(epsilon=1.0)
    selector(np.array([[1, 2, 3], [1, -1, 0]]))     # array([0, 2]), say
    selector.epsilon = 0.1                          # may be assigned at any time, or be a schedule

Letters: E environments, A actions. A selector that draws holds a generator; `fork` gives the same rule another one.
Without a generator it makes one of its own, whose draws do not repeat.
Rows are mostly few, and then a short Python loop over them is faster than masks.
"""

from __future__ import annotations

import numpy as np

from rlrun.ops.distributions import inverse_cdf, sample_categorical
from rlrun.schedules import Constant, Schedule
from rlrun.types import Array, Metrics

FEW = 16  # rows up to which a loop is faster


class ActionSelector:
    """Base: chooses an action per row, scores [E, A] -> a new array int64 [E]; ValueError unless the scores are 2-D."""

    def __call__(self, scores: Array, env_steps: int = 0) -> Array:
        raise NotImplementedError

    def fork(self, rng: np.random.Generator) -> ActionSelector:
        """The same rule on another random stream."""
        raise NotImplementedError

    def metrics(self) -> Metrics:
        """What changes with time in the way it chooses, by plain names."""
        return {}


class ArgmaxActionSelector(ActionSelector):
    """The highest score, the lowest index among equals; draws nothing."""

    def __call__(self, scores: Array, env_steps: int = 0) -> Array:
        _require_rows(scores)
        return scores.argmax(axis=1)

    def fork(self, rng: np.random.Generator) -> ArgmaxActionSelector:
        return self


class RandomArgmaxActionSelector(ActionSelector):
    """The highest score, a random one among equals: for tables, whose entries start out equal."""

    def __init__(self, rng: np.random.Generator | None = None):
        self.rng = rng or np.random.default_rng()

    def __call__(self, scores: Array, env_steps: int = 0) -> Array:
        _require_rows(scores)
        return random_argmax(scores, self.rng)

    def fork(self, rng: np.random.Generator) -> RandomArgmaxActionSelector:
        return RandomArgmaxActionSelector(rng)


class EpsilonGreedyActionSelector(ActionSelector):
    """With probability epsilon a uniform draw from all A actions, the greedy one included; decided for each row anew.

    So P(greedy) = 1 - epsilon + epsilon / A. One random number per row does both: given u < epsilon, u / epsilon is
    uniform again and names the action.

    Args:
        epsilon: probability of a random action, or a schedule of it over env steps. May be assigned at any time.
        rng: where the random numbers come from.
        selector: chooses the other actions.
        masked: a score of minus infinity marks an action that cannot be taken, and is not drawn.
        spread: environments explore the less, the higher their number: i of N with epsilon^(1 + spread i / (N - 1)), as
            in Horgan et al. 2018, "Ape-X", arXiv:1803.00933, once `station` has said which they are.

    Raises:
        ValueError: epsilon outside [0, 1], when set or, if a schedule, when used.
    """

    def __init__(
        self,
        epsilon: float | Schedule = 0.05,
        rng: np.random.Generator | None = None,
        selector: ActionSelector | None = None,
        masked: bool = False,
        spread: float = 0.0,
    ):
        self.rng, self.masked, self.spread = rng or np.random.default_rng(), masked, spread
        self._exponents: list[float] = []  # of epsilon by environment; none if it is the same in all
        self.selector = selector or ArgmaxActionSelector()
        self.epsilon = epsilon

    @property
    def epsilon(self) -> float:
        """The probability in force: the one last used, if it is scheduled."""
        return self._epsilon

    @epsilon.setter
    def epsilon(self, epsilon: float | Schedule) -> None:
        self._schedule = epsilon if callable(epsilon) else Constant(epsilon)
        self._epsilon = _probability(self._schedule(0))
        self._changes = not isinstance(self._schedule, Constant)

    def station(self, envs: range, num_envs: int) -> None:
        """Which of the run's `num_envs` environments the rows are of."""
        if self.spread:
            self._exponents = [1 + self.spread * env / max(num_envs - 1, 1) for env in envs]

    def at(self, env_steps: float) -> float:
        """The probability of a random action at `env_steps`; its mean, where environments differ."""
        return self._mean(self._schedule(env_steps))

    def all_random(self, env_steps: float) -> bool:
        """Whether every action is drawn from all at `env_steps`, whatever the scores."""
        return self._schedule(env_steps) == 1

    def _mean(self, epsilon: float) -> float:
        powers = [epsilon**exponent for exponent in self._exponents]
        return sum(powers) / len(powers) if powers else epsilon

    def metrics(self) -> Metrics:
        """The epsilon that was last used if it changes with time; a constant one is in the config."""
        return {"exploration_rate": self._mean(self._epsilon)} if self._changes else {}

    def __call__(self, scores: Array, env_steps: int = 0) -> Array:
        action = self.selector(scores, env_steps)
        self._epsilon = epsilon = _probability(self._schedule(env_steps))
        for row, u in enumerate(self.rng.random(len(action)).tolist()):
            if self._exponents:
                epsilon = self._epsilon ** self._exponents[row]
            if u < epsilon and self.masked:
                there = np.flatnonzero(scores[row] > -np.inf)
                action[row] = there[int(u / epsilon * len(there))]
            elif u < epsilon:
                action[row] = int(u / epsilon * scores.shape[1])
        return action

    def fork(self, rng: np.random.Generator) -> EpsilonGreedyActionSelector:
        return EpsilonGreedyActionSelector(self._schedule, rng, self.selector.fork(rng), self.masked, self.spread)


class ProbabilityActionSelector(ActionSelector):
    """An action drawn from each row of probabilities; one of probability 0 is never drawn.

    Raises:
        ValueError: a row is not a distribution (an entry below 0 or NaN, or a sum more than 1 % from 1).
    """

    def __init__(self, rng: np.random.Generator | None = None):
        self.rng = rng or np.random.default_rng()

    def __call__(self, scores: Array, env_steps: int = 0) -> Array:
        _require_rows(scores)
        if not (scores.min() >= 0 and np.abs(scores.sum(axis=1, dtype=np.float64) - 1).max() < 0.01):
            raise ValueError("probabilities of a row must sum to 1; for logits there is CategoricalActionSelector")
        return inverse_cdf(scores, self.rng)

    def fork(self, rng: np.random.Generator) -> ProbabilityActionSelector:
        return ProbabilityActionSelector(rng)


class CategoricalActionSelector(ActionSelector):
    """An action drawn from the softmax of each row of logits."""

    def __init__(self, rng: np.random.Generator | None = None):
        self.rng = rng or np.random.default_rng()

    def __call__(self, scores: Array, env_steps: int = 0) -> Array:
        _require_rows(scores)
        return sample_categorical(scores, self.rng)[0]

    def fork(self, rng: np.random.Generator) -> CategoricalActionSelector:
        return CategoricalActionSelector(rng)


def random_argmax(scores: Array, rng: np.random.Generator) -> Array:
    """Index int64 [E] of the highest score of each row [E, A]; among equals each is as likely. Draws only for ties."""
    action = scores.argmax(axis=1)
    if len(scores) > FEW:
        return _among_equals(scores, action, rng)
    for row, values in enumerate(scores.tolist()):
        highest = values[action[row]]
        ties = values.count(highest)
        if ties > 1:
            equals = [index for index, value in enumerate(values) if value == highest]
            action[row] = equals[int(rng.random() * ties)]
    return action


def _among_equals(scores: Array, action: Array, rng: np.random.Generator) -> Array:
    """The loop of `random_argmax` for many rows: the same draws, the same indices."""
    highest = scores == scores[np.arange(len(scores)), action, None]
    ties = np.add.reduce(highest, 1)
    (rows,) = np.nonzero(ties > 1)
    chosen = (rng.random(len(rows)) * ties[rows]).astype(np.int64)
    action[rows] = (np.add.accumulate(highest[rows], 1, dtype=np.int64) > chosen[:, None]).argmax(axis=1)
    return action


def _require_rows(scores: Array) -> None:
    if scores.ndim != 2:
        raise ValueError(f"scores must have a row per environment, shape [E, A], got shape {scores.shape}")


def _probability(epsilon: float) -> float:
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is a probability, got {epsilon}")
    return epsilon
