"""Updates as compiled calls: gradient, clipping, step and followers in one graph, for k batches one after the other.

At the sizes of these networks the price of an eager update is calls, not arithmetic. A graph takes all tensors, changes
weights and moments in place, runs no Python and checks nothing, so it costs what its arithmetic costs. How it is made,
and found again by later runs, is in libraries.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.func import functional_call

from rlrun.compute.libraries import Call, load_or_compile
from rlrun.compute.rules import clip_share
from rlrun.compute.update import Aux, Piece, Update, length
from rlrun.ops.fields import leaves, mapped, rows
from rlrun.types import Tensor

LONGEST = 8  # updates in one graph: more take longer to compile and save no more


class GraphUpdate(Update):
    """The same update compiled. The first call for batches of a shape finds or makes the graph.

    Args:
        bursts: how many updates are made in a row, time and again. A row is cut into equal calls of at most 8; what is
            left of a row of another length is made eagerly, so that it compiles nothing. The cuts follow from these
            numbers and the length of a stack alone: where a run was interrupted makes no difference to its bytes.
        cache: folder of the compiled libraries.
    """

    def __init__(self, *args: Any, bursts: Sequence[int] = (1,), cache: Path, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sizes = sorted({longest(n) for n in bursts}, reverse=True)
        self.cache = cache
        named = [*self.nets.named_parameters(), *self.nets.named_buffers()]
        self._weights = {name: tensor.detach() for name, tensor in named}
        names = {id(tensor): name for name, tensor in named}
        self._averages = [
            (names[id(ours)], names[id(theirs)], follower.tau)
            for follower in self.followers
            if follower.tau < 1
            for ours, theirs in follower.pairs()
        ]
        moments = [tensor for tensors in self.slots.values() for tensor in tensors]
        self._kept = [*self._weights.values(), *moments]  # changed in place by a call
        self._graphs: dict[Any, Graph] = {}

    def __call__(self, batch: Any, *shared: float, learning_rate: float) -> Aux:
        call = self._call(1, rows(batch, None), shared, learning_rate)
        return {key: value[0] for key, value in call(slice(1)).items()}

    def burst(self, stack: Any, *shared: float, learning_rate: float) -> Iterator[Piece]:
        start, total = 0, len(leaves(stack)[0])
        for size in self.sizes:
            if total - start < size:
                continue
            call = self._call(size, stack, shared, learning_rate)
            while total - start >= size:
                piece = slice(start, start + size)
                yield Piece(piece, call(piece))
                start += size
        if start < total:
            rest = rows(stack, slice(start, None))
            for single in self.eager(rest, *shared, learning_rate=learning_rate):
                yield Piece(start + single.last, single.aux)

    def _call(self, size: int, stack: Any, shared: Sequence[float], rate: float) -> Callable[[slice], Aux]:
        """What makes `size` updates of the stack's rows. Numbers go in as tensors: new ones are no other graph."""
        device, columns = self.step.device, leaves(stack)
        ahead = torch.arange(1, size + 1, device=device)
        given = [torch.tensor(number, device=device) for number in shared]
        signature = (size, *[(x.dtype, x.shape[1:], x.stride()) for x in columns])
        if signature not in self._graphs:
            self._graphs[signature] = Graph(self, stack, given, self.rule.numbers(self.step + ahead, rate))
        graph, whole = self._graphs[signature], size == len(columns[0])

        def call(piece: slice) -> Aux:
            numbers = self.rule.numbers(self.step + ahead, rate)
            aux = graph(given, numbers, columns if whole else [column[piece] for column in columns])
            self.step += size
            return aux

        return call


class Graph:
    """`graph(shared, numbers, columns) -> aux`: one update for each row of numbers [k] and columns [k, B, ...].

    A value of aux has one row per update.
    """

    def __init__(self, update: GraphUpdate, stack: Any, shared: Sequence[Tensor], numbers: Sequence[Tensor]):
        self.update, self.stack, self.shared = update, rows(stack, slice(0)), len(shared)
        self.keys: list[str] = []  # of aux; known once a call was traced
        columns = [*numbers, *[x[: len(numbers[0])] for x in leaves(stack)]]
        one = [*shared, *[x[:1] for x in columns]]
        self.call: Call = load_or_compile(self.many, update._kept, one, [*shared, *columns], update.cache)

    def __call__(self, shared: Sequence[Tensor], numbers: Sequence[Tensor], columns: Sequence[Tensor]) -> Aux:
        said = self.call([*self.update._kept, *shared, *numbers, *columns])
        return dict(zip(self.keys, said, strict=True))

    def many(self, *tensors: Tensor) -> list[Tensor]:
        """As many updates as the columns have rows, on tensors in the order of a call."""
        update, inputs = self.update, iter(tensors)
        weights = {name: next(inputs) for name in update._weights}
        slots = {key: [next(inputs) for _ in update.params] for key in update.slots}
        shared = [next(inputs) for _ in range(self.shared)]
        columns = leaves(self.stack)
        numbers = [next(inputs) for _ in range(len(tensors) - len(update._kept) - self.shared - len(columns))]
        stack = mapped(lambda _: next(inputs), self.stack)
        said = [
            self.once(weights, slots, [x[i] for x in numbers], rows(stack, i), shared) for i in range(len(numbers[0]))
        ]
        self.keys = list(said[0])
        return [torch.stack([aux[key] for aux in said]) for key in self.keys]

    def once(
        self,
        weights: dict[str, Tensor],
        slots: dict[str, list[Tensor]],
        numbers: Sequence[Tensor],
        batch: Any,
        shared: Sequence[Tensor],
    ) -> Aux:
        """One update, in place on the tensors that are given."""
        update = self.update
        trained = {name: weights[name].detach().requires_grad_() for name in update.names}
        with torch.enable_grad():
            loss, aux = functional_call(update.nets, weights | trained, (update.loss, batch, *shared))
            grads = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
        params = [weights[name] for name in update.names]
        with torch.no_grad():
            if update.max_grad_norm is not None:
                share = clip_share(grads, update.max_grad_norm)
                grads = tuple(g * share for g in grads)
            new, moments = update.rule.step(params, grads, slots, numbers)
            for place, axis in update.unit:
                new[place] = new[place] / length(new[place], axis)
            overwrite(params, new)
            for key in slots:
                overwrite(slots[key], moments[key])
            for ours, theirs, tau in update._averages:
                average(weights[ours], weights[theirs], tau)
        return {"loss": loss.detach()} | {key: value.detach() for key, value in aux.items()}


def overwrite(old: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    for mine, its in zip(old, new, strict=True):
        mine.copy_(its)


def average(ours: Tensor, theirs: Tensor, tau: float) -> None:
    """As networks/target.py has it: floats are averaged, counters copied."""
    if ours.is_floating_point():
        ours.lerp_(theirs, tau)
    else:
        ours.copy_(theirs)


def longest(burst: int) -> int:
    """The longest call that a row of so many updates is cut into without a rest."""
    return max(size for size in range(1, LONGEST + 1) if burst % size == 0)
