"""The eager update against torch's optimisers, its parts, its bursts, and clipping by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlrun.compute.rules import SGD, Adam, RMSProp, Rule, clip_divisor, clip_share
from rlrun.compute.update import Update
from rlrun.errors import RlrunError
from rlrun.networks.nets import Nets
from rlrun.networks.target import TargetNet

BETAS = (0.9, 0.999)


def nets() -> Nets:
    torch.manual_seed(0)
    return Nets(net=nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)))


def loss(nets: Nets, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    error = nets.net(batch["x"]) - batch["y"]
    return error.square().mean(), {"error": error.abs().mean()}


def data(seed: int, *stacked: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(*stacked, 16, size, generator=generator) for key, size in (("x", 3), ("y", 2))}


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("max_grad_norm", [None, 0.05, 100.0])
def test_ten_steps_are_those_of_torch(max_grad_norm: float | None) -> None:
    ours, theirs = nets(), nets()
    update = Update(loss, ours, "net", Adam(eps=1e-5), max_grad_norm=max_grad_norm)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=BETAS, eps=1e-5)
    for step in range(10):
        update(data(step), learning_rate=0.01)
        optimiser.zero_grad()
        loss(theirs, data(step))[0].backward()
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

    ours, theirs = Nets(net=Transposed()), Nets(net=Transposed())
    Update(loss, ours, "net", Adam())(data(0), learning_rate=0.1)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=0.1)
    loss(theirs, data(0))[0].backward()
    optimiser.step()
    torch.testing.assert_close(weights(ours), weights(theirs))


@pytest.mark.parametrize("way", ["at once", "from elsewhere"])
def test_weights_with_the_channels_last_make_the_same_steps(way: str) -> None:
    """Whatever the layout of the gradients."""

    def steps(memory_format: torch.memory_format) -> Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Unflatten(1, (3, 4, 4)), nn.Conv2d(3, 5, 2), nn.Flatten(), nn.Linear(45, 2))
        ours = Nets(net=net.to(memory_format=memory_format))
        update = Update(loss, ours, "net", Adam(), max_grad_norm=0.05)
        for step in range(3):
            batch = {"x": torch.randn(16, 48), "y": torch.randn(16, 2)}
            grads, _ = update.gradients(batch)
            if way == "from elsewhere":
                grads = [g.contiguous() for g in grads]
            update.apply(grads, 0.1 + step)
        return torch.cat([weights(ours), *[moment.flatten() for moment in update.slots["square"]]])

    torch.testing.assert_close(steps(torch.channels_last), steps(torch.contiguous_format))


def test_a_parameter_of_any_layout_makes_the_same_steps() -> None:
    """One that a network of one's own has turned round."""
    ours, theirs = nets(), nets()
    for layer in (layer for layer in ours.net if isinstance(layer, nn.Linear)):
        layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    for step in range(3):
        for both in (ours, theirs):
            update = Update(loss, both, "net", Adam(), max_grad_norm=0.05)
            update(data(step), learning_rate=0.1)
    assert not all(parameter.is_contiguous() for parameter in ours.parameters())
    torch.testing.assert_close(weights(ours), weights(theirs))


