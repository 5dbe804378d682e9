"""A network that remembers, asked about a minibatch of sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from rlrun.ops.fields import rows
from rlrun.types import Tensor


def unrolled(network: Callable[..., Any], batch: Mapping[str, Any], tau: Tensor | None = None) -> Any:
    """The outputs [N, *] of a network that remembers for the N rows of a minibatch of sequences.

    The steps of burn-in bring the memory up to date with the weights of now, and no gradient flows back through them
    (Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning", section 3).

    Args:
        network: (obs, memory) -> outputs, memory, as a `RecurrentNetwork`.
        batch: as `rlrun.buffers.sequences.columns_of` has it, in tensors; or with all inputs as `path` in place of
            `obs` and `grid`.
        tau: [N, K] the quantiles that each row is asked for, of a network that can be (see quantiles.py).
    """
    memory = batch["memory"]
    if "before" in batch:
        with torch.no_grad():
            memory = torch.where(batch["warm"], network(batch["before"], memory)[1], memory)
    inputs = batch["path"] if "path" in batch else rows(batch["obs"], batch["grid"])
    place = batch["place"]
    if tau is not None:
        return network(inputs, memory, tau, place)[0]
    outputs, _ = network(inputs, memory)
    return tuple(output[place] for output in outputs) if isinstance(outputs, tuple) else outputs[place]
