"""How a step follows from a gradient: Adam, AdamW, RAdam, RMSProp and SGD, and the options that choose among them.

Letters: g gradient, r learning rate, t steps made, this one included; all else is an option of the rule.

    Adam     m <- b1 m + (1 - b1) g     v <- b2 v + (1 - b2) g^2        Kingma & Ba 2015, arXiv:1412.6980, algorithm 1
             w <- w - r m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    AdamW    the same after w <- w - r decay w                          Loshchilov & Hutter 2019, arXiv:1711.05101
    RAdam    m, v as Adam    n = 2 / (1 - b2) - 1    p = n - 2 t b2^t / (1 - b2^t)
             w <- w - r m / (1 - b1^t)                   while p <= 5   Liu et al. 2020, arXiv:1908.03265, algorithm 2
             w <- w - r m / (1 - b1^t) c / (sqrt(v) + eps)    after that,
             c^2 = (1 - b2^t) (p - 4) (p - 2) n / ((n - 4) (n - 2) p)
    RMSProp  v <- alpha v + (1 - alpha) g^2                             Tieleman & Hinton 2012, lecture 6.5
             u <- momentum u + g / (sqrt(v) + eps),  w <- w - r u
             centered: v - m^2 in place of v, m <- alpha m + (1 - alpha) g     Graves 2013, arXiv:1308.0850, eq. 38-41
    SGD      u <- momentum u + g,  w <- w - r u

A rule is a value. Its `step` is a pure function of parameters, gradients and slots (the tensors kept beside each
parameter: m, v, u), for graphs; its `update` makes the same step in place, on fused kernels where there are any. Both
agree with torch.optim, whose words the options are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

import torch

from rlrun.checks import Bounded, NotNegative, OneOf, Positive, Share, Within, only_with
from rlrun.types import Tensor

BETA2 = 0.999


@dataclass
class OptimizerConfig(Bounded):
    """Options of every algorithm that descends a gradient: the step, and the rule that makes it."""

    learning_rate: Positive = 1e-3  # step size
    optimizer: Annotated[str, OneOf("adam", "adamw", "radam", "rmsprop", "sgd")] = "adam"  # how a step follows
    adam_beta1: Annotated[float, Within(0, 0.9999)] = 0.9  # adam, adamw, radam: share of the old mean that a step keeps
    adam_eps: Positive = 1e-8  # adam, adamw, radam: added to the root of the second moment
    weight_decay: NotNegative = 0.0  # adamw: times the learning rate, the share of each weight that a step takes off
    rmsprop_alpha: Share = 0.99  # rmsprop: share of the old mean square that a step keeps
    rmsprop_eps: Positive = 1e-8  # rmsprop: added to the root of the mean square
    rmsprop_centered: bool = False  # rmsprop: divide by the gradient's standard deviation, not its root mean square
    momentum: Share = 0.0  # rmsprop, sgd: share of the last step that is made again
    max_grad_norm: Positive | None = None  # gradients are scaled down to this global norm; null leaves them

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in sorted({key for keys in OPTIONS.values() for key in keys}):
            only_with(self, key, "optimizer", *(name for name, keys in OPTIONS.items() if key in keys))


@dataclass
class GradientConfig(OptimizerConfig):
    """The same with a learning rate that may fall in the course of the run."""

    # constant | linear (falls to 0 at total_timesteps)
    learning_rate_schedule: Annotated[str, OneOf("constant", "linear")] = "constant"


# What each rule reads of the config.
OPTIONS = {
    "adam": ("adam_beta1", "adam_eps"),
    "adamw": ("adam_beta1", "adam_eps", "weight_decay"),
    "radam": ("adam_beta1", "adam_eps"),
    "rmsprop": ("rmsprop_alpha", "rmsprop_eps", "rmsprop_centered", "momentum"),
    "sgd": ("momentum",),
}
Slots = Mapping[str, Sequence[Tensor]]  # name -> one tensor per parameter, in its shape


class Rule(Protocol):
    """From gradients to steps."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the tensors that are kept beside each parameter; they are zero to begin with."""
        ...

    def numbers(self, count: Tensor, rate: float) -> list[Tensor]:
        """All that the steps with these `count` [k], which are t, owe to t and the learning rate: each [k].

        A graph is given them: inside, a compiler would work them out again for every few elements of every parameter.
        """
        ...

    def step(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], slots: Slots, numbers: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Parameters and slots after a step with its numbers, each []."""
        ...

    def update(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        slots: Mapping[str, list[Tensor]],
        count: Tensor,
        rate: float,
        divisor: Tensor | None,
    ) -> None:
        """The same in place.

        Args:
            grads: each laid out in memory like its parameter, and lost afterwards.
            divisor: by which they are divided first; None leaves them.
        """
        ...


@dataclass(frozen=True)
class Adam:
    """Adam, and with `decay` AdamW."""

    eps: float = 1e-8
    decay: float = 0.0
    beta1: float = 0.9
    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    def numbers(self, count: Tensor, rate: float) -> list[Tensor]:
        size, root = rate / (1 - self.beta1**count), (1 - BETA2**count).rsqrt()
        return [size, root, torch.full_like(count, 1 - rate * self.decay)]

    def step(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], slots: Slots, numbers: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        size, root, kept = numbers
        mean, square = _moments(grads, slots, self.beta1)
        params = [p * kept for p in params] if self.decay else params
        moved = [p - size * m / (v.sqrt() * root + self.eps) for p, m, v in zip(params, mean, square, strict=True)]
        return moved, {"mean": mean, "square": square}

    def update(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        slots: Mapping[str, list[Tensor]],
        count: Tensor,
        rate: float,
        divisor: Tensor | None,
    ) -> None:
        kernel = torch._fused_adamw_ if self.decay else torch._fused_adam_
        kernel(
            params,
            grads,
            slots["mean"],
            slots["square"],
            [],
            [count] * len(params),
            lr=rate,
            beta1=self.beta1,
            beta2=BETA2,
            weight_decay=self.decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            grad_scale=divisor,  # the kernel divides by it
        )


@dataclass(frozen=True)
class RAdam:
    """Adam whose first steps leave out the division, while the second moment is of too few gradients to divide by."""

    eps: float = 1e-8
    beta1: float = 0.9
    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    def numbers(self, count: Tensor, rate: float) -> list[Tensor]:
        """Of the factor a + b / (sqrt(v) + eps) of m, a and b, one of which is 0."""
        t, limit = count.double(), 2 / (1 - BETA2) - 1  # in single precision p is off by a tenth when it comes to 5
        left = 1 - BETA2**t
        length = limit - 2 * t * BETA2**t / left
        size, divides = rate / (1 - self.beta1**t), length > 5
        shorter = length.clamp(min=5)
        share = (shorter - 4) * (shorter - 2) * limit / ((limit - 4) * (limit - 2) * shorter)
        return [(size * ~divides).to(count.dtype), (size * divides * (share * left).sqrt()).to(count.dtype)]

    def step(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], slots: Slots, numbers: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        plain, divided = numbers
        mean, square = _moments(grads, slots, self.beta1)
        factor = [plain + divided / (v.sqrt() + self.eps) for v in square]
        return [p - f * m for p, f, m in zip(params, factor, mean, strict=True)], {"mean": mean, "square": square}

    def update(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        slots: Mapping[str, list[Tensor]],
        count: Tensor,
        rate: float,
        divisor: Tensor | None,
    ) -> None:
        plain, divided = self.numbers(count, rate)
        _divide(grads, divisor)
        torch._foreach_lerp_(slots["mean"], grads, 1 - self.beta1)
        torch._foreach_mul_(slots["square"], BETA2)
        torch._foreach_addcmul_(slots["square"], grads, grads, 1 - BETA2)
        factor = torch._foreach_sqrt(slots["square"])
        torch._foreach_add_(factor, self.eps)
        torch._foreach_reciprocal_(factor)
        torch._foreach_mul_(factor, divided)
        torch._foreach_add_(factor, plain)
        torch._foreach_mul_(factor, slots["mean"])
        torch._foreach_sub_(params, factor)


@dataclass(frozen=True)
class RMSProp:
    """RMSProp as torch has it: eps stands outside of the root."""

    alpha: float = 0.99
    eps: float = 1e-8
    centered: bool = False
    momentum: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("square", *["mean"] * self.centered, *["velocity"] * bool(self.momentum))

    def numbers(self, count: Tensor, rate: float) -> list[Tensor]:
        return [torch.full_like(count, rate)]

    def step(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], slots: Slots, numbers: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        (rate,) = numbers
        share = 1 - self.alpha
        variance = [(v * self.alpha).addcmul(g, g, value=share) for v, g in zip(slots["square"], grads, strict=True)]
        new = {"square": variance}
        if self.centered:
            new["mean"] = [m.lerp(g, share) for m, g in zip(slots["mean"], grads, strict=True)]
            variance = [v - m.square() for v, m in zip(variance, new["mean"], strict=True)]
        steps = [g / (v.sqrt() + self.eps) for g, v in zip(grads, variance, strict=True)]
        if self.momentum:
            steps = new["velocity"] = _carried_on(slots["velocity"], steps, self.momentum)
        return [p - rate * u for p, u in zip(params, steps, strict=True)], new

    def update(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        slots: Mapping[str, list[Tensor]],
        count: Tensor,
        rate: float,
        divisor: Tensor | None,
    ) -> None:
        _divide(grads, divisor)
        torch._foreach_mul_(slots["square"], self.alpha)
        torch._foreach_addcmul_(slots["square"], grads, grads, 1 - self.alpha)
        variance: Any = slots["square"]
        if self.centered:
            torch._foreach_lerp_(slots["mean"], grads, 1 - self.alpha)
            variance = torch._foreach_addcmul(variance, slots["mean"], slots["mean"], -1)
        root = torch._foreach_sqrt(variance)
        torch._foreach_add_(root, self.eps)
        torch._foreach_div_(grads, root)
        _descend(params, grads, slots.get("velocity"), self.momentum, rate)


@dataclass(frozen=True)
class SGD:
    """Plain descent, with momentum if wanted."""

    momentum: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def numbers(self, count: Tensor, rate: float) -> list[Tensor]:
        return [torch.full_like(count, rate)]

    def step(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], slots: Slots, numbers: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        (rate,) = numbers
        steps, new = list(grads), {}
        if self.momentum:
            steps = new["velocity"] = _carried_on(slots["velocity"], steps, self.momentum)
        return [p - rate * u for p, u in zip(params, steps, strict=True)], new

    def update(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        slots: Mapping[str, list[Tensor]],
        count: Tensor,
        rate: float,
        divisor: Tensor | None,
    ) -> None:
        _divide(grads, divisor)
        _descend(params, grads, slots.get("velocity"), self.momentum, rate)


def _moments(grads: Sequence[Tensor], slots: Slots, beta1: float) -> tuple[list[Tensor], list[Tensor]]:
    """m and v of Adam."""
    mean = [m.lerp(g, 1 - beta1) for m, g in zip(slots["mean"], grads, strict=True)]
    square = [(v * BETA2).addcmul(g, g, value=1 - BETA2) for v, g in zip(slots["square"], grads, strict=True)]
    return mean, square


def _carried_on(velocity: Sequence[Tensor], steps: Sequence[Tensor], momentum: float) -> list[Tensor]:
    return [u * momentum + step for u, step in zip(velocity, steps, strict=True)]


def _divide(grads: list[Tensor], divisor: Tensor | None) -> None:
    if divisor is not None:
        torch._foreach_div_(grads, divisor)


def _descend(
    params: list[Tensor], steps: list[Tensor], velocity: list[Tensor] | None, momentum: float, rate: float
) -> None:
    if velocity is not None:
        torch._foreach_mul_(velocity, momentum)
        torch._foreach_add_(velocity, steps)
        steps = velocity
    torch._foreach_add_(params, steps, alpha=-rate)


RULES: dict[str, Callable[[OptimizerConfig], Rule]] = {
    "adam": lambda cfg: Adam(cfg.adam_eps, beta1=cfg.adam_beta1),
    "adamw": lambda cfg: Adam(cfg.adam_eps, cfg.weight_decay, cfg.adam_beta1),
    "radam": lambda cfg: RAdam(cfg.adam_eps, beta1=cfg.adam_beta1),
    "rmsprop": lambda cfg: RMSProp(cfg.rmsprop_alpha, cfg.rmsprop_eps, cfg.rmsprop_centered, cfg.momentum),
    "sgd": lambda cfg: SGD(cfg.momentum),
}


def rule(cfg: OptimizerConfig) -> Rule:
    """The rule that a config asks for."""
    return RULES[cfg.optimizer](cfg)


def clip_divisor(grads: Sequence[Tensor], max_grad_norm: float) -> Tensor:
    """What gradients are divided by for their joint norm to be at most `max_grad_norm`; at least 1."""
    return (_norm(grads) / max_grad_norm).clamp(min=1.0)


def clip_share(grads: Sequence[Tensor], max_grad_norm: float) -> Tensor:
    """One over that, for graphs: a compiler keeps an exponential, but takes a root again for every few weights."""
    return (-(_norm(grads) / max_grad_norm).log().clamp(min=0.0)).exp()


def _norm(grads: Sequence[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in grads]))
