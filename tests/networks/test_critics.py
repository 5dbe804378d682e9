"""Critics that are asked at once, against as many networks asked one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrun.networks import NetworkConfig
from rlrun.networks.builder import CnnConfig, build_cnn, build_mlp, footprint
from rlrun.networks.critics import Critics
from rlrun.networks.torsos import mlp
from rlrun.types import HeadSpec, Space

OBS = Space("box", (3,), np.dtype(np.float32))
ACTION = Space(
    "box", (2,), np.dtype(np.float32), low=np.array([-2.0, 0.0], np.float32), high=np.array([2.0, 1.0], np.float32)
)
FREE = ACTION._replace(low=np.array([-np.inf, 0], np.float32))


def head(critics: int = 3, size: int = 1, action: Space | None = ACTION) -> HeadSpec:
    return HeadSpec("critic", size, critics=critics, action=action)


def alone(critics: Critics, n: int, layer_norm: bool, size: int) -> nn.Sequential:
    """A network of its own with the weights of the nth critic."""
    network = nn.Sequential(*mlp(5, [8, 8], "relu", layer_norm), nn.Linear(8, size))
    for layer, stack in zip(network, critics.layers, strict=True):
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            weight = stack.weight[n].T if isinstance(layer, nn.Linear) else stack.weight[n, 0]
            layer.load_state_dict({"weight": weight, "bias": stack.bias[n, 0]})
    return network


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("size", [1, 4])
def test_values_and_gradients_are_those_of_separate_networks(size: int, layer_norm: bool) -> None:
    critics = build_mlp(NetworkConfig(hidden=[8, 8], layer_norm=layer_norm), OBS, head(size=size))
    with torch.no_grad():
        for parameter in critics.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    obs, action = torch.randn(6, 3), torch.tensor([[2.0, 0.5]]) * torch.rand(6, 2)
    action.requires_grad_()
    values = critics(obs, action)
    assert values.shape == (3, 6, size)
    seen = torch.cat([obs, torch.stack([action[:, 0] / 2, 2 * action[:, 1] - 1], 1)], 1)  # in half ranges
    separate = [alone(critics, n, layer_norm, size) for n in range(3)]
    expected = torch.stack([network(seen) for network in separate])
    torch.testing.assert_close(values, expected)

    def slopes(values: Tensor, at: Tensor) -> Tensor:
        return torch.autograd.grad(values.square().sum(), at, retain_graph=True)[0]

    torch.testing.assert_close(slopes(values, action), slopes(expected, action))
    first = [network[0].weight for network in separate]
    theirs = torch.stack([slopes(expected, weight) for weight in first])
    torch.testing.assert_close(slopes(values, critics.layers[0].weight).mT, theirs)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("among", [None, slice(1), torch.tensor([2, 0])], ids=["all", "first", "some"])
def test_as_one_step_of_autograd_they_are_what_they_are_layer_by_layer(size: int, among: Any) -> None:
    critics = build_mlp(NetworkConfig(hidden=[8, 5]), OBS, head(size=size))
    obs, action = torch.randn(6, 3), torch.randn(6, 2, requires_grad=True)
    weights, found = [*critics.parameters()], []
    assert critics.layers.rectified is not None
    for layers in (critics.layers.rectified, None):
        critics.layers.rectified = layers
        values = critics(obs, action, among=among)
        loss = values.square().sum()
        found.append([values, *torch.autograd.grad(loss, [action, *weights])])
        with torch.no_grad():
            assert critics(obs, action, among=among).equal(values)
    assert all(mine.equal(its) for mine, its in zip(*found, strict=True))


def test_some_can_be_asked_alone() -> None:
    critics = build_mlp(NetworkConfig(), OBS, head())
    obs, action = torch.randn(4, 3), torch.rand(4, 2)
    values = critics(obs, action)
    torch.testing.assert_close(critics(obs, action, slice(1)), values[:1])
    torch.testing.assert_close(critics(obs, action, torch.tensor([2, 0])), values[[2, 0]])


def test_members_begin_like_networks_built_one_after_the_other() -> None:
    torch.manual_seed(7)
    critics = build_mlp(NetworkConfig(hidden=[8, 8]), OBS, head(critics=2))
    torch.manual_seed(7)
    networks = [nn.Sequential(*mlp(5, [8, 8], "relu", False), nn.Linear(8, 1)) for _ in range(2)]
    for n, network in enumerate(networks):
        mine = zip(network.parameters(), alone(critics, n, False, 1).parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in mine)


def test_critics_of_discrete_actions_are_shown_none() -> None:
    critics = build_mlp(NetworkConfig(), OBS, head(critics=2, size=4, action=None))
    assert critics(torch.randn(5, 3)).shape == (2, 5, 4)


def test_a_dimension_without_bounds_is_shown_as_it_is() -> None:
    critics = build_mlp(NetworkConfig(), OBS, head(action=FREE))
    assert critics.middle.tolist() == [0.0, 0.5] and critics.factor.tolist() == [1.0, 2.0]


def test_a_dimension_of_a_single_value_is_shown_as_0() -> None:
    still = ACTION._replace(low=np.array([-2.0, 1.0], np.float32))
    critics: Any = build_mlp(NetworkConfig(), OBS, head(action=still))
    action = torch.tensor([[1.0, 1.0]])
    np.testing.assert_array_equal(((action - critics.middle) * critics.factor).numpy(), [[0.5, 0.0]])


def test_pictures_and_records_are_encoded_as_elsewhere() -> None:
    picture = Space("box", (3, 36, 36), np.dtype(np.uint8), low=np.zeros((3, 36, 36)), high=np.full((3, 36, 36), 255))
    both = Space("dict", (), np.dtype([("a", "f4", (3,)), ("b", "u1", (3, 36, 36))]), fields={"a": OBS, "b": picture})
    frames = torch.zeros(2, 3, 36, 36, dtype=torch.uint8)
    for space, obs in ((picture, frames), (both, {"a": torch.zeros(2, 3), "b": frames})):
        critics = build_cnn(CnnConfig(hidden=[16]), space, head(critics=2))
        assert critics(obs, torch.zeros(2, 2)).shape == (2, 2, 1)


def test_orthogonal_start() -> None:
    critics = build_mlp(NetworkConfig(hidden=[8], init="orthogonal"), OBS, head(critics=2))
    first, last = (critics.layers[i].weight for i in (0, 2))
    for n in range(2):
        torch.testing.assert_close(first[n] @ first[n].T, 2 * torch.eye(5))
        torch.testing.assert_close(last[n].T @ last[n], torch.eye(1))
    assert not torch.equal(first[0], first[1])


def test_the_declared_number_of_parameters() -> None:
    for cfg in (NetworkConfig(), NetworkConfig(hidden=[], layer_norm=True), NetworkConfig(layer_norm=True)):
        built = sum(parameter.numel() for parameter in build_mlp(cfg, OBS, head()).parameters())
        assert footprint(cfg, OBS, head()) == built
