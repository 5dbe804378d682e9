"""Networks that remember, against torch's own layers and a loop over single steps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from rlrun import networks
from rlrun.errors import ConfigError
from rlrun.networks.inference import NUMPY_BATCH, Inference, translate
from rlrun.networks.recurrent import GruConfig, LstmConfig, build_gru, build_lstm, footprint
from rlrun.types import HeadSpec, Space

BOX = Space("box", (2, 3), np.dtype(np.float32))
FIVE = Space("discrete", (), np.dtype(np.int64), n=5)
POLICY, GAUSSIAN, VALUE = HeadSpec("policy", 4), HeadSpec("policy", 2, log_stds=2), HeadSpec("value", 1)
KINDS = {"lstm": (build_lstm, LstmConfig, 4), "gru": (build_gru, GruConfig, 3)}


def build(kind: str, space: Space = BOX, heads: tuple[HeadSpec, ...] = (POLICY, VALUE), **options: object) -> nn.Module:
    torch.manual_seed(0)
    builder, config, _ = KINDS[kind]
    return builder(config(**({"hidden": [7], "memory_size": 5} | options)), space, *heads)  # type: ignore[operator]


def observations(space: Space, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if space.n:
        return torch.randint(space.n, (count,), generator=generator)
    return torch.randn(count, *space.shape, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
def test_a_sequence_is_a_loop_over_its_steps(kind: str, shared: bool) -> None:
    """Outputs, memory and every gradient: 6 steps of 3 sequences in one call, and step by step."""
    network = build(kind, shared=shared)
    assert network.memory_size == (10 if kind == "lstm" else 5) * (1 if shared else 2)
    obs, first = observations(BOX, 18), torch.randn(3, network.memory_size)
    (policy, value), after = network(obs, first)
    memory, steps = first, []
    for t in range(6):
        outputs, memory = network(obs[3 * t : 3 * t + 3], memory)
        steps.append(outputs)
    looped = [torch.cat(parts) for parts in zip(*steps, strict=True)]
    for one, other in zip((policy, value, after), (*looped, memory), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    parameters = list(network.parameters())
    whole = torch.autograd.grad((policy.square().sum() + (value * policy[:, :1]).sum()), parameters)
    by_step = torch.autograd.grad((looped[0].square().sum() + (looped[1] * looped[0][:, :1]).sum()), parameters)
    for one, other in zip(whole, by_step, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cell", "layer"), [(networks.Lstm(4, 3), nn.LSTM(4, 3)), (networks.Gru(4, 3), nn.GRU(4, 3))])
def test_cells_compute_what_the_layers_of_torch_do(cell: nn.Module, layer: nn.Module) -> None:
    layer.load_state_dict({f"{name}_l0": weight for name, weight in cell.state_dict().items()})
    x, memory = torch.randn(5, 2, 4), torch.randn(2, cell.memory_size)
    parts = [part.contiguous() for part in memory[None].split(3, -1)]
    expected, last = layer(x, tuple(parts) if len(parts) == 2 else parts[0])
    output, after = cell(x.flatten(0, 1), memory)
    torch.testing.assert_close(output, expected.flatten(0, 1))
    torch.testing.assert_close(after, torch.cat(last, -1)[0] if isinstance(last, tuple) else last[0])


@pytest.mark.parametrize(
    ("kind", "space", "heads", "options"),
    [
        *itertools.product(KINDS, [BOX, FIVE], [(VALUE,), (POLICY, VALUE), (GAUSSIAN, VALUE)], [{}, {"shared": True}]),
        ("lstm", BOX, (POLICY, VALUE), {"activation": "tanh", "layer_norm": True, "hidden": [6, 4]}),
        ("gru", BOX, (POLICY, VALUE), {"hidden": []}),
        ("lstm", BOX, (POLICY, VALUE), {"activation": "gelu"}),  # has no numpy twin: the torch path
    ],
)
@pytest.mark.parametrize("count", [1, 3, NUMPY_BATCH + 1])
def test_acting_and_learning_see_the_same(kind: str, space: Space, heads: tuple, options: dict, count: int) -> None:
    network = build(kind, space, heads, **options)
    inference = Inference(network)
    assert (translate(network) is None) == (options.get("activation") == "gelu")
    obs, memory = observations(space, count).numpy(), np.zeros((count, network.memory_size), np.float32)
    for _ in range(3):  # each time with other weights: the numpy arrays are views
        before = memory.copy()
        fast, after = inference(obs, memory)
        slow, expected = inference.torch(obs, memory)
        for one, other in zip(fast if len(heads) > 1 else (fast,), slow if len(heads) > 1 else (slow,), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)
        assert after.dtype == np.float32 and np.array_equal(memory, before)
        memory = after
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))


def test_large_gates_saturate_in_silence() -> None:
    network = build("lstm")
    with torch.no_grad():
        network.torsos[0].cell.bias_ih.fill_(-1e4)
    with np.errstate(all="raise"):
        _, memory = Inference(network)(np.ones((2, 2, 3), np.float32), np.zeros((2, 20), np.float32))
    assert np.isfinite(memory).all() and (memory[:, :5] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"shared": True, "layer_norm": True}, {"hidden": []}])
def test_parameters_are_declared(kind: str, options: dict) -> None:
    _, config, gates = KINDS[kind]
    network = build(kind, **options)
    cfg = config(**({"hidden": [7], "memory_size": 5} | options))
    assert sum(p.numel() for p in network.parameters()) == footprint(gates)(cfg, BOX, POLICY, VALUE)


@pytest.mark.parametrize("dueling", [False, True])
def test_parameters_of_quantiles_are_declared(dueling: bool) -> None:
    cfg, head = GruConfig(hidden=[7], memory_size=5, dueling=dueling), HeadSpec("q", 3, fractions=4)
    assert sum(p.numel() for p in build_gru(cfg, BOX, head).parameters()) == footprint(3)(cfg, BOX, head)


def test_orthogonal_start() -> None:
    """Columns of norm 1 in the cell, a near-uniform policy, no biases."""
    network = build("lstm", init="orthogonal")
    cell = network.torsos[0].cell
    torch.testing.assert_close(cell.weight_hh.T @ cell.weight_hh, torch.eye(5))
    torch.testing.assert_close(network.heads[0].weight.norm(dim=1), torch.full((4,), 0.01))
    torch.testing.assert_close(network.heads[1].weight.norm(), torch.tensor(1.0))
    assert all(p.abs().max() == 0 for name, p in network.named_parameters() if "bias" in name)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"memory_size: must be in \[1, 100000\]"):
        LstmConfig(memory_size=0)
    with pytest.raises(ConfigError, match="did you mean 'relu'"):
        GruConfig(activation="rellu")
