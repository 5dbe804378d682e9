"""What the numbers of a critic mean, how it learns them, and how several critics become one target.

A critic gives K numbers for an observation and an action. Whatever they are, they describe returns at S values z, each
with a probability p, and that is what targets are made of:

    estimate       K             returns                          error of a target r + discount z
    Squared        1, the mean   it, for certain                  (Q - E[target])^2
    Huber          1             it                               Huber's (1964): squared up to 1, then linear
    HLGauss        N logits      the mean, for certain            cross-entropy from a normal around E[target]
    Categorical    N logits      N atoms, softmax of the logits   cross-entropy from the target on the atoms
    Quantile       M quantiles   they, all equally likely         quantile regression

    several as one
    lowest         those of the critic whose mean is the lowest   Fujimoto et al. 2018, arXiv:1802.09477
    lowest of some                                                Chen et al. 2021, "REDQ", arXiv:2101.05982
    pooled         those of all critics, equally likely
    truncated      pooled, without the highest                    Kuznetsov et al. 2020, "TQC", arXiv:2005.04269

Letters: C critics, B transitions (or more axes: B and the actions that are asked about), K numbers of a critic, S
values of a return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from rlrun.ops import categorical
from rlrun.ops.quantiles import midpoints, quantile_huber

if TYPE_CHECKING:
    from torch import Tensor


class Returns(NamedTuple):
    """Distributions of returns."""

    values: Tensor  # [..., S]
    p: Tensor | None = None  # [..., S] their probabilities; None if all are equally likely

    @property
    def mean(self) -> Tensor:
        """[...]."""
        if self.values.shape[-1] == 1:
            return self.values.squeeze(-1)
        return self.values.mean(-1) if self.p is None else (self.p * self.values).sum(-1)

    def target(self, reward: Tensor, discount: Tensor) -> Returns:
        """The distribution [B, S] of reward + discount * return, with each number [B]."""
        return Returns(reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.values, self.p)


def lowest(returns: Returns, some: Tensor | None = None) -> Returns:
    """Of critics [C, B, S] those [B, S] of the one with the lowest mean, for each row by itself.

    Args:
        some: the critics [M] that are asked; all if None.
    """
    if some is not None:
        values, p = returns
        returns = Returns(values.index_select(0, some), p if p is None else p.index_select(0, some))
    if returns.values.shape[-1] == 1:
        return Returns(returns.values.amin(0))
    values, p = returns
    which = returns.mean.argmin(0)[None, ..., None].expand(1, *values.shape[1:])  # [1, B, S]
    return Returns(values.gather(0, which)[0], p if p is None else p.gather(0, which)[0])


def pooled(returns: Returns) -> Returns:
    """Of critics [C, B, S] the mixture [B, C S] of all."""
    values, p = returns.values.movedim(0, -2).flatten(-2), returns.p
    return Returns(values, p if p is None else p.movedim(0, -2).flatten(-2) / len(p))


def truncated(returns: Returns, dropped: int) -> Returns:
    """Of critics [C, B, S] whose values are equally likely the mixture without its highest `dropped` values."""
    values = pooled(returns).values.sort(-1).values
    return Returns(values[..., : values.shape[-1] - dropped])


class Estimate(Protocol):
    """What a critic's K numbers are."""

    outputs: int  # K

    def returns(self, output: Tensor) -> Returns:
        """What an output [..., K] says."""
        ...

    def error(self, output: Tensor, target: Returns) -> Tensor:
        """How wrong outputs [C, B, K] are [C, B], by a target [B, S]."""
        ...


@dataclass(frozen=True)
class Squared:
    """The expected return."""

    outputs: int = 1

    def returns(self, output: Tensor) -> Returns:
        return Returns(output)

    def error(self, output: Tensor, target: Returns) -> Tensor:
        return (output.squeeze(-1) - target.mean).square()


@dataclass(frozen=True)
class Huber:
    """The expected return; an error counts as half its square up to 1, and beyond that as it is, less 1/2."""

    outputs: int = 1

    def returns(self, output: Tensor) -> Returns:
        return Returns(output)

    def error(self, output: Tensor, target: Returns) -> Tensor:
        value = output.squeeze(-1)
        return torch.nn.functional.huber_loss(value, target.mean.expand_as(value), reduction="none")


@dataclass(frozen=True)
class Categorical:
    """The distribution of returns on atoms at equal distances, from `low` to `high`."""

    outputs: int
    low: float
    high: float

    def returns(self, output: Tensor) -> Returns:
        p = output.softmax(-1)
        return Returns(categorical.support(self.low, self.high, self.outputs, like=output).expand_as(p), p)

    def error(self, output: Tensor, target: Returns) -> Tensor:
        p = torch.full_like(target.values, 1 / target.values.shape[-1]) if target.p is None else target.p
        return categorical.cross_entropy(
            output, categorical.project(p, target.values, self.low, self.high, self.outputs)
        )


@dataclass(frozen=True)
class HLGauss:
    """The expected return, learned as a distribution: a normal of `sigma` distances around it; two atoms with 0."""

    outputs: int
    low: float
    high: float
    sigma: float

    def returns(self, output: Tensor) -> Returns:
        atoms = categorical.support(self.low, self.high, self.outputs, like=output)
        return Returns((output.softmax(-1) @ atoms).unsqueeze(-1))

    def error(self, output: Tensor, target: Returns) -> Tensor:
        where = (target.mean, self.low, self.high, self.outputs)
        p = categorical.hl_gauss(*where, self.sigma) if self.sigma else categorical.two_hot(*where)
        return categorical.cross_entropy(output, p)


@dataclass(frozen=True)
class Quantile:
    """As many quantiles of the return, at evenly spread fractions; of an error up to `kappa` the square counts."""

    outputs: int
    kappa: float = 1.0

    def returns(self, output: Tensor) -> Returns:
        return Returns(output)

    def error(self, output: Tensor, target: Returns) -> Tensor:
        return quantile_huber(output, target.values, midpoints(self.outputs, like=output), self.kappa)
