"""What the numbers of a policy mean: one distribution for every kind of action space.

    distribution(space)            size, log_stds: the head that a network needs
    sample, mode, uniform          in NumPy, for acting
    log_prob, entropy              in torch, for losses

A distribution has no state; its methods take the head's output. The NumPy half calls ufunc methods, as rows are few and
the cost of a call is what counts. Letters: B samples, E environments, A actions or numbers of one action.

A mask is bool, True for actions that can be taken: [., A] of A discrete actions, [., sum(nvec)] of several choices. A
masked action has probability 0 and counts in no entropy (Huang & Ontañón 2020, arXiv:2006.14171). Other actions have no
masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from rlrun.ops.fields import allowed

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.types import Space

    Array = np.ndarray

LOG_2PI = math.log(2 * math.pi)


class Distribution(Protocol):
    """Actions of one space, [., *shape] in its dtype, drawn independently given the head's output."""

    size: int  # numbers that the network computes from an observation
    log_stds: int  # learned numbers that do not depend on it; they stand behind the others

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        """An action per row of the head's output [E, size + log_stds], and their log-probabilities [E]."""
        ...

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        """The likeliest action of each row."""
        ...

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        """`count` actions, all of the space equally likely."""
        ...

    def log_prob(self, output: Tensor, action: Any, mask: Tensor | None = None) -> Tensor:
        """[B], of one action per row of the output; of a Dict a dict of tensors."""
        ...

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B]."""
        ...


class Categorical:
    """One of n actions, int64 [.], with probabilities softmax(output [., n])."""

    log_stds = 0

    def __init__(self, n: int):
        self.size = n

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        return sample_categorical(_possible(output, mask), rng)

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        return _possible(output, mask).argmax(1)

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        return rng.integers(self.size, size=count) if mask is None else inverse_cdf(mask.astype(np.int64), rng)

    def log_prob(self, output: Tensor, action: Tensor, mask: Tensor | None = None) -> Tensor:
        return -torch.nn.functional.cross_entropy(allowed(output, mask), action, reduction="none")

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        log_p = allowed(output, mask).log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)


class MultiCategorical:
    """Several choices at once, int64 [., *shape]: element i is one of nvec[i]; logits and masks stand side by side."""

    log_stds = 0

    def __init__(self, nvec: Sequence[int], shape: tuple[int, ...] | None = None):
        self.size = sum(nvec)
        self.shape = (len(nvec),) if shape is None else shape
        self.choices = [Categorical(n) for n in nvec]
        self.slices = list(_side_by_side(nvec))

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        output = _possible(output, mask)
        actions, log_probs = zip(*(sample_categorical(output[:, part], rng) for part in self.slices), strict=True)
        return self._joined(actions), sum(log_probs)  # type: ignore[return-value]

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        output = _possible(output, mask)
        return self._joined([output[:, part].argmax(1) for part in self.slices])

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        each = zip(self.choices, self.slices, strict=True)
        return self._joined([c.uniform(count, rng, None if mask is None else mask[:, part]) for c, part in each])

    def log_prob(self, output: Tensor, action: Tensor, mask: Tensor | None = None) -> Tensor:
        output, taken = allowed(output, mask), action.reshape(len(action), -1).unbind(1)
        each = zip(self.choices, self.slices, taken, strict=True)
        return torch.stack([choice.log_prob(output[:, part], a) for choice, part, a in each]).sum(0)

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        output = allowed(output, mask)
        each = zip(self.choices, self.slices, strict=True)
        return torch.stack([choice.entropy(output[:, part]) for choice, part in each]).sum(0)

    def _joined(self, actions: Sequence[Array]) -> Array:
        return np.stack(actions, 1).reshape(-1, *self.shape)


class Bernoulli:
    """Independent bits, int8 [., *shape], each 1 with probability sigmoid(output)."""

    log_stds = 0

    def __init__(self, shape: tuple[int, ...]):
        self.size, self.shape = math.prod(shape), shape

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        ones = rng.random(output.shape) < np.exp(-np.logaddexp(0, -output))  # sigmoid(x) = exp(-log(1 + exp(-x)))
        return self._shaped(ones), -np.add.reduce(np.logaddexp(0, np.where(ones, -output, output)), 1)

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        return self._shaped(output > 0)

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        return rng.integers(2, size=(count, *self.shape), dtype=np.int8)

    def log_prob(self, output: Tensor, action: Tensor, mask: Tensor | None = None) -> Tensor:
        target = action.reshape(output.shape).to(output.dtype)
        return -torch.nn.functional.binary_cross_entropy_with_logits(output, target, reduction="none").sum(-1)

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        return (torch.nn.functional.softplus(output) - output * output.sigmoid()).sum(-1)

    def _shaped(self, ones: Array) -> Array:
        return ones.astype(np.int8).reshape(-1, *self.shape)


class Gaussian:
    """N(mean, diag(exp(log_std))^2), float32 [., *shape], from both side by side in [., 2A]: means come first.

    Args:
        shape: of one action.
        low, high: bounds [*shape] of the space. They bound no sample, only `uniform`, which is a standard normal,
            clipped, in a dimension that has not both.
    """

    def __init__(self, shape: tuple[int, ...], low: Array | None = None, high: Array | None = None):
        self.size = self.log_stds = math.prod(shape)
        self.shape = shape
        self._bounds = low, high
        self._is_vector = len(shape) == 1

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        action, log_prob = sample_gaussian(output[:, : self.size], output[:, self.size :], rng)
        return self._shaped(action), log_prob

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        return self._shaped(output[:, : self.size])

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        low, high = (np.asarray(bound, np.float32) for bound in self._bounds)
        bounded, shape = np.isfinite(low) & np.isfinite(high), (count, *self.shape)
        action = rng.uniform(np.where(bounded, low, 0), np.where(bounded, high, 1), shape)
        if not bounded.all():
            action = np.where(bounded, action, np.clip(rng.standard_normal(shape), low, high))
        return action.astype(np.float32)

    def log_prob(self, output: Tensor, action: Tensor, mask: Tensor | None = None) -> Tensor:
        mean, log_std = output.chunk(2, -1)
        standardised = ((action if self._is_vector else action.reshape(mean.shape)) - mean) * (-log_std).exp()
        return (-0.5 * standardised.square() - log_std - 0.5 * LOG_2PI).sum(-1)

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        return (output[..., self.size :] + 0.5 * (1 + LOG_2PI)).sum(-1)

    def _shaped(self, action: Array) -> Array:
        return action if self._is_vector else action.reshape(len(action), *self.shape)


class Joint:
    """The parts of a Dict, independent of each other: records in NumPy, dicts of tensors in torch.

    The output holds what the parts compute, one after the other, and then all their log standard deviations.
    """

    def __init__(self, parts: Mapping[str, Distribution], dtype: np.dtype):
        self.parts, self.dtype = parts, dtype
        self.size = sum(part.size for part in parts.values())
        self.log_stds = sum(part.log_stds for part in parts.values())
        computed = _side_by_side([part.size for part in parts.values()])
        learned = _side_by_side([part.log_stds for part in parts.values()], self.size)
        self.slices = dict(zip(parts, zip(computed, learned, strict=True), strict=True))

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        action, log_prob = np.zeros(len(output), self.dtype), np.zeros(len(output), output.dtype)
        for name, part in self.parts.items():
            action[name], own = part.sample(self._own(np.concatenate, name, output), rng)
            log_prob += own
        return action, log_prob

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        action = np.zeros(len(output), self.dtype)
        for name, part in self.parts.items():
            action[name] = part.mode(self._own(np.concatenate, name, output))
        return action

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        action = np.zeros(count, self.dtype)
        for name, part in self.parts.items():
            action[name] = part.uniform(count, rng)
        return action

    def log_prob(self, output: Tensor, action: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        own = (part.log_prob(self._own(torch.cat, name, output), action[name]) for name, part in self.parts.items())
        return torch.stack(list(own)).sum(0)

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        own = (part.entropy(self._own(torch.cat, name, output)) for name, part in self.parts.items())
        return torch.stack(list(own)).sum(0)

    def _own(self, join: Callable[..., Any], name: str, output: Any) -> Any:
        """The output of one part as it would have it alone."""
        computed, learned = self.slices[name]
        return join([output[:, computed], output[:, learned]], 1) if self.parts[name].log_stds else output[:, computed]


def distribution(space: Space) -> Distribution:
    """The distribution of an action space."""
    return KINDS[space.kind](space)


KINDS: dict[str, Callable[[Any], Distribution]] = {
    "discrete": lambda space: Categorical(space.n),
    "multi_discrete": lambda space: MultiCategorical(space.nvec, space.shape),
    "multi_binary": lambda space: Bernoulli(space.shape),
    "box": lambda space: Gaussian(space.shape, space.low, space.high),
    "dict": lambda space: Joint({name: distribution(part) for name, part in space.fields.items()}, space.dtype),
}


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


def _possible(scores: Array, mask: Array | None) -> Array:
    """Scores [E, A] with minus infinity for masked actions."""
    return scores if mask is None else np.where(mask, scores, -np.inf)


def _side_by_side(widths: Sequence[int], begin: int = 0) -> Iterator[slice]:
    """Where columns of these widths stand next to each other."""
    return (slice(a, b) for a, b in pairwise(accumulate(widths, initial=begin)))
