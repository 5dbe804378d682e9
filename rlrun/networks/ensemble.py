"""Several networks of one shape as one module: all members compute at once, and each is still a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap


class Ensemble(nn.Module):
    """N members with parameters of their own.

    `forward(*inputs [N, B, ...]) -> [N, B, ...]` hands each member its own rows. The parameters are stacks [N, ...];
    those of the members become views of them, so a member called alone computes with the newest weights.

    Args:
        members: modules of the same structure, on their final device.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self._template = (members[0],)  # a tuple is not registered: its parameters are counted once, in the stacks
        self.names = [name for name, _ in members[0].named_parameters()]
        parameters = zip(*(member.parameters() for member in members), strict=True)
        self.stacks = nn.ParameterList(torch.stack(list(same)).detach() for same in parameters)
        for i, member in enumerate(members):
            for parameter, stack in zip(member.parameters(), self.stacks, strict=True):
                parameter.data = stack.data[i]

    def forward(self, *inputs: Tensor) -> Tensor:
        return vmap(self._member)(tuple(self.stacks), *inputs)

    def _member(self, parameters: tuple[Tensor, ...], *inputs: Tensor) -> Any:
        return functional_call(self._template[0], dict(zip(self.names, parameters, strict=True)), inputs)
