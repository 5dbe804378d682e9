"""A state as plain JSON and named arrays, and back. Nothing of it is code."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlrun.blocks import Block
from rlrun.types import Array

TAG = "$"  # marks a JSON object that stands for something JSON does not have
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
DTYPES = INTEGERS | {"bool", "float16", "float32", "float64"}
EXACT = 2**53  # larger integers are written in hex: many JSON readers would round them


# State dict <-> plain data and arrays.


def encode(tree: Any, name: str = "state", apart: dict[str, Block] | None = None) -> tuple[Any, dict[str, Array]]:
    """Split a state dict into strict JSON data and named arrays; `decode` puts it together again.

    Args:
        tree: nested dict, list, tuple of None, bool, int, float, str, numpy arrays (of records, too) and scalars, torch
            tensors, blocks. Subclasses of dict become dict, tensors lose their graph, device and strides; the rest
            comes back as it was.
        name: what to call the root; an array is named by its path from there, such as `algo.q.0.weight`.
        apart: blocks are put here, unread, under names such as `algo.0007`; None: they are encoded like all else.

    Returns:
        JSON data without NaN or infinity, and C-ordered arrays that share memory with the tree where they can.

    Raises:
        TypeError: the tree holds something else; names where.
    """
    arrays: dict[str, Array] = {}
    return _encode(tree, name, arrays, apart), arrays


def _encode(node: Any, path: str, arrays: dict[str, Array], apart: dict[str, Block] | None) -> Any:
    kind = type(node)  # not isinstance: an enum or a named tuple would not come back as itself
    if node is None or kind in (bool, str):
        return node
    if kind is int:
        return node if abs(node) <= EXACT else {TAG: "int", "hex": hex(node)}
    if kind is float:
        return node if math.isfinite(node) else {TAG: "float", "value": str(node)}
    if kind is list:
        return [_encode(entry, f"{path}.{i}", arrays, apart) for i, entry in enumerate(node)]
    if kind is tuple:
        return {TAG: "tuple", "items": _encode(list(node), path, arrays, apart)}
    if isinstance(node, dict):
        return _encode_dict(node, path, arrays, apart)
    if isinstance(node, np.generic) and node.dtype.name in DTYPES:
        return {TAG: "scalar", "dtype": node.dtype.name, "value": _encode(node.item(), path, arrays, apart)}
    if kind is np.ndarray and node.dtype.name in DTYPES:
        return {TAG: "array", "dtype": node.dtype.name, **_refer(np.asarray(node, order="C"), path, arrays)}
    if kind in (np.ndarray, np.void) and node.dtype.names:
        fields = [[name, _encode(np.asarray(node[name]), f"{path}.{name}", arrays, apart)] for name in node.dtype.names]
        return {TAG: "records", "shape": list(node.shape), "fields": fields}
    if kind is Block:
        return {TAG: "block"} | _encode_block(node, path, arrays, apart)
    if _is_plain_tensor(node):
        dtype, array = _tensor_to_array(node)
        return {TAG: "tensor", "dtype": dtype, **_refer(array, path, arrays)}
    described = f"an array of {node.dtype}" if hasattr(node, "dtype") else f"a {kind.__qualname__}"
    raise TypeError(f"{path}: {described} cannot be saved in a checkpoint")


def _encode_dict(node: dict[Any, Any], path: str, arrays: dict[str, Array], apart: dict[str, Block] | None) -> Any:
    values = {key: _encode(value, f"{path}.{key}", arrays, apart) for key, value in node.items()}
    if TAG not in values and all(type(key) is str for key in values):
        return values
    return {
        TAG: "dict",
        "items": [[_encode(key, f"{path}.{key}", arrays, apart), value] for key, value in values.items()],
    }


def _encode_block(block: Block, path: str, arrays: dict[str, Array], apart: dict[str, Block] | None) -> dict[str, Any]:
    if apart is None:
        return {"contents": _encode(dict(block.contents()), path, arrays, None)}
    name = f"{path.partition('.')[0]}.{len(apart):04d}"
    apart[name] = block
    return {"file": name}


def _refer(array: Array, path: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """Put an array aside and return what stands for it."""
    name = path
    while name in arrays:  # {0: a, "0": b} and {"a.b": x, "a": {"b": y}} are legal
        name += "'"
    arrays[name] = array
    return {"data": name, "shape": list(array.shape)}


def _is_plain_tensor(node: Any) -> bool:
    torch = sys.modules.get("torch")  # where torch was never imported, nothing is a tensor
    return (
        torch is not None
        and isinstance(node, torch.Tensor)
        and node.layout == torch.strided
        and _dtype_name(node) in DTYPES | {"bfloat16"}
    )


def _dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _tensor_to_array(tensor: Any) -> tuple[str, Array]:
    """A tensor's dtype and its values; bfloat16, which numpy lacks, as the int16 of the same bits."""
    import torch

    dtype = _dtype_name(tensor)
    tensor = tensor.detach().cpu().contiguous()
    return dtype, (tensor.view(torch.int16) if dtype == "bfloat16" else tensor).numpy()


