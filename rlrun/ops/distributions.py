"""What the numbers of a policy mean: one distribution for every kind of action space.

    distribution(space)                    size, log_stds: the head that a network needs
    sample, mode, uniform, action          in NumPy, for acting
    log_prob, entropy, kl                  in torch, for losses

What is drawn is the action, but for a squashed Gaussian: there it is the number before it is squashed, `action` makes
an action of it, and a loss is given what was drawn, as the way back would lose digits near the bounds.

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

LOG_2, LOG_2PI = math.log(2), math.log(2 * math.pi)
LOG_STD = -20.0, 2.0  # bounds of a log standard deviation that is computed from the state
NODES = 16  # at which a quadrature looks: within 0.002 for standard deviations up to 2, 0.04 up to 4


class Distribution(Protocol):
    """Actions of one space, [., *shape] in its dtype, drawn independently given the head's output."""

    size: int  # numbers that the network computes from an observation
    log_stds: int  # learned numbers that do not depend on it; they stand behind the others
    squashes: bool  # what is drawn is not the action yet

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        """A draw per row of the head's output [E, size + log_stds], and the log-probabilities [E] of their actions."""
        ...

    def action(self, drawn: Array) -> Array:
        """The actions that were drawn."""
        ...

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        """The likeliest action of each row; squashed, that of the mean."""
        ...

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        """`count` actions, all of the space equally likely."""
        ...

    def log_prob(self, output: Tensor, drawn: Any, mask: Tensor | None = None) -> Tensor:
        """[B], of the action of one draw per row of the output; of a Dict a dict of tensors."""
        ...

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B]."""
        ...

    def kl(self, old: Tensor, new: Tensor, mask: Tensor | None = None) -> Tensor:
        """Kullback-Leibler divergences [B] from what one output says to what another does, KL(old || new)."""
        ...


class AsDrawn:
    """What is drawn is the action."""

    squashes = False

    def action(self, drawn: Array) -> Array:
        return drawn


class Categorical(AsDrawn):
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

    def kl(self, old: Tensor, new: Tensor, mask: Tensor | None = None) -> Tensor:
        before, after = allowed(old, mask).log_softmax(-1), allowed(new, mask).log_softmax(-1)
        return (before.exp() * (before - after)).sum(-1)


class MultiCategorical(AsDrawn):
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

    def kl(self, old: Tensor, new: Tensor, mask: Tensor | None = None) -> Tensor:
        old, new = allowed(old, mask), allowed(new, mask)
        each = zip(self.choices, self.slices, strict=True)
        return torch.stack([choice.kl(old[:, part], new[:, part]) for choice, part in each]).sum(0)

    def _joined(self, actions: Sequence[Array]) -> Array:
        return np.stack(actions, 1).reshape(-1, *self.shape)


class Bernoulli(AsDrawn):
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

    def kl(self, old: Tensor, new: Tensor, mask: Tensor | None = None) -> Tensor:
        return (
            old.sigmoid() * (old - new) + torch.nn.functional.softplus(new) - torch.nn.functional.softplus(old)
        ).sum(-1)

    def _shaped(self, ones: Array) -> Array:
        return ones.astype(np.int8).reshape(-1, *self.shape)


class Gaussian(AsDrawn):
    """N(mean, diag(exp(log_std))^2), float32 [., *shape], from both side by side in [., 2A]: means come first.

    Args:
        shape: of one action.
        low, high: bounds [*shape] of the space. They bound no sample, only `uniform`, which is a standard normal,
            clipped, in a dimension that has not both.
        log_std: free: learned, and the same in all states; state: computed from the state like the means, and kept
            within LOG_STD.
        log_std_init: is added to what is learned.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        low: Array | None = None,
        high: Array | None = None,
        *,
        log_std: str = "free",
        log_std_init: float = 0.0,
    ):
        self.shape, self.dims = shape, math.prod(shape)
        self.by_state, self.log_std_init = log_std == "state", log_std_init
        self.size, self.log_stds = (2 * self.dims, 0) if self.by_state else (self.dims, self.dims)
        self._bounds = low, high
        self._is_vector = len(shape) == 1

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        mean, log_std = output[:, : self.dims], self._log_std(output[:, self.dims :])
        drawn, log_prob = sample_gaussian(mean, log_std, rng)
        return self._shaped(drawn), log_prob

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        return self._shaped(output[:, : self.dims])

    def uniform(self, count: int, rng: np.random.Generator, mask: Array | None = None) -> Array:
        low, high = (np.asarray(bound, np.float32) for bound in self._bounds)
        bounded, shape = np.isfinite(low) & np.isfinite(high), (count, *self.shape)
        action = rng.uniform(np.where(bounded, low, 0), np.where(bounded, high, 1), shape)
        if not bounded.all():
            action = np.where(bounded, action, np.clip(rng.standard_normal(shape), low, high))
        return action.astype(np.float32)

    def log_prob(self, output: Tensor, drawn: Tensor, mask: Tensor | None = None) -> Tensor:
        mean, log_std = self.parameters(output)
        standardised = ((drawn if self._is_vector else drawn.reshape(mean.shape)) - mean) * (-log_std).exp()
        return (-0.5 * standardised.square() - log_std - 0.5 * LOG_2PI).sum(-1)

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        return (self._log_std(output[..., self.dims :]) + 0.5 * (1 + LOG_2PI)).sum(-1)

    def kl(self, old: Tensor, new: Tensor, mask: Tensor | None = None) -> Tensor:
        (mean, log_std), (new_mean, new_log_std) = self.parameters(old), self.parameters(new)
        squares = (2 * log_std).exp() + (mean - new_mean).square()
        return (new_log_std - log_std + 0.5 * squares * (-2 * new_log_std).exp() - 0.5).sum(-1)

    def parameters(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log standard deviations, both [B, A]."""
        mean, log_std = output.chunk(2, -1)
        return mean, self._log_std(log_std)

    def _log_std(self, learned: Any) -> Any:
        """Of an array or a tensor."""
        if self.log_std_init:
            learned = learned + self.log_std_init
        return learned.clip(*LOG_STD) if self.by_state else learned

    def _shaped(self, action: Array) -> Array:
        return action if self._is_vector else action.reshape(len(action), *self.shape)


class SquashedGaussian(Gaussian):
    """Actions a = (low + high) / 2 + (high - low) / 2 tanh(u) within their bounds, u ~ N(mean, diag(exp(log_std))^2).

    u is what is drawn. The density of an action takes the slope of the squashing into account, per dimension
    (Haarnoja et al. 2018, arXiv:1801.01290, appendix C):

        log p(a) = log N(u) - log(da / du),   da / du = (high - low) / 2 (1 - tanh(u)^2)

    Raises:
        ValueError: a dimension has not both bounds.
    """

    squashes = True
    log_half: float  # log of half the range, summed over the dimensions

    def __init__(self, shape: tuple[int, ...], low: Array, high: Array, **options: Any):
        super().__init__(shape, low, high, **options)
        self._low, self._high = low, high
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise ValueError("an action dimension has no bounds to squash a policy into")
        self._middle, self._half = low / 2 + high / 2, high / 2 - low / 2
        self._alike = len({*zip(self._middle.flat, self._half.flat, strict=True)}) == 1  # in all dimensions
        self.log_half = float(np.log(np.maximum(self._half, np.finfo(np.float32).tiny)).sum())

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        drawn, log_prob = super().sample(output, rng)
        flat = drawn.reshape(len(drawn), -1)
        slope = 2 * (LOG_2 - flat - np.logaddexp(0, -2 * flat))
        return drawn, log_prob - np.add.reduce(slope, 1) - np.float32(self.log_half)

    def action(self, drawn: Array) -> Array:
        return np.minimum(np.maximum(self._middle + self._half * np.tanh(drawn), self._low), self._high)

    def mode(self, output: Array, mask: Array | None = None) -> Array:
        return self.action(super().mode(output))

    def log_prob(self, output: Tensor, drawn: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().log_prob(output, drawn) - log_slope(drawn).reshape(len(drawn), -1).sum(-1) - self.log_half

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        """H(u) + E[log(da / du)], the mean by Gauss-Hermite quadrature: there is no closed form."""
        mean, log_std = self.parameters(output)
        std, slope = math.sqrt(2) * log_std.exp(), torch.zeros_like(mean)
        for node, weight in zip(*(x.tolist() for x in np.polynomial.hermite.hermgauss(NODES)), strict=True):
            slope = slope + weight / math.sqrt(math.pi) * log_slope(mean + std * node)
        return super().entropy(output) + slope.sum(-1) + self.log_half

    def rsample(self, output: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [B, *shape] of u = mean + std * noise [B, A], and their log-probabilities [B], with gradients."""
        mean, log_std = self.parameters(output)
        drawn = mean + log_std.exp() * noise
        log_prob = (-0.5 * noise.square() - log_std - log_slope(drawn)).sum(-1)
        action = self.squash(drawn if self._is_vector else drawn.reshape(-1, *self.shape))
        return action, log_prob - (0.5 * LOG_2PI * self.dims + self.log_half)

    def squash(self, drawn: Tensor) -> Tensor:
        """The actions of what was drawn, [B, *shape] or flat [B, A]."""
        return self.stretch(drawn.tanh())

    def stretch(self, unit: Tensor) -> Tensor:
        """Actions, [B, *shape] or flat [B, A], of numbers within -1 and 1 in the same form."""
        if self._alike:
            return unit * self._half.item(0) + self._middle.item(0)
        flat = unit.reshape(len(unit), -1)
        middle, half = (_line(bound, unit) for bound in (self._middle, self._half))
        return (middle + half * flat).reshape(unit.shape)


def _line(numbers: Array, like: Tensor) -> Tensor:
    """A tensor [A] of numbers, made of operations that a graph can hold, as it can hold no tensor."""
    return torch.cat([like.new_full((1,), number) for number in numbers.flat])


def log_slope(drawn: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), whatever the size of u."""
    return 2 * (LOG_2 - drawn - torch.nn.functional.softplus(-2 * drawn))


class Joint:
    """The parts of a Dict, independent of each other: records in NumPy, dicts of tensors in torch.

    The output holds what the parts compute, one after the other, and then all their log standard deviations.
    """

    def __init__(self, parts: Mapping[str, Distribution], dtype: np.dtype):
        self.parts, self.dtype = parts, dtype
        self.size = sum(part.size for part in parts.values())
        self.log_stds = sum(part.log_stds for part in parts.values())
        self.squashes = any(part.squashes for part in parts.values())
        computed = _side_by_side([part.size for part in parts.values()])
        learned = _side_by_side([part.log_stds for part in parts.values()], self.size)
        self.slices = dict(zip(parts, zip(computed, learned, strict=True), strict=True))

    def sample(self, output: Array, rng: np.random.Generator, mask: Array | None = None) -> tuple[Array, Array]:
        action, log_prob = np.zeros(len(output), self.dtype), np.zeros(len(output), output.dtype)
        for name, part in self.parts.items():
            action[name], own = part.sample(self._own(np.concatenate, name, output), rng)
            log_prob += own
        return action, log_prob

    def action(self, drawn: Array) -> Array:
        if not self.squashes:
            return drawn
        action = np.zeros(len(drawn), self.dtype)
        for name, part in self.parts.items():
            action[name] = part.action(drawn[name])
        return action

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

    def log_prob(self, output: Tensor, drawn: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        own = (part.log_prob(self._own(torch.cat, name, output), drawn[name]) for name, part in self.parts.items())
        return torch.stack(list(own)).sum(0)

    def entropy(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        own = (part.entropy(self._own(torch.cat, name, output)) for name, part in self.parts.items())
        return torch.stack(list(own)).sum(0)

    def kl(self, old: Tensor, new: Tensor, mask: Tensor | None = None) -> Tensor:
        own = (
            part.kl(self._own(torch.cat, name, old), self._own(torch.cat, name, new))
            for name, part in self.parts.items()
        )
        return torch.stack(list(own)).sum(0)

    def _own(self, join: Callable[..., Any], name: str, output: Any) -> Any:
        """The output of one part as it would have it alone."""
        computed, learned = self.slices[name]
        return join([output[:, computed], output[:, learned]], 1) if self.parts[name].log_stds else output[:, computed]


def distribution(space: Space, squash: bool = False, **gaussian: Any) -> Distribution:
    """The distribution of an action space.

    Args:
        squash: continuous actions are squashed Gaussian.
        gaussian: `log_std` and `log_std_init` of a Gaussian.
    """
    return KINDS[space.kind](space, squash=squash, **gaussian)


def _gaussian(space: Space, squash: bool = False, **options: Any) -> Distribution:
    kind = SquashedGaussian if squash else Gaussian
    return kind(space.shape, space.low, space.high, **options)  # type: ignore[arg-type]


KINDS: dict[str, Callable[..., Distribution]] = {
    "discrete": lambda space, **_: Categorical(space.n),
    "multi_discrete": lambda space, **_: MultiCategorical(space.nvec, space.shape),
    "multi_binary": lambda space, **_: Bernoulli(space.shape),
    "box": _gaussian,
    "dict": lambda space, **how: Joint({n: distribution(part, **how) for n, part in space.fields.items()}, space.dtype),
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
