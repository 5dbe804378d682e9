"""Observations and actions of several parts: one NumPy array of records here, a dict of tensors in a loss.

Everything between an environment and a loss stores and indexes records like numbers. Their fields are looked at in two
places: on the way to the device, and in the network that joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    # copied even where NumPy calls it contiguous: torch wants strides of whole elements, of a single row, too
    return {name: tensors(array[name].copy(), device) for name in array.dtype.names}


def rows(values: Any, index: Any) -> Any:
    """`values[index]` of a tensor, or of every tensor in a dict or a named tuple, and in the dicts inside."""
    return mapped(lambda column: column[index], values)


def mapped(function: Callable[[Any], Any], values: Any) -> Any:
    """A tensor, or a dict or a named tuple of tensors and such dicts, with what a function makes of every tensor."""
    if isinstance(values, dict):
        return {name: mapped(function, column) for name, column in values.items()}
    if isinstance(values, tuple):
        return type(values)(*[mapped(function, column) for column in values])
    return function(values)


def leaves(values: Any) -> list[Any]:
    """The tensors in a dict or a named tuple, in order."""
    found: list[Any] = []
    mapped(found.append, values)
    return found


def unbound(values: Any) -> Sequence[Any]:
    """`rows(values, i)` for every i."""
    if isinstance(values, dict):
        return [dict(zip(values, row, strict=True)) for row in zip(*map(unbound, values.values()), strict=True)]
    if isinstance(values, tuple):
        return [type(values)(*row) for row in zip(*map(unbound, values), strict=True)]
    return values.unbind()


def allowed(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores [..., A], those of masked actions as low as can be: none is the highest, its probability is 0."""
    return scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
