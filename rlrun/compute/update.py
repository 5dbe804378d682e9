"""From a loss to an update: gradient, clipping, Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1).

Two ways with the same result up to rounding, and one state format. `Adam` runs eagerly on fused kernels, without hooks,
`.grad` fields or synchronisation. `GraphAdam` compiles gradient, clipping and step into one graph, which pays on long
runs of small networks and is what CUDA graphs need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from rlrun.types import StateDict, Tensor

if TYPE_CHECKING:
    from torch import nn

Aux = dict[str, Any]  # name -> detached tensor
LossFn = Callable[..., tuple[Tensor, Aux]]

BETA1, BETA2 = 0.9, 0.999
MAX_PENDING = 1024  # updates whose metrics are kept as they came


class Adam:
    """`update(*inputs, learning_rate=...) -> aux`: one eager Adam step on the parameters of `module`, in place.

    Args:
        loss: `loss(module, *inputs) -> (scalar loss, aux)`; aux is a dict of tensors and comes back detached.
        module: holds the parameters that move.
        max_grad_norm: gradients are scaled so that their global norm is at most this; None for no clipping.
        eps: added to the root of the second moment.
    """

    def __init__(self, loss: LossFn, module: nn.Module, *, max_grad_norm: float | None = None, eps: float = 1e-8):
        self.loss, self.module = loss, module
        self.max_grad_norm, self.eps = max_grad_norm, eps
        self.params: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.mean = [torch.zeros_like(p, requires_grad=False) for p in self.params]
        self.square = [torch.zeros_like(p, requires_grad=False) for p in self.params]
        self.step = torch.zeros((), device=self.params[0].device)
        self._steps = [self.step] * len(self.params)

    def __call__(self, *inputs: Any, learning_rate: float) -> Aux:
        return self.eager(*inputs, learning_rate=learning_rate)

    def eager(self, *inputs: Any, learning_rate: float) -> Aux:
        """One step without a graph, for inputs of a shape that comes up once."""
        loss, aux = self.loss(self.module, *inputs)
        # The fused kernel takes gradients to be laid out like the parameters: other strides give silently wrong steps.
        grads = [g.contiguous() for g in torch.autograd.grad(loss, self.params, materialize_grads=True)]
        with torch.no_grad():
            divisor = None if self.max_grad_norm is None else clip_divisor(grads, self.max_grad_norm)
            self.step += 1
            torch._fused_adam_(
                self.params,
                grads,
                self.mean,
                self.square,
                [],
                self._steps,
                lr=learning_rate,
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=0.0,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=divisor,  # the kernel divides by it
            )
        return {"loss": loss.detach()} | {key: value.detach() for key, value in aux.items()}

    def state_dict(self) -> StateDict:
        return {"mean": list(self.mean), "square": list(self.square), "step": self.step}

    def load_state_dict(self, state: StateDict) -> None:
        with torch.no_grad():
            for ours, saved in zip(
                [*self.mean, *self.square, self.step], [*state["mean"], *state["square"], state["step"]], strict=True
            ):
                if ours.shape != saved.shape:
                    raise ValueError(f"optimiser state of shape {tuple(saved.shape)}, expected {tuple(ours.shape)}")
                ours.copy_(saved)


class UpdateMeans:
    """Means of what updates return, over all updates since the last `take`.

    Taking an update in costs an append: tensors stay where they are, and nothing waits for the device.
    """

    def __init__(self) -> None:
        self._pending: list[Aux] = []
        self._sums: dict[str, Any] = {}
        self._count = 0

    def add(self, aux: Aux) -> None:
        """Numbers or 0-d tensors; every update since the last `take` has the same keys."""
        self._pending.append(aux)
        if len(self._pending) == MAX_PENDING:
            self._fold()

    def take(self) -> Aux:
        """The means; nothing if there was no update."""
        if not self._sums and len(self._pending) == 1:
            return self._pending.pop()
        self._fold()
        means = {key: total / self._count for key, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def _fold(self) -> None:
        for key in self._pending[0] if self._pending else ():
            values = [aux[key] for aux in self._pending]
            total = torch.stack(values).sum() if isinstance(values[0], torch.Tensor) else sum(values)
            self._sums[key] = self._sums[key] + total if key in self._sums else total
        self._count += len(self._pending)
        self._pending.clear()


class GraphAdam(Adam):
    """The same update as one compiled graph; the first call compiles."""

    def __init__(self, loss: LossFn, module: nn.Module, *, max_grad_norm: float | None = None, eps: float = 1e-8):
        super().__init__(loss, module, max_grad_norm=max_grad_norm, eps=eps)
        self.names = [name for name, p in module.named_parameters() if p.requires_grad]
        self.learning_rate = torch.zeros((), device=self.params[0].device)
        options: dict[str, Any] = {"cpp_wrapper": True, "size_asserts": False, "alignment_asserts": False}
        if self.step.is_cuda:  # CUDA graphs replay on fixed addresses
            options = {"triton.cudagraphs": True}
            for tensor in [*self.params, *self.mean, *self.square, self.step, self.learning_rate]:
                torch._dynamo.mark_static_address(tensor)
        torch.compiler.reset()  # each run compiles its own losses: without this a sweep runs into the recompile limit
        self._compiled = torch.compile(self._graph, fullgraph=True, dynamic=False, options=options)

    def __call__(self, *inputs: Any, learning_rate: float) -> Aux:
        with torch.no_grad():
            self.learning_rate.fill_(learning_rate)
            params = [p.detach() for p in self.params]
            # Numbers go in as tensors: a new value is no reason to compile another graph.
            inputs = tuple(torch.tensor(x, device=self.step.device) if isinstance(x, float) else x for x in inputs)
            aux: Aux = self._compiled(params, self.mean, self.square, self.step, self.learning_rate, *inputs)
        return {key: value.clone() for key, value in aux.items()} if self.step.is_cuda else aux

    def _graph(
        self,
        params: list[Tensor],
        mean: list[Tensor],
        square: list[Tensor],
        step: Tensor,
        learning_rate: Tensor,
        *inputs: Any,
    ) -> Aux:
        def loss(params: list[Tensor], *inputs: Any) -> tuple[Tensor, Aux]:
            weights = dict(zip(self.names, params, strict=True))
            return self.loss(lambda *args: torch.func.functional_call(self.module, weights, args), *inputs)

        grads, (value, aux) = torch.func.grad_and_value(loss, has_aux=True)(params, *inputs)
        if self.max_grad_norm is not None:
            divisor = clip_divisor(grads, self.max_grad_norm)
            grads = [g / divisor for g in grads]
        step.add_(1)
        step_size = learning_rate / (1 - BETA1**step)
        root_correction = (1 - BETA2**step).sqrt()
        for p, g, m, v in zip(params, grads, mean, square, strict=True):
            m.lerp_(g, 1 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            p.sub_(step_size * m / (v.sqrt() / root_correction + self.eps))
        return {"loss": value} | aux


def clip_divisor(grads: Sequence[Tensor], max_grad_norm: float) -> Tensor:
    """What gradients are divided by for their joint norm to be at most `max_grad_norm`; at least 1."""
    norm = torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in grads]))
    return (norm / max_grad_norm).clamp(min=1.0)
