"""Acting on numpy observations as fast as the network allows.

At batch sizes of a few environments the price of a forward pass is calls, not arithmetic: 40-66 us through modules,
5-8 us in numpy on the parameters' own memory. `Inference` translates a network of known layers once; its arrays are
views, so every update of the weights is seen at once. Unknown layers, GPUs and wide batches take the torch path.

Who acts is in evaluation mode, by whatever layers: dropout would make greedy play random, and batch normalisation would
take in what is only looked at.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from rlrun.networks.heads import GaussianHead
from rlrun.networks.layers import Field, Flat, Joined, OneHot, OneHots, Scaled, Tanh
from rlrun.networks.network import Network
from rlrun.ops.fields import tensors
from rlrun.types import Array

NUMPY_BATCH = 32  # above this torch's kernels win
# Modules of Python whose layers are alike in both modes, as those of TRANSLATORS are: to set one takes microseconds.
MODELESS = ("rlrun.", *(f"torch.nn.modules.{name}" for name in ("container", "conv", "flatten", "linear", "pooling")))

Forward = Callable[[Array], Array]


class Inference:
    """`inference(obs [E, *obs]) -> output` as numpy arrays, without autograd; a tuple for several heads.

    A network that remembers is called with its memory, `inference(obs, memory [E, M]) -> (output, memory [E, M])`, one
    that is noisy with noise for every row, `inference(obs, noise [E, U])`, or without for its mean.
    """

    def __init__(self, network: nn.Module):
        self.network = network
        self.device = next(network.parameters()).device
        self._numpy = translate(network) if self.device.type == "cpu" else None
        others = (layer for layer in network.modules() if type(layer) not in {*TRANSLATORS, nn.ELU, nn.GELU, nn.SiLU})
        self._modal = [layer for layer in others if not type(layer).__module__.startswith(MODELESS)]

    def __call__(self, *inputs: Array) -> Any:
        if self._numpy is not None and len(inputs[0]) <= NUMPY_BATCH:
            return self._numpy(*inputs)
        return self.torch(*inputs)

    def torch(self, *inputs: Array) -> Any:
        with torch.no_grad(), evaluating(self._modal):
            return _to_numpy(self.network(*(tensors(x, self.device) for x in inputs)))


@contextmanager
def evaluating(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, these layers are in evaluation mode."""
    training = [layer for layer in layers if layer.training]
    for layer in training:
        layer.training = False
    try:
        yield
    finally:
        for layer in training:
            layer.training = True


def _to_numpy(output: Any) -> Any:
    return tuple(_to_numpy(o) for o in output) if isinstance(output, tuple) else output.cpu().numpy()


def translate(network: nn.Module) -> Callable[..., Any] | None:
    """The network as numpy functions on the same memory, or None if a layer is not known."""
    translator = TRANSLATORS.get(type(network))
    return translator(network) if translator else None


def _linear(layer: nn.Linear) -> Forward:
    weight = layer.weight.detach().numpy().T
    if layer.bias is None:
        return lambda x: x @ weight
    bias = layer.bias.detach().numpy()

    def forward(x: Array) -> Array:
        y = x @ weight
        y += bias
        return y

    return forward


def _layer_norm(layer: nn.LayerNorm) -> Forward | None:
    if layer.weight is None or layer.bias is None or len(layer.normalized_shape) != 1:
        return None
    scale, shift, eps = layer.weight.detach().numpy(), layer.bias.detach().numpy(), layer.eps

    def forward(x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + eps) * scale + shift

    return forward


def _one_hot(layer: OneHot) -> Forward:
    def forward(x: Array) -> Array:
        rows = np.zeros((len(x), layer.n), np.float32)
        rows[np.arange(len(x)), x] = 1.0
        return rows

    return forward


def _one_hots(layer: OneHots) -> Forward:
    first, width = layer.first.numpy(), sum(layer.nvec)

    def forward(x: Array) -> Array:
        rows = np.zeros((len(x), width), np.float32)
        rows[np.arange(len(x))[:, None], x.reshape(len(x), -1) + first] = 1.0
        return rows

    return forward


def _joined(layer: Joined) -> Forward | None:
    functions = [translate(encoder) for encoder in layer.encoders]
    if None in functions:
        return None

    def forward(x: Array) -> Array:
        encoded = [function(x[name]) for name, function in zip(layer.names, functions, strict=True)]  # type: ignore[misc]
        return np.concatenate(encoded, -1)

    return forward


def _scaled(layer: Scaled) -> Forward:
    low, factor = layer.low.numpy(), layer.factor.numpy()

    def forward(x: Array) -> Array:
        return (_flat(x) - low) * factor

    return forward


def _gaussian_head(layer: GaussianHead) -> Forward:
    mean, log_std = translate(layer.mean), layer.log_std.detach().numpy()

    def forward(x: Array, *noise: Array) -> Array:
        mu = mean(x, *noise)  # type: ignore[misc]
        return np.concatenate([mu, np.broadcast_to(log_std, (len(mu), log_std.size))], -1)

    return forward


def _sequential(layers: nn.Sequential) -> Forward | None:
    functions = [translate(layer) for layer in layers]
    if None in functions:
        return None

    def forward(x: Array) -> Array:
        for function in functions:
            x = function(x)  # type: ignore[misc]
        return x

    return forward


def _network(network: Network) -> Callable[..., Any] | None:
    trunk, branches = _sequential(network.trunk), [_branch(branch) for branch in network.branches]
    if trunk is None or None in branches:
        return None
    if len(branches) == 1:
        return lambda obs, *noise: branches[0](trunk(obs), *noise)  # type: ignore[misc]

    ends = np.cumsum(network.shares).tolist()
    slots = [slice(end - share, end) if share else None for end, share in zip(ends, network.shares, strict=True)]

    def forward(obs: Array, noise: Array | None = None) -> tuple[Array, ...]:
        features = trunk(obs)
        if noise is None:
            return tuple(branch(features) for branch in branches)  # type: ignore[misc]
        shares = [() if slot is None else (noise[..., slot],) for slot in slots]
        return tuple(branch(features, *own) for branch, own in zip(branches, shares, strict=True))  # type: ignore[misc]

    return forward


def _branch(branch: Any) -> Callable[..., Array] | None:
    """The layers of a head, of which the last may take noise."""
    *below, head = [translate(layer) for layer in branch]
    if None in (*below, head):
        return None

    def forward(x: Array, *noise: Array) -> Array:
        for function in below:
            x = function(x)  # type: ignore[misc]
        output: Array = head(x, *noise)  # type: ignore[misc]
        return output

    return forward


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def _flat(x: Array) -> Array:
    return x.reshape(len(x), -1).astype(np.float32, copy=False)


# Exact types only: a subclass may compute something else.
TRANSLATORS: dict[type[nn.Module], Callable[[Any], Any]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.ReLU: lambda _: _relu,
    nn.Tanh: lambda _: np.tanh,
    Tanh: lambda _: np.tanh,
    nn.Sequential: _sequential,
    OneHot: _one_hot,
    OneHots: _one_hots,
    Field: lambda layer: operator.itemgetter(layer.name),
    Joined: _joined,
    Flat: lambda _: _flat,
    Scaled: _scaled,
    GaussianHead: _gaussian_head,
    Network: _network,
}
