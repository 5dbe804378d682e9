"""Adam against torch's, the two ways of running it against each other, and clipping by hand."""

from __future__ import annotations

import copy
import shutil
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlrun.compute.update import BETA1, BETA2, MAX_PENDING, Adam, GraphAdam, UpdateMeans, clip_divisor


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def loss(module: Any, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    error = module(x) - y
    return error.square().mean(), {"error": error.abs().mean()}


def data(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 3, generator=generator), torch.randn(16, 2, generator=generator)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("max_grad_norm", [None, 0.05, 100.0])
def test_ten_steps_are_those_of_torch(max_grad_norm: float | None) -> None:
    ours, theirs = net(), net()
    update = Adam(loss, ours, max_grad_norm=max_grad_norm, eps=1e-5)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(BETA1, BETA2), eps=1e-5)
    for step in range(10):
        update(*data(step), learning_rate=0.01)
        optimiser.zero_grad()
        loss(theirs, *data(step))[0].backward()
        if max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_grad_norm)
        optimiser.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=2e-5, atol=2e-6)


def test_gradients_of_any_layout_give_the_right_step() -> None:
    """The fused kernel ignores strides: a weight used transposed has a gradient laid out the other way round."""

    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.baddbmm(torch.zeros(1), x[None], self.weight.t()[None])[0]

    ours, theirs = Transposed(), Transposed()
    Adam(loss, ours)(*data(0), learning_rate=0.1)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=0.1)
    loss(theirs, *data(0))[0].backward()
    optimiser.step()
    torch.testing.assert_close(weights(ours), weights(theirs))


def test_what_comes_back_is_detached() -> None:
    aux = Adam(loss, net())(*data(0), learning_rate=0.01)
    assert set(aux) == {"loss", "error"}
    assert not any(value.requires_grad for value in aux.values())


@pytest.mark.parametrize("updates", [1, 3, MAX_PENDING, 2 * MAX_PENDING + 7])
def test_means_over_updates(updates: int) -> None:
    means, values = UpdateMeans(), [0.5 + i % 7 for i in range(updates)]
    assert means.take() == {}
    for value in values:
        means.add({"loss": torch.tensor(value), "learning_rate": value})
    taken = means.take()
    assert isinstance(taken["loss"], Tensor)
    assert float(taken["loss"]) == pytest.approx(statistics.fmean(values))
    assert taken["learning_rate"] == pytest.approx(statistics.fmean(values))
    assert means.take() == {}


def test_state_goes_on_elsewhere() -> None:
    first = net()
    update = Adam(loss, first, max_grad_norm=1.0)
    update(*data(0), learning_rate=0.01)
    second = copy.deepcopy(first)
    resumed = Adam(loss, second, max_grad_norm=1.0)
    resumed.load_state_dict(update.state_dict())
    update(*data(1), learning_rate=0.01)
    resumed(*data(1), learning_rate=0.01)
    assert torch.equal(weights(first), weights(second))


def test_a_state_of_another_network_is_refused() -> None:
    state = Adam(loss, net()).state_dict()
    with pytest.raises(ValueError, match=r"shape \(8, 3\), expected \(4, 3\)"):
        Adam(loss, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))).load_state_dict(state)


def test_clipping_by_hand() -> None:
    """Norms 3 and 4 together are 5: clipped to 1 the gradients are divided by 5, clipped to 10 by 1."""
    grads = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    assert clip_divisor(grads, 1.0).item() == pytest.approx(5)
    assert clip_divisor(grads, 10.0).item() == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_the_graph_takes_the_same_steps() -> None:
    eager, graph = net(), net()
    one, other = Adam(loss, eager, max_grad_norm=0.5), GraphAdam(loss, graph, max_grad_norm=0.5)
    for step in range(5):
        a = one(*data(step), learning_rate=0.01 / (step + 1))
        b = other(*data(step), learning_rate=0.01 / (step + 1))
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(weights(eager), weights(graph))
    other.load_state_dict(one.state_dict())
    one(*data(9), learning_rate=0.01)
    other(*data(9), learning_rate=0.01)
    torch.testing.assert_close(weights(eager), weights(graph))
