"""N networks of linear layers with a ReLU between each two, as one step of autograd.

Layer by layer, autograd makes a new tensor of every step and runs back through memory that has left the caches. Here
the hidden features are rectified where they lie, and so are their gradients on the way back: a tenth of an update's
time. The operations are autograd's own, in its order, so the bits are, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rectified(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """[N or 1, B, inputs] -> [N, B, outputs] through layers (weights [N, inputs, outputs], biases [N, 1, outputs])."""
    x, tensors = x.expand(len(layers[0][0]), -1, -1), [tensor for layer in layers for tensor in layer]
    if torch.is_grad_enabled():
        output: Tensor = Rectified.apply(x, *tensors)
        return output
    return hidden(x, tensors)[1]


def hidden(x: Tensor, tensors: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """What every layer is shown, and the output."""
    *below, (last, bias) = zip(tensors[::2], tensors[1::2], strict=True)
    shown = [x]
    for weight, shift in below:
        shown.append(torch.baddbmm(shift, shown[-1], weight).relu_())
    return shown, linear(shown[-1], last, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x weight + bias, of N layers."""
    if weight.shape[-1] == 1:  # as a batched product a single column costs seven times as much
        return (x * weight.mT).sum(-1, keepdim=True) + bias
    return torch.baddbmm(bias, x, weight)


class Rectified(torch.autograd.Function):
    """`Rectified.apply(x, weight, bias, weight, bias, ...)`; once differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *tensors: Tensor) -> Tensor:
        shown, output = hidden(x, list(tensors))
        ctx.save_for_backward(*shown, *tensors[::2])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        count, (of_x, *of_tensors) = len(ctx.saved_tensors) // 2, ctx.needs_input_grad
        shown, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        found: list[Tensor | None] = []
        for depth in reversed(range(count)):
            x, weight, single = shown[depth], weights[depth], weights[depth].shape[-1] == 1
            found.append(grad.sum(1, keepdim=True) if of_tensors[2 * depth + 1] else None)
            if not of_tensors[2 * depth]:
                found.append(None)
            elif single:
                found.append((grad * x).sum(1, keepdim=True).mT)
            else:
                found.append(torch.bmm(x.mT, grad))
            if depth or of_x:
                grad = grad * weight.mT if single else torch.bmm(grad, weight.mT)
            if depth:
                torch.ops.aten.threshold_backward.grad_input(grad, x, 0, grad_input=grad)
        return grad if of_x else None, *reversed(found)
