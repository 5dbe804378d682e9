"""The two action distributions: in torch for losses (log-probability, entropy), in numpy for acting (draws).

Letters: B samples, E environments, A actions or action dimensions.
The numpy half calls ufunc methods, as rows are few and the cost of a call is what counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    Array = np.ndarray

LOG_2PI = math.log(2 * math.pi)


class Categorical:
    """softmax(logits [B, A])."""

    def __init__(self, logits: Tensor):
        self.logits = logits

    def log_prob(self, action: Tensor) -> Tensor:
        """[B], of actions int64 [B]."""
        return -torch.nn.functional.cross_entropy(self.logits, action, reduction="none")

    def entropy(self) -> Tensor:
        """[B]."""
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)


class Gaussian:
    """N(mean, diag(exp(log_std))^2), from both side by side in [B, 2A]: the means, then the log standard deviations."""

    def __init__(self, parameters: Tensor):
        self.mean, self.log_std = parameters.chunk(2, -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """[B], of actions [B, A], summed over A."""
        standardised = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * standardised.square() - self.log_std - 0.5 * LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """[B], summed over A."""
        return (self.log_std + 0.5 * (1 + LOG_2PI)).sum(-1)


def sample_categorical(logits: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Actions int64 [E] from softmax(logits [E, A]), and their log-probabilities [E]."""
    shifted = logits - np.maximum.reduce(logits, 1, keepdims=True)
    cumulated = np.add.accumulate(np.exp(shifted), 1)
    action = _first_above(cumulated, rng)
    return action, shifted[np.arange(len(action)), action] - np.log(cumulated[:, -1])


def sample_gaussian(mean: Array, log_std: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Actions [E, A] from N(mean [E, A], diag(exp(log_std))^2), and their log-probabilities [E], summed over A.

    `log_std` is [E, A], or [A] where the rows share it.
    """
    noise = rng.standard_normal(mean.shape, dtype=mean.dtype)
    log_prob = -0.5 * noise * noise - log_std - 0.5 * LOG_2PI
    return mean + np.exp(log_std) * noise, np.add.reduce(log_prob, 1)


def inverse_cdf(weights: Array, rng: np.random.Generator) -> Array:
    """One index int64 [E] per row of weights [E, A], with probability proportional to its weight.

    Args:
        weights: at least 0; rows may have any positive sum. A weight of 0 is never drawn.
    """
    return _first_above(np.add.accumulate(weights, 1), rng)


def _first_above(cumulated: Array, rng: np.random.Generator) -> Array:
    """First index of each row of a cumulated sum [E, A] that lies above u * total, u uniform in [0, 1).

    The product is float64, so it stays below the total even in float32 rows that do not quite sum to one: no draw goes
    beyond the last index with any weight.
    """
    return (cumulated > rng.random((len(cumulated), 1)) * cumulated[:, -1:]).argmax(1)


def softmax(scores: Array) -> Array:
    """exp(scores) / sum [E, A], the highest score taken off first: nothing overflows."""
    weights = np.exp(scores - np.maximum.reduce(scores, 1, keepdims=True))
    return weights / np.add.reduce(weights, 1, keepdims=True)
