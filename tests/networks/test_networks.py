"""Networks by hand-counted shapes, and the numpy twin that acts against torch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from rlrun.errors import ConfigError
from rlrun.networks import Inference, Network, NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.networks.inference import NUMPY_BATCH, translate
from rlrun.networks.layers import Tanh
from rlrun.types import HeadSpec, Space

BOX = Space("box", (2, 3), np.dtype(np.float32))
FIVE = Space("discrete", (), np.dtype(np.int64), n=5)
Q, POLICY, GAUSSIAN, VALUE = (
    HeadSpec("q", 4),
    HeadSpec("policy", 4),
    HeadSpec("policy", 2, log_stds=2),
    HeadSpec("value", 1),
)


def observations(space: Space, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(5, size=count) if space.n else rng.normal(size=(count, *space.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("space", "heads", "options"),
    [
        *itertools.product([BOX, FIVE], [[Q], [POLICY, VALUE], [GAUSSIAN, VALUE]], [{}, {"shared": True}]),
        (BOX, [Q], {"activation": "tanh", "layer_norm": True}),
        (BOX, [Q], {"hidden": []}),
        (BOX, [Q], {"activation": "gelu"}),  # has no numpy twin: the torch path
    ],
)
@pytest.mark.parametrize("count", [1, 3, NUMPY_BATCH + 1])
def test_acting_and_learning_see_the_same_outputs(space: Space, heads: list, options: dict, count: int) -> None:
    torch.manual_seed(0)
    network = build_mlp(NetworkConfig(**options), space, *heads)
    inference = Inference(network)
    obs = observations(space, count)
    for _ in range(2):  # the second time with other weights: the numpy arrays are views
        fast, slow = inference(obs), inference.torch(obs)
        for one, other in zip(*(out if isinstance(out, tuple) else (out,) for out in (fast, slow)), strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
            assert (one.argmax(1) == other.argmax(1)).all()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))


def test_known_layers_take_the_numpy_path_and_others_do_not() -> None:
    assert translate(build_mlp(NetworkConfig(), BOX, POLICY, VALUE)) is not None
    assert translate(build_mlp(NetworkConfig(activation="gelu"), BOX, Q)) is None

    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    assert translate(Network(nn.Sequential(), [nn.Sequential(Doubled(3, 3))])) is None


@pytest.mark.parametrize("layer", [nn.LayerNorm(3, elementwise_affine=False), nn.LayerNorm((2, 3))])
def test_layers_with_options_the_twin_lacks_take_the_torch_path(layer: nn.Module) -> None:
    assert translate(Network(nn.Sequential(), [nn.Sequential(layer)])) is None


def test_acting_leaves_observations_alone() -> None:
    network = Network(nn.Sequential(), [nn.Sequential(nn.ReLU(), nn.Linear(3, 2))])
    obs = np.array([[-1.0, 2.0, -3.0]], np.float32)
    Inference(network)(obs)
    assert obs.tolist() == [[-1.0, 2.0, -3.0]]


def test_a_shared_torso_is_one() -> None:
    """6 inputs, 64-64 torso: 448 + 4160 parameters, once or once per head; heads 260 and 65."""
    torso, heads = 448 + 4160, 260 + 65
    for shared, expected in ((True, torso + heads), (False, 2 * torso + heads)):
        network = build_mlp(NetworkConfig(shared=shared), BOX, POLICY, VALUE)
        assert sum(p.numel() for p in network.parameters()) == expected


def test_orthogonal_start() -> None:
    """Rows of norm sqrt(2) in the torso, 0.01 in the policy head, 1 in the value head; no biases."""
    network = build_mlp(NetworkConfig(hidden=[4, 4], init="orthogonal"), BOX, POLICY, VALUE)
    hidden, policy, value = network.branches[0][0], network.branches[0][-1], network.branches[1][-1]
    for layer, gain in ((hidden, math.sqrt(2)), (policy, 0.01), (value, 1.0)):
        torch.testing.assert_close(layer.weight.norm(dim=1), torch.full((len(layer.weight),), gain))
        assert layer.bias.abs().max() == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'relu'"):
        NetworkConfig(activation="rellu")
    with pytest.raises(ConfigError, match=r"hidden: must be in \[1, 1000000\]"):
        NetworkConfig(hidden=[64, 0])


def test_tanh_is_tanh() -> None:
    """To the last digits of float32, gradient included, also where it saturates."""
    x = torch.linspace(-30, 30, 601, requires_grad=True)
    ours, theirs = Tanh()(x), torch.tanh(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-7)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), x), torch.autograd.grad(theirs.sum(), x))
