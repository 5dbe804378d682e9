"""From a loss to an update: gradient, clipping, a rule's step, followers. An update is a rule times a way.

The rules are in rules.py. The ways have one result up to rounding, and one state format: `Update` runs eagerly on fused
kernels, without hooks, `.grad` fields or synchronisation; `GraphUpdate` in graph.py makes one compiled call of it, or
of several updates whose batches are known beforehand.

A batch is a named tuple or a dict of tensors [B, ...]; a stack of n batches has one more axis in front, [n, B, ...].
Either may hold dicts of tensors in place of a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from rlrun.compute.rules import Rule, clip_divisor
from rlrun.errors import RlrunError
from rlrun.ops.fields import unbound
from rlrun.state import Stateful, put_back
from rlrun.types import StateDict, Tensor

if TYPE_CHECKING:
    from torch import nn

Aux = dict[str, Any]  # name -> detached tensor
LossFn = Callable[..., tuple[Tensor, Aux]]


class Piece(NamedTuple):
    """Some updates of a burst: those with the stack's rows `rows`, and what they said.

    One row by its index, with the aux of one update; or a slice of k rows, and each value has one axis [k] more.
    """

    rows: int | slice
    aux: Aux

    @property
    def last(self) -> int:
        """Index of the last row."""
        return self.rows.stop - 1 if isinstance(self.rows, slice) else self.rows

    @property
    def updates(self) -> int:
        """How many they are: k, or 1."""
        return self.rows.stop - self.rows.start if isinstance(self.rows, slice) else 1


class Follower(Protocol):
    """A network that follows one that is trained (see networks/target.py)."""

    tau: float

    def follow(self) -> None:
        """Called after every update."""
        ...

    def pairs(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Its tensors, each with the one that it follows."""
        ...


class Turn(NamedTuple):
    """An update that takes its turn (see `Turns`)."""

    update: Update
    every: int = 1  # batches between two of its steps
    rate: float = 1.0  # its learning rate, as a multiple of the one that is given


class Turns(Stateful):
    """Updates of several losses, one after the other on every batch; some on every so many batches only.

    In aux the `loss` of each is called after it, such as `critic_loss`; of other names each has its own. What has no
    turn on a batch says nothing of it.

    Args:
        turns: by name, in their order.
    """

    state = ("batches", "updates")

    def __init__(self, **turns: Turn):
        self.turns, self.updates = turns, {name: turn.update for name, turn in turns.items()}
        self.batches = 0  # taken in so far

    def burst(self, stack: Any, *shared: float, learning_rate: float) -> Iterator[Piece]:
        """All updates whose turn it is, for each of the stacked batches in order; made as they are asked for."""
        for i, batch in enumerate(unbound(stack)):
            self.batches += 1
            aux: Aux = {}
            for name, (update, every, rate) in self.turns.items():
                if self.batches % every == 0:
                    said = update(batch, *shared, learning_rate=rate * learning_rate)
                    aux |= {f"{name}_loss": said.pop("loss")} | said
            yield Piece(i, aux)

    def forget(self) -> None:
        """No update has made a step; whose turn it is stays."""
        for update in self.updates.values():
            update.forget()


