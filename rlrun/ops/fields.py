"""Observations and actions of several parts: one NumPy array of records here, a dict of tensors in a loss.

Everything between an environment and a loss stores and indexes records like numbers. Their fields are looked at in two
places: on the way to the device, and in the network that joins them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    Array = np.ndarray


def tensors(array: Array, device: torch.device | None = None) -> Any:
    """A tensor of an array, or a dict of tensors by field of an array of records; one copy each, on the CPU a view."""
    if array.dtype.names is None:
        tensor = torch.from_numpy(array)
        return tensor if device is None or device.type == "cpu" else tensor.to(device, non_blocking=True)
    return {name: tensors(np.ascontiguousarray(array[name]), device) for name in array.dtype.names}


def rows(values: Any, index: Any) -> Any:
    """`values[index]` of a tensor, or of every tensor in a dict, and in the dicts inside."""
    if isinstance(values, dict):
        return {name: rows(column, index) for name, column in values.items()}
    return values[index]


def unbound(values: Any) -> Sequence[Any]:
    """`rows(values, i)` for every i."""
    if isinstance(values, dict):
        return [dict(zip(values, row, strict=True)) for row in zip(*map(unbound, values.values()), strict=True)]
    return values.unbind()


def allowed(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores [..., A], those of masked actions as low as can be: none is the highest, its probability is 0."""
    return scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