def _array_to_tensor(dtype: str, array: Array) -> Any:
    import torch

    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def decode(plain: Any, arrays: dict[str, Array], apart: Mapping[str, Block] | None = None) -> Any:
    """Put together what `encode` split. The result shares memory with the arrays.

    Raises:
        ValueError: the data are not what `encode` writes: an unknown tag, an array or a block that is missing or left
            over, an array of another shape or dtype than the data say.
    """
    unused: dict[str, Any] = {**arrays, **(apart or {})}
    tree = _decode(plain, unused)
    if unused:
        raise ValueError(f"{min(unused)}: an array that nothing refers to")
    return tree


def _decode(node: Any, arrays: dict[str, Any]) -> Any:
    match node:
        case list():
            return [_decode(entry, arrays) for entry in node]
        case {"$": "tuple", "items": list(items)}:
            return tuple(_decode(items, arrays))
        case {"$": "dict", "items": list(items)}:
            return {_decode(key, arrays): _decode(value, arrays) for key, value in items}
        case {"$": "int", "hex": str(digits)}:
            return int(digits, 16)
        case {"$": "float", "value": "inf" | "-inf" | "nan" as text}:
            return float(text)
        case {"$": "scalar", "dtype": str(dtype), "value": value} if dtype in DTYPES:
            return _scalar(dtype, _decode(value, arrays))
        case {"$": "array", "dtype": str(dtype), "data": str(name), "shape": list(shape)}:
            return _resolve(name, dtype, shape, arrays)
        case {"$": "tensor", "dtype": "bfloat16", "data": str(name), "shape": list(shape)}:
            return _array_to_tensor("bfloat16", _resolve(name, "int16", shape, arrays))
        case {"$": "tensor", "dtype": str(dtype), "data": str(name), "shape": list(shape)}:
            return _array_to_tensor(dtype, _resolve(name, dtype, shape, arrays))
        case {"$": "records", "shape": list(shape), "fields": list(fields)}:
            return _records(shape, [(name, _decode(column, arrays)) for name, column in fields])
        case {"$": "block", "contents": dict(contents)}:
            held = _decode(contents, arrays)
            return Block(lambda: held)
        case {"$": "block", "file": str(name)} if isinstance(arrays.get(name), Block):
            return arrays.pop(name)
        case {"$": tag}:
            raise ValueError(f"malformed entry of type {tag!r}")
        case dict():
            return {key: _decode(value, arrays) for key, value in node.items()}
    return node


def _scalar(dtype: str, value: Any) -> np.generic:
    if type(value) not in (bool, int, float):
        raise ValueError(f"a {dtype} scalar cannot be {value!r}")
    return np.dtype(dtype).type(value)


def _records(shape: list[int], fields: list[tuple[str, Any]]) -> Array:
    """An array of records from its fields, each an array [*shape, *field]."""
    if not all(isinstance(column, np.ndarray) and list(column.shape[: len(shape)]) == shape for _, column in fields):
        raise ValueError(f"the fields of an array of records {shape} are of other shapes")
    dtype = np.dtype([(name, column.dtype, column.shape[len(shape) :]) for name, column in fields])
    records = np.zeros(shape, dtype)
    for name, column in fields:
        records[name] = column
    return records


def _resolve(name: str, dtype: str, shape: list[int], arrays: dict[str, Any]) -> Array:
    """Take the array that an entry refers to; each is used exactly once."""
    if not isinstance(arrays.get(name), np.ndarray):
        raise ValueError(f"{name}: the array is missing")
    array: Array = arrays.pop(name)
    if (array.dtype.name, list(array.shape)) != (dtype, shape):
        raise ValueError(f"{name}: expected {dtype}{shape}, found {array.dtype.name}{list(array.shape)}")
    return array
