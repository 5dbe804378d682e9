"""Networks that remember: torsos with an LSTM or GRU between features and heads, as modules and as numpy functions.

Letters: B sequences (environments, when acting), L steps of each, N = L x B rows in order of time (all sequences'
first steps, then all second ones), F features, H numbers that a cell puts out, M numbers of memory in a row.

The arithmetic and the layout of the weights are those of `torch.nn.LSTM` and `torch.nn.GRU` with one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.networks.inference import TRANSLATORS, translate
from rlrun.networks.unroll import unrolled
from rlrun.types import Array

Step = Callable[[Array, Array], tuple[Array, Array]]  # features [B, F], memory [B, M] -> output [B, H], memory [B, M]


class Lstm(nn.LSTMCell):
    """Long short-term memory with forget gates (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    Its memory [B, 2H] is h, the output of the step before, and the cell's state c side by side.

        i, f, o = sigmoid(W x + b + U h + d)    g = tanh(W x + b + U h + d)    each with rows of its own
        c <- f c + i g                          h <- o tanh(c)
    """

    @property
    def memory_size(self) -> int:
        return 2 * self.hidden_size

    def forward(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Outputs [N, H] of all steps and the memory [B, M] behind the last, from features [N, F] and memory [B, M]."""
        h, c = memory.unsqueeze(0).chunk(2, -1)
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        steps = features.unflatten(0, (-1, len(memory)))
        # layers=1, no dropout, training mode, one direction, not batch first
        output, h, c = torch.lstm(steps, (h.contiguous(), c.contiguous()), weights, True, 1, 0.0, True, False, False)
        return output.flatten(0, 1), torch.cat((h[0], c[0]), -1)


class Gru(nn.GRUCell):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in the variant of cuDNN.

    Its memory [B, H] is h, the output of the step before.

        r, z = sigmoid(W x + b + U h + d)       n = tanh(W x + b + r (U h + d))       each with rows of its own
        h <- (1 - z) n + z h
    """

    @property
    def memory_size(self) -> int:
        return self.hidden_size

    def forward(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Outputs [N, H] of all steps and the memory [B, M] behind the last, from features [N, F] and memory [B, M]."""
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        steps = features.unflatten(0, (-1, len(memory)))
        output, h = torch.gru(steps, memory.unsqueeze(0).contiguous(), weights, True, 1, 0.0, True, False, False)
        return output.flatten(0, 1), h[0]


class Torso(nn.Module):
    """Layers without memory, then a cell: features [N, F] -> [N, H]."""

    def __init__(self, layers: nn.Sequential, cell: Lstm | Gru):
        super().__init__()
        self.layers, self.cell = layers, cell

    def forward(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.cell(self.layers(features), memory)


class RecurrentNetwork(nn.Module):
    """An encoder, torsos with memory, and one head for each output.

    `forward(obs [N, *obs], memory [B, M]) -> (outputs, memory [B, M])`; outputs are the head's [N, *], or a tuple with
    one for each head. L follows from N and B: a single step has N = B. Without memory the first argument is a minibatch
    of sequences, as `unrolled` takes it, and there are outputs alone. Heads that can be asked for quantiles are asked
    for those of `tau` [P, K], at the rows `place` [P].

    Args:
        encoder: obs [N, *obs] -> what all torsos read.
        torsos: one for all heads, or one for each.
        heads: output of a torso [N, H] -> [N, *].
    """

    def __init__(self, encoder: nn.Module, torsos: Sequence[Torso], heads: Sequence[nn.Module]):
        super().__init__()
        self.encoder = encoder
        self.torsos, self.heads = nn.ModuleList(torsos), nn.ModuleList(heads)
        self.sizes = [torso.cell.memory_size for torso in torsos]
        self.memory_size = sum(self.sizes)

    def forward(
        self, obs: Any, memory: Tensor | None = None, tau: Tensor | None = None, place: Tensor | None = None
    ) -> Any:
        if memory is None:
            return unrolled(self, obs, tau)
        features = self.encoder(obs)
        parts = memory.split(self.sizes, -1)
        hidden, memories = zip(*(torso(features, m) for torso, m in zip(self.torsos, parts, strict=True)), strict=True)
        pairs = zip(self.heads, each(hidden, len(self.heads)), strict=True)
        outputs = tuple(head(h) if tau is None else head(h[place], tau=tau) for head, h in pairs)
        return outputs if len(outputs) > 1 else outputs[0], torch.cat(memories, -1)


def each(torsos: Sequence[Any], heads: int) -> Sequence[Any]:
    """What belongs to each head's torso, where all may share one."""
    return torsos if len(torsos) == heads else [torsos[0]] * heads


def _lstm(cell: Lstm) -> Step:
    size = cell.hidden_size
    weight, inner = cell.weight_ih.detach().numpy().T, cell.weight_hh.detach().numpy().T
    bias, offset = cell.bias_ih.detach().numpy(), cell.bias_hh.detach().numpy()

    def step(x: Array, memory: Array) -> tuple[Array, Array]:
        gates = x @ weight
        gates += memory[:, :size] @ inner
        gates += bias
        gates += offset
        new = np.tanh(gates[:, 2 * size : 3 * size])
        _sigmoid(gates)
        new *= gates[:, :size]
        after = np.empty_like(memory)
        c = np.multiply(gates[:, size : 2 * size], memory[:, size:], out=after[:, size:])
        c += new
        h = np.multiply(gates[:, 3 * size :], np.tanh(c), out=after[:, :size])
        return h, after

    return step


def _gru(cell: Gru) -> Step:
    size = cell.hidden_size
    weight, inner = cell.weight_ih.detach().numpy().T, cell.weight_hh.detach().numpy().T
    bias, offset = cell.bias_ih.detach().numpy(), cell.bias_hh.detach().numpy()

    def step(x: Array, memory: Array) -> tuple[Array, Array]:
        seen = x @ weight
        seen += bias
        kept = memory @ inner
        kept += offset
        gates = _sigmoid(seen[:, : 2 * size] + kept[:, : 2 * size])
        reset, update = gates[:, :size], gates[:, size:]
        new = np.tanh(seen[:, 2 * size :] + reset * kept[:, 2 * size :])
        after = new + update * (memory - new)
        return after, after

    return step


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) in place, as a tangent, which cannot overflow."""
    x *= 0.5
    np.tanh(x, out=x)
    x *= 0.5
    x += 0.5
    return x


def _torso(torso: Torso) -> Step | None:
    layers, step = translate(torso.layers), translate(torso.cell)
    if layers is None or step is None:
        return None
    return lambda x, memory: step(layers(x), memory)


def _network(network: RecurrentNetwork) -> Callable[[Array, Array], tuple[Any, Array]] | None:
    encoder = translate(network.encoder)
    torsos = [translate(torso) for torso in network.torsos]
    heads = [translate(head) for head in network.heads]
    if None in (encoder, *torsos, *heads):
        return None
    ends = np.cumsum(network.sizes).tolist()
    slots = [slice(end - size, end) for end, size in zip(ends, network.sizes, strict=True)]

    def forward(obs: Array, memory: Array) -> tuple[Any, Array]:
        features = encoder(obs)  # type: ignore[misc]
        steps = [torso(features, memory[:, slot]) for torso, slot in zip(torsos, slots, strict=True)]  # type: ignore
        hidden = each([h for h, _ in steps], len(heads))
        outputs = tuple(head(h) for head, h in zip(heads, hidden, strict=True))  # type: ignore[misc]
        return outputs if len(outputs) > 1 else outputs[0], np.concatenate([after for _, after in steps], 1)

    return forward


TRANSLATORS.update({Lstm: _lstm, Gru: _gru, Torso: _torso, RecurrentNetwork: _network})
