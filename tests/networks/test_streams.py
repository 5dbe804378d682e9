"""Dueling, noisy and implicit-quantile heads by hand, and their numpy twins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from rlrun.errors import ConfigError
from rlrun.networks import Inference, Network, NetworkConfig, chain
from rlrun.networks.builder import CnnConfig, build_cnn, build_mlp, footprint
from rlrun.networks.dueling import Dueling
from rlrun.networks.inference import translate
from rlrun.networks.noisy import FactorisedLinear, IndependentLinear, Stream
from rlrun.networks.recurrent import GruConfig, build_gru
from rlrun.types import HeadSpec, Space

BOX = Space("box", (3,), np.dtype(np.float32))
Q, ATOMS, QUANTILES = HeadSpec("q", 2), HeadSpec("q", 2 * 5, atoms=5), HeadSpec("q", 2, fractions=4)


def build(head: HeadSpec = Q, **options: Any) -> Network:
    torch.manual_seed(0)
    return build_mlp(NetworkConfig(hidden=[6, 5], **options), BOX, head)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


KINDS = [{"dueling": True}, {"noisy": "factorised"}, {"noisy": "independent", "dueling": True}, {"layer_norm": True}]


@pytest.mark.parametrize("head", [Q, ATOMS, QUANTILES], ids=["q", "atoms", "quantiles"])
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_acting_and_learning_see_the_same_outputs(head: HeadSpec, options: dict[str, Any]) -> None:
    network = build(head, **options)
    assert translate(network) is not None
    inference, obs = Inference(network), normal(3, 3).numpy()
    noises = [[]] + ([[normal(3, network.units).numpy()]] if network.units else [])
    for noise in noises:
        fast, slow = inference(obs, *noise), inference.torch(obs, *noise)
        assert fast.dtype == np.float32
        np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-5)
    assert inference(obs).shape == ((3, 4, 2) if head.fractions else (3, head.size))
    assert bool(network.units) is ("noisy" in options)
    if network.units:
        assert np.abs(inference(obs) - inference(obs, *noises[1])).max() > 1e-3


def test_a_value_and_advantages_around_their_mean_over_actions() -> None:
    """Of every atom by itself, for each state by itself."""
    network, obs = build(ATOMS, dueling=True), normal(7, 3)
    (head,) = [module for module in network.modules() if isinstance(module, Dueling)]
    features = network.branches[0][1](network.branches[0][0](obs))
    assert features.shape == (7, 6)
    value, advantage = head.value(features), head.advantage(features).reshape(7, 2, 5)
    for b in range(7):
        for atom in range(5):
            mean = (advantage[b, 0, atom] + advantage[b, 1, atom]) / 2
            for action in range(2):
                expected = value[b, atom] + advantage[b, action, atom] - mean
                assert network(obs)[b, 5 * action + atom].item() == pytest.approx(expected.item(), abs=1e-6)
    assert not any(isinstance(layer, nn.ReLU) for layer in [head.value[-1], head.advantage[-1]])


def test_factorised_noise_by_hand() -> None:
    """f(x) = sgn(x) sqrt|x|; the bias takes the outputs' share alone. One draw for all rows, or each its own."""
    torch.manual_seed(0)
    layer, x = FactorisedLinear(3, 2, sigma0=0.5), normal(4, 3)
    noise = torch.tensor([4.0, -1.0, 0.25, -9.0, 0.0])
    f_in, f_out = [2.0, -1.0, 0.5], [-3.0, 0.0]
    assert layer.weight_sigma.unique().item() == pytest.approx(0.5 / math.sqrt(3))
    assert layer.bias_sigma.unique().item() == pytest.approx(0.5 / math.sqrt(3))
    bound = 1 / math.sqrt(3)
    assert layer.weight.abs().max() <= bound
    for row in range(4):
        for out in range(2):
            weights = [layer.weight[out, i] + layer.weight_sigma[out, i] * f_out[out] * f_in[i] for i in range(3)]
            y = sum(w * x[row, i] for i, w in enumerate(weights)) + layer.bias[out] + layer.bias_sigma[out] * f_out[out]
            assert layer(x, noise)[row, out].item() == pytest.approx(y.item(), abs=1e-6)
            assert layer(x, noise.expand(4, 5))[row, out].item() == pytest.approx(y.item(), abs=1e-6)
    assert torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias))


def test_independent_noise_is_distributed_like_sampled_weights() -> None:
    torch.manual_seed(0)
    layer, x = IndependentLinear(3, 2), torch.tensor([1.0, -2.0, 0.5])
    assert layer.weight.abs().max() <= 1
    assert layer.weight_sigma.unique().item() == pytest.approx(0.017)
    with torch.no_grad():
        layer.weight_sigma.mul_(torch.tensor([[5.0, 9.0, 2.0], [1.0, 20.0, 4.0]]))
        outputs = layer(x.expand(50_000, 3), torch.randn(50_000, 2))
        weight = layer.weight + layer.weight_sigma * torch.randn(50_000, 2, 3)
        sampled = weight @ x + layer.bias + layer.bias_sigma * torch.randn(50_000, 2)
    assert outputs.mean(0).tolist() == pytest.approx(sampled.mean(0).tolist(), abs=0.02)
    assert outputs.std(0).tolist() == pytest.approx(sampled.std(0).tolist(), rel=0.03)