class Update:
    """`update(batch, *shared, learning_rate=...) -> aux`: one step down the loss's gradient, in place.

    Args:
        loss: `loss(nets, batch, *shared) -> (scalar, aux)`; aux is a dict of tensors and comes back detached. It reads
            networks through `nets` alone, draws no random numbers and looks at no tensor's value; `shared` are numbers.
        nets: everything with weights that the loss may look at (see networks/nets.py).
        trains: the names in `nets` whose parameters move: of networks, of parts of them, or of single parameters.
        rule: how they do.
        max_grad_norm: gradients are scaled so that their global norm is at most this; None for no clipping.
        followers: networks in `nets` that take in a share of the new weights after every update.

    A module that has a `unit_dim` wants its `weight` to have length 1 along this axis: it is brought back to it after
    every step.

    Raises:
        ValueError: nothing in `nets` goes by one of the names.
    """

    def __init__(
        self,
        loss: LossFn,
        nets: nn.Module,
        trains: str | Sequence[str],
        rule: Rule,
        *,
        max_grad_norm: float | None = None,
        followers: Sequence[Follower] = (),
    ):
        self.loss, self.nets, self.rule = loss, nets, rule
        self.max_grad_norm, self.followers = max_grad_norm, followers
        trained: dict[str, Tensor] = {}
        for part in [trains] if isinstance(trains, str) else trains:
            found = {
                name: p for name, p in nets.named_parameters() if p.requires_grad and f"{name}.".startswith(f"{part}.")
            }
            if not found:
                raise ValueError(f"there are no parameters to train in {part!r}")
            trained |= found
        self.names, self.params = list(trained), list(trained.values())
        self.others = [p for name, p in nets.named_parameters() if p.requires_grad and name not in trained]
        axes = {f"{name}.weight": m.unit_dim for name, m in nets.named_modules() if hasattr(m, "unit_dim")}
        self.unit = [(place, axes[name]) for place, name in enumerate(self.names) if name in axes]
        self.slots = {key: [torch.zeros_like(p, requires_grad=False) for p in self.params] for key in rule.slots}
        self.step = torch.zeros((), device=self.params[0].device)

    def __call__(self, batch: Any, *shared: float, learning_rate: float) -> Aux:
        grads, aux = self.gradients(batch, *shared)
        self.apply(grads, learning_rate)
        return aux

    def burst(self, stack: Any, *shared: float, learning_rate: float) -> Iterator[Piece]:
        """One update for each of the stacked batches, in order; made piece by piece as they are asked for."""
        return self.eager(stack, *shared, learning_rate=learning_rate)

    def eager(self, stack: Any, *shared: float, learning_rate: float) -> Iterator[Piece]:
        """The same without a graph, for stacks of a shape that comes up once."""
        for i, batch in enumerate(unbound(stack)):
            grads, aux = self.gradients(batch, *shared)
            self.apply(grads, learning_rate)
            yield Piece(i, aux)

    def gradients(self, batch: Any, *shared: float) -> tuple[list[Tensor], Aux]:
        """The loss's gradients by parameter, as they are: clipping is part of `apply`.

        Raises:
            RlrunError: there are none.
        """
        for other in self.others:  # what does not move is a constant of the loss: less is kept for the way back
            other.requires_grad_(False)
        try:
            loss, aux = self.loss(self.nets, batch, *shared)
        finally:
            for other in self.others:
                other.requires_grad_(True)
        if not loss.requires_grad:
            part = self.names[0].partition(".")[0]
            raise RlrunError(f"the loss has no gradient by {part}\ndoes its forward detach, or go without gradients?")
        grads = list(torch.autograd.grad(loss, self.params, materialize_grads=True))
        return grads, {"loss": loss.detach()} | {key: value.detach() for key, value in aux.items()}

    def apply(self, grads: list[Tensor], learning_rate: float) -> None:
        """Make the step that follows from gradients, wherever they came from; they are lost afterwards."""
        with torch.no_grad():
            grads = _apart(grads, self.params)
            divisor = None if self.max_grad_norm is None else clip_divisor(grads, self.max_grad_norm)
            self.step += 1
            self.rule.update(self.params, grads, self.slots, self.step, learning_rate, divisor)
            if self.unit:
                weights = [self.params[place] for place, _ in self.unit]
                torch._foreach_div_(weights, [length(self.params[place], axis) for place, axis in self.unit])
        for follower in self.followers:
            follower.follow()

    def forget(self) -> None:
        """No step has been made."""
        for tensor in [self.step, *(tensor for tensors in self.slots.values() for tensor in tensors)]:
            tensor.zero_()

    def state_dict(self) -> StateDict:
        return {key: list(tensors) for key, tensors in self.slots.items()} | {"step": self.step}

    def load_state_dict(self, state: StateDict) -> None:
        put_back({**self.slots, "step": self.step}, state)


def _apart(grads: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
    """Gradients laid out like the parameters, as the fused kernels take them to be: else steps are silently wrong.

    Each is in memory of its own, since it is changed in place: parameters that are added up are given the same one.
    """
    found, places = [_alike(g, p) for g, p in zip(grads, params, strict=True)], set()
    for number, grad in enumerate(found):
        if (place := grad.data_ptr()) in places:
            found[number] = grad.clone()
        places.add(place)
    return found


def _alike(tensor: Tensor, other: Tensor) -> Tensor:
    """A tensor laid out in memory like another of its shape."""
    if other.is_contiguous():
        return tensor.contiguous()
    return tensor if tensor.stride() == other.stride() else torch.empty_like(other).copy_(tensor)


def length(weight: Tensor, axis: int) -> Tensor:
    """The length of a weight along an axis, which stays as one of size 1."""
    return torch.linalg.vector_norm(weight, dim=axis, keepdim=True)
