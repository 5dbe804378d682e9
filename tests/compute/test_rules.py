"""The rules against torch's optimisers: in place as the eager way uses them, pure as graphs do; and their options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from rlrun.compute.rules import SGD, Adam, GradientConfig, OptimizerConfig, RAdam, RMSProp, Rule, rule
from rlrun.errors import ConfigError

RATE = 0.01
PAIRS: dict[str, tuple[Rule, Callable[[Iterable[Tensor]], torch.optim.Optimizer]]] = {
    "adam": (Adam(eps=1e-5), lambda p: torch.optim.Adam(p, RATE, eps=1e-5)),
    "adamw": (Adam(eps=1e-6, decay=0.1), lambda p: torch.optim.AdamW(p, RATE, eps=1e-6, weight_decay=0.1)),
    "adam beta1": (Adam(beta1=0.5), lambda p: torch.optim.Adam(p, RATE, betas=(0.5, 0.999))),
    "radam": (RAdam(eps=1e-3), lambda p: torch.optim.RAdam(p, RATE, eps=1e-3)),  # divides from the sixth step on
    "rmsprop": (RMSProp(0.95, 1e-3), lambda p: torch.optim.RMSprop(p, RATE, alpha=0.95, eps=1e-3)),
    "nature": (
        RMSProp(0.95, 0.01, centered=True, momentum=0.95),
        lambda p: torch.optim.RMSprop(p, RATE, alpha=0.95, eps=0.01, centered=True, momentum=0.95),
    ),
    "sgd": (SGD(), lambda p: torch.optim.SGD(p, RATE)),
    "momentum": (SGD(0.9), lambda p: torch.optim.SGD(p, RATE, momentum=0.9)),
}


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator), torch.ones(())]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(p.shape, generator=generator) for p in parameters()]


def zeros(own: Rule) -> dict[str, list[Tensor]]:
    return {key: [torch.zeros_like(p) for p in parameters()] for key in own.slots}


def by_torch(make: Callable[[Iterable[Tensor]], torch.optim.Optimizer], divisor: float, steps: int) -> list[Tensor]:
    params = [p.requires_grad_() for p in parameters()]
    optimiser = make(params)
    for step in range(steps):
        for p, g in zip(params, gradients(step), strict=True):
            p.grad = g / divisor
        optimiser.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("divisor", [None, 2.5])
def test_in_place(name: str, divisor: float | None) -> None:
    own, theirs = PAIRS[name]
    params, slots, count = parameters(), zeros(own), torch.zeros(())
    for step in range(7):
        count += 1
        own.update(params, gradients(step), slots, count, RATE, None if divisor is None else torch.tensor(divisor))
    torch.testing.assert_close(params, by_torch(theirs, divisor or 1.0, 7), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_pure(name: str) -> None:
    own, theirs = PAIRS[name]
    params, slots = parameters(), zeros(own)
    for step in range(7):
        before, held = [p.clone() for p in params], {key: [x.clone() for x in slot] for key, slot in slots.items()}
        numbers = [x[0] for x in own.numbers(torch.tensor([step + 1.0]), RATE)]
        new, moved = own.step(params, gradients(step), slots, numbers)
        torch.testing.assert_close((params, slots), (before, held), rtol=0, atol=0)
        params, slots = new, moved
    assert set(slots) == {*own.slots}
    torch.testing.assert_close(params, by_torch(theirs, 1.0, 7), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Adam(1e-8)),
        ({"adam_eps": 1e-5}, Adam(1e-5)),
        ({"adam_beta1": 0.5}, Adam(beta1=0.5)),
        ({"optimizer": "adamw", "weight_decay": 0.1}, Adam(1e-8, 0.1)),
        ({"optimizer": "radam", "adam_eps": 1e-5, "adam_beta1": 0.8}, RAdam(1e-5, 0.8)),
        (
            {"optimizer": "rmsprop", "rmsprop_alpha": 0.95, "rmsprop_eps": 0.01, "rmsprop_centered": True},
            RMSProp(0.95, 0.01, True),
        ),
        ({"optimizer": "rmsprop", "momentum": 0.95}, RMSProp(momentum=0.95)),
        ({"optimizer": "sgd", "momentum": 0.9}, SGD(0.9)),
    ],
)
def test_a_config_chooses(options: dict[str, Any], expected: Rule) -> None:
    assert rule(GradientConfig(**options)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adan"}, "did you mean 'adam'"),
        ({"weight_decay": 0.1}, "weight_decay.*has no meaning with optimizer=adam.*optimizer=adamw"),
        ({"optimizer": "sgd", "adam_eps": 1e-5}, "adam_eps.*optimizer=adam or optimizer=adamw"),
        ({"momentum": 0.9}, "momentum.*optimizer=rmsprop or optimizer=sgd"),
        ({"optimizer": "sgd", "momentum": 1.5}, "momentum"),
        ({"adam_beta1": 1}, "adam_beta1"),
        ({"optimizer": "rmsprop", "rmsprop_eps": 0}, "rmsprop_eps"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        OptimizerConfig(**options)