@pytest.mark.parametrize("rule", [Adam(), RMSProp(), SGD()])
def test_parameters_that_are_added_up_make_a_step_each(rule: Rule) -> None:
    """Autograd gives both the same gradient, and a step changes gradients in place."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = (nn.Parameter(torch.arange(6.0).reshape(2, 3)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.one + self.other).T

    ours, theirs = Nets(net=Sum()), Nets(net=Sum())
    Update(loss, ours, "net", rule, max_grad_norm=0.05)(data(0), learning_rate=0.1)
    update = Update(loss, theirs, "net", rule, max_grad_norm=0.05)
    grads, _ = update.gradients(data(0))
    update.apply([grad.clone() for grad in grads], 0.1)
    torch.testing.assert_close(weights(ours), weights(theirs))


def test_what_comes_back_is_detached() -> None:
    aux = Update(loss, nets(), "net", Adam())(data(0), learning_rate=0.01)
    assert set(aux) == {"loss", "error"}
    assert not any(value.requires_grad for value in aux.values())


def test_a_burst_is_one_update_after_the_other() -> None:
    once, many = nets(), nets()
    one, other = Update(loss, once, "net", Adam()), Update(loss, many, "net", Adam())
    stack = data(0, 5)
    expected = [one({key: x[i] for key, x in stack.items()}, learning_rate=0.01) for i in range(5)]
    pieces = list(other.burst(stack, learning_rate=0.01))
    assert [rows for rows, _ in pieces] == list(range(5))
    assert [aux["loss"] for _, aux in pieces] == [aux["loss"] for aux in expected]
    assert torch.equal(weights(once), weights(many))


def test_gradients_of_one_worker_applied_by_another_are_an_update() -> None:
    ours, worker, learner = nets(), nets(), nets()
    Update(loss, ours, "net", Adam(), max_grad_norm=0.1)(data(0), learning_rate=0.01)
    grads, aux = Update(loss, worker, "net", Adam()).gradients(data(0))
    assert torch.equal(aux["loss"], loss(learner, data(0))[0].detach())
    assert torch.equal(weights(worker), weights(learner)), "to look for a gradient moves nothing"
    Update(loss, learner, "net", Adam(), max_grad_norm=0.1).apply(grads, learning_rate=0.01)
    assert torch.equal(weights(ours), weights(learner))


def test_only_what_is_trained_moves() -> None:
    both = Nets(net=nn.Linear(3, 2), other=nn.Linear(3, 2), scale=nn.Parameter(torch.ones(())))

    def sum_of_both(nets: Nets, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        error = nets.scale * (nets.net(batch["x"]) + nets.other(batch["x"])) - batch["y"]
        return error.square().mean(), {}

    before = copy.deepcopy(both)
    Update(sum_of_both, both, ["net", "scale"], Adam())(data(0), learning_rate=0.01)
    assert not torch.equal(both.scale, before.scale)
    assert not torch.equal(weights(both.net), weights(before.net))
    assert torch.equal(weights(both.other), weights(before.other))
    with pytest.raises(ValueError, match="'critic'"):
        Update(sum_of_both, both, "critic", Adam())


def test_followers_take_in_a_share_after_every_update() -> None:
    own = nets()
    target = TargetNet(own.net, tau=0.5)
    own.net_target = target.module
    before = weights(target.module)
    update = Update(loss, own, "net", Adam(), followers=[target])
    for i, _ in update.burst(data(0, 3), learning_rate=0.01):
        after = before + 0.5 * (weights(own.net) - before)
        torch.testing.assert_close(weights(target.module), after, msg=f"update {i}")
        before = weights(target.module)


def test_state_goes_on_elsewhere() -> None:
    first = nets()
    update = Update(loss, first, "net", Adam(), max_grad_norm=1.0)
    update(data(0), learning_rate=0.01)
    assert set(update.state_dict()) == {"mean", "square", "step"}
    second = copy.deepcopy(first)
    resumed = Update(loss, second, "net", Adam(), max_grad_norm=1.0)
    resumed.load_state_dict(update.state_dict())
    update(data(1), learning_rate=0.01)
    resumed(data(1), learning_rate=0.01)
    assert torch.equal(weights(first), weights(second))


def test_a_state_of_another_network_is_refused() -> None:
    state = Update(loss, nets(), "net", Adam()).state_dict()
    smaller = Nets(net=nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    with pytest.raises(ValueError, match=r"shape \(8, 3\) was saved, expected \(4, 3\)"):
        Update(loss, smaller, "net", Adam()).load_state_dict(state)


def test_clipping_by_hand() -> None:
    """Norms 3 and 4 together are 5: clipped to 1 the gradients are divided by 5, clipped to 10 by 1."""
    grads = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    assert clip_divisor(grads, 1.0).item() == pytest.approx(5)
    assert clip_divisor(grads, 10.0).item() == 1
    assert clip_share(grads, 1.0).item() == pytest.approx(1 / 5)
    assert clip_share(grads, 10.0).item() == 1
    assert clip_share([torch.zeros(2)], 10.0).item() == 1


def test_nets_put_other_weights_into_all_networks_at_once() -> None:
    own, other = nets(), nets()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    found: Any = torch.func.functional_call(own, dict(other.named_parameters()), (loss, data(0)))
    expected, here = loss(other, data(0))[0], own(loss, data(0))[0]
    assert torch.equal(found[0], expected) and not torch.equal(found[0], here)


def test_a_loss_without_a_gradient_is_told_of() -> None:
    def detached(nets: Nets, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(nets, batch)[0].detach(), {}

    with pytest.raises(RlrunError, match="the loss has no gradient by net\n"):
        Update(detached, nets(), "net", SGD())(data(0), learning_rate=0.1)
