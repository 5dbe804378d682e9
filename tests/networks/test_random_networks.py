"""Networks that take random numbers, and several networks in one: dropout, Gaussian weights, ensembles."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from rlrun.networks import Network, chain
from rlrun.networks.bayesian import BayesianLinear, BayesianNetwork, gaussian_kl
from rlrun.networks.builder import NetworkConfig, build_mlp
from rlrun.networks.dropout import Dropout, DropoutInference
from rlrun.networks.ensemble import Ensemble
from rlrun.types import HeadSpec, Space


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mlp(*hidden: int) -> Network:
    """Three inputs, two outputs."""
    return build_mlp(NetworkConfig(hidden=list(hidden)), Space("box", (3,), np.dtype(np.float32)), HeadSpec("q", 2))


# Dropout


def dropout(rate: float, *hidden: int) -> Dropout:
    torch.manual_seed(0)
    return Dropout(chain(mlp(*hidden)), rate)


def test_dropout_by_hand() -> None:
    """A unit goes where its noise is below the rate, the others are doubled at rate 1/2."""
    net = dropout(0.5, 4, 6)
    obs, noise = torch.randn(5, 3), torch.rand(5, 10)
    first, second, head = (layer for layer in net.layers if isinstance(layer, nn.Linear))
    mask = 2.0 * (noise >= 0.5)
    x = first(obs).relu() * mask[:, :4]
    x = second(x).relu() * mask[:, 4:]
    assert torch.allclose(net(obs, noise), head(x))
    assert torch.allclose(net(obs), net.layers(obs))
    assert not torch.allclose(net(obs), net(obs, noise))


def test_dropout_at_rate_zero_takes_no_noise() -> None:
    net = dropout(0.0, 4, 6)
    assert net.units == 0
    assert net.noise((2, 3), torch.Generator()).shape == (2, 3, 0)
    obs = np.ones((2, 3), np.float32)
    act = DropoutInference(net, when_acting=True)
    assert (act.sample(obs, rng()) == act(obs)).all()


def test_dropout_when_acting_draws_per_row() -> None:
    net, obs = dropout(0.25, 20), np.ones((4000, 3), np.float32)
    *hidden, head = net.layers
    clean, random = DropoutInference(net, when_acting=False), DropoutInference(net, when_acting=True)
    assert (clean.sample(obs[:5], rng()) == clean(obs[:5])).all()
    drawn = random.sample(obs, rng(1))
    assert (random.sample(obs, rng(1)) == drawn).all()

    features = DropoutInference(Dropout(hidden, 0.25), when_acting=True)
    units = features.sample(obs, rng(1))  # the same draws, one layer earlier
    assert head(torch.from_numpy(units)).detach().numpy() == pytest.approx(drawn, abs=1e-5)
    active = features(obs[:1])[0] > 0
    assert (units[:, active] == 0).mean(0) == pytest.approx(np.full(active.sum(), 0.25), abs=0.03)
    assert units.mean(0) == pytest.approx(features(obs[:1])[0], abs=0.05)  # what is left makes up for what is not
    assert abs(np.corrcoef(units[:, active].T)[0, 1]) < 0.05


# Gaussian weights


def test_kl_by_hand() -> None:
    """KL(N(1, 4) || N(0, 1)) = (4 + 1 - 1 - ln 4) / 2, and twice nothing for the prior itself."""
    mean, std = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0])
    assert gaussian_kl(mean, std, 1.0).item() == pytest.approx((4 - math.log(4)) / 2)
    assert gaussian_kl(torch.zeros(3), torch.full((3,), 0.1), 0.1).item() == pytest.approx(0, abs=1e-6)


def test_bayesian_layer_is_distributed_like_sampled_weights() -> None:
    torch.manual_seed(0)
    layer, x = BayesianLinear(nn.Linear(3, 2), std=0.3), torch.tensor([1.0, -2.0, 0.5])
    with torch.no_grad():
        layer.weight_rho += torch.randn(2, 3)
        layer.bias_rho += torch.randn(2)
        outputs = layer(x.expand(50_000, 3), torch.randn(50_000, 2))
        w = layer.mean.weight + nn.functional.softplus(layer.weight_rho) * torch.randn(50_000, 2, 3)
        b = layer.mean.bias + nn.functional.softplus(layer.bias_rho) * torch.randn(50_000, 2)
        sampled = (w @ x) + b
    assert outputs.mean(0).tolist() == pytest.approx(sampled.mean(0).tolist(), abs=0.05)
    assert outputs.std(0).tolist() == pytest.approx(sampled.std(0).tolist(), rel=0.03)
    assert abs(torch.corrcoef(outputs.T)[0, 1]) < 0.03


def test_bayesian_network_starts_around_its_layers() -> None:
    network = mlp(4, 5)
    layers, obs = chain(network), torch.randn(6, 3)
    bayesian = BayesianNetwork(layers, std=0.05, prior_std=0.1)
    assert bayesian.units == 4 + 5 + 2
    output, kl = bayesian(obs, torch.zeros(6, 11))
    assert torch.allclose(output, network(obs))
    flat = torch.cat([p.flatten() for p in network.parameters()])
    expected = len(flat) * (math.log(2) + 0.125 - 0.5) + (flat.square().sum() / 0.02).item()
    assert kl.item() == pytest.approx(expected, rel=1e-5)
    assert bayesian.noise((2, 6), torch.Generator()).shape == (2, 6, 11)


# Ensembles


def test_ensemble_computes_what_its_members_do() -> None:
    nets = [Dropout(chain(mlp(5)), rate=0.0) for _ in range(3)]
    alone = [copy.deepcopy(net) for net in nets]
    ensemble, obs = Ensemble(nets), torch.randn(3, 7, 3)
    outputs = torch.stack([net(rows) for net, rows in zip(alone, obs, strict=True)])
    assert torch.allclose(ensemble(obs), outputs, atol=1e-6)
    assert sum(p.numel() for p in ensemble.parameters()) == 3 * sum(p.numel() for p in nets[0].parameters())
    with torch.no_grad():
        for stack in ensemble.parameters():
            stack[1] += 1.0
    act = DropoutInference(nets[1], False)
    assert act(obs[1].numpy()) == pytest.approx(ensemble(obs)[1].detach().numpy(), abs=1e-5)
    assert torch.allclose(nets[2](obs[2]), outputs[2], atol=1e-6)
