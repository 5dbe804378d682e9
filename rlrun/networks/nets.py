"""All that an algorithm has with weights, as one module: what a loss gets to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn


class Nets(nn.Module):
    """Networks by name, `nets.q`, and single parameters, `nets.log_alpha`.

    Calling it calls a loss with it: `nets(loss, *inputs)` is `loss(nets, *inputs)`. So `torch.func.functional_call` can
    put other weights in place of all networks at once, as graphs and populations do, and the loss is the same code.
    """

    def __init__(self, **networks: nn.Module | nn.Parameter):
        super().__init__()
        for name, network in networks.items():
            setattr(self, name, network)

    def forward(self, loss: Callable[..., Any], *inputs: Any) -> Any:
        return loss(self, *inputs)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