def test_every_noisy_layer_takes_its_own_share_of_the_noise() -> None:
    network, obs = build(noisy="factorised"), normal(4, 3)
    assert network.units == (6 + 5) + (5 + 2)
    noise = network.noise(1, 4, torch.Generator().manual_seed(0))[0]
    assert noise.shape == (network.units,)
    first, _, last = network.branches[0][-1]
    features = network.branches[0][1](network.branches[0][0](obs))
    assert torch.equal(network(obs, noise), last(first(features, noise[:11]).relu(), noise[11:]))
    own = build(noisy="independent").noise(3, 4, torch.Generator())
    assert own.shape == (3, 4, 5 + 2)


def test_quantiles_by_hand() -> None:
    network, obs, tau = build(QUANTILES), normal(2, 3), torch.rand(2, 3)
    head = network.branches[0][-1]
    features = network.branches[0][1](network.branches[0][0](obs))
    for b in range(2):
        for n in range(3):
            waves = torch.tensor([math.cos(math.pi * i * tau[b, n].item()) for i in range(64)])
            phi = head.embedding(waves).relu()
            torch.testing.assert_close(network(obs, tau=tau)[b, n], head.values(features[b] * phi))
    spread = torch.tensor([[0.125, 0.375, 0.625, 0.875]]).expand(2, 4)
    torch.testing.assert_close(network(obs), network(obs, tau=spread))


@pytest.mark.parametrize("head", [Q, ATOMS, QUANTILES], ids=["q", "atoms", "quantiles"])
@pytest.mark.parametrize("options", [*KINDS, {"shared": True, "dueling": True}], ids=str)
def test_parameters_are_counted(head: HeadSpec, options: dict[str, Any]) -> None:
    cfg = NetworkConfig(hidden=[6, 5], **options)
    assert footprint(cfg, BOX, head) == sum(p.numel() for p in build_mlp(cfg, BOX, head).parameters())


def test_a_network_that_remembers_has_streams_behind_its_memory() -> None:
    network = build_gru(GruConfig(hidden=[4], memory_size=5, dueling=True), BOX, Q)
    (head,) = network.heads
    assert isinstance(head, Dueling)
    assert [len(head.value), head.value[0].in_features] == [1, 5]
    with pytest.raises(ConfigError, match=r"network.noisy: gru has no noisy layers"):
        build_gru(GruConfig(noisy="factorised"), BOX, Q)


def test_orthogonal_start_reaches_every_stream() -> None:
    network = build(init="orthogonal", dueling=True)
    head = network.branches[0][-1]
    for stream in (head.value, head.advantage):
        torch.testing.assert_close(stream[0].weight.norm(dim=1), torch.full((5,), math.sqrt(2)))
        torch.testing.assert_close(stream[-1].weight.norm(dim=1), torch.ones(len(stream[-1].weight)))


def test_what_cannot_be_is_refused() -> None:
    policy = HeadSpec("policy", 2)
    for options, why in (
        ({"dueling": True}, r"network\.dueling: is for networks that give action values"),
        ({"noisy": "factorised"}, r"network\.noisy: this algorithm does not explore by noise on weights"),
    ):
        with pytest.raises(ConfigError, match=why):
            build_mlp(NetworkConfig(**options), BOX, policy, HeadSpec("value", 1))
        with pytest.raises(ConfigError, match="plain layers in a row"):
            chain(build(**options))
    with pytest.raises(ConfigError, match=r"did you mean 'factorised'"):
        NetworkConfig(noisy="factorized")
    with pytest.raises(ConfigError, match=r"sigma0: has no meaning with noisy=none"):
        NetworkConfig(sigma0=0.1)
    assert isinstance(build(noisy="factorised").branches[0][-1], Stream)


@pytest.mark.parametrize("noisy", ["factorised", "independent"])
@pytest.mark.parametrize("conv", ["nips", "nature", "impala"])
def test_convolutions_stand_before_the_streams(conv: str, noisy: str) -> None:
    """As in the papers: each stream has a fully connected layer behind them, which is noisy like its output."""
    space = Space("box", (2, 40, 40), np.dtype(np.uint8), low=np.zeros((2, 40, 40)), high=np.full((2, 40, 40), 255.0))
    cfg = CnnConfig(conv=conv, hidden=[8], dueling=True, noisy=noisy)
    network = build_cnn(cfg, space, QUANTILES)
    head = network.branches[0][-1].values
    kind = FactorisedLinear if noisy == "factorised" else IndependentLinear
    assert [type(layer) for layer in head.value] == [kind, nn.ReLU, kind]
    assert footprint(cfg, space, QUANTILES) == sum(p.numel() for p in network.parameters())
    obs = np.random.default_rng(0).integers(256, size=(3, 2, 40, 40), dtype=np.uint8)
    noise = network.noise(1, 3, torch.Generator().manual_seed(0))[0]
    assert network(torch.from_numpy(obs), noise, torch.rand(3, 6)).shape == (3, 6, 2)
    inference = Inference(network)
    rows = np.random.default_rng(1).standard_normal((3, network.units), np.float32)
    assert inference(obs).shape == inference(obs, rows).shape == (3, 4, 2)
    assert not np.allclose(inference(obs), inference(obs, rows))
