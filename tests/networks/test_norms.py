"""Batch norms, running norms, residual blocks, dropout and unit weights, of one network and of N critics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrun.compute import graph
from rlrun.compute.graph import GraphUpdate
from rlrun.compute.rules import Adam
from rlrun.compute.update import Update
from rlrun.errors import ConfigError
from rlrun.networks import BatchNorm, Inference, Nets, NetworkConfig, RunningNorm, batch_statistics, gather, mlp
from rlrun.networks.builder import build_mlp, footprint, hidden_layers
from rlrun.networks.inference import translate
from rlrun.networks.recurrent import GruConfig, build_gru
from rlrun.networks.residual import Residual
from rlrun.networks.simba import SimbaConfig, build_simba
from rlrun.networks.target import TargetNet
from rlrun.types import MASK, HeadSpec, Space

OBS = Space("box", (3,), np.dtype(np.float32))
ACTION = Space(
    "box", (2,), np.dtype(np.float32), low=np.array([-1.0, -1.0], np.float32), high=np.array([1.0, 1.0], np.float32)
)
POLICY = HeadSpec("policy", 4)
CRITICS = HeadSpec("critic", 2, critics=3, action=ACTION)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- batch normalisation ---------------------------------------------------------------------------------------------


def test_batch_norm_is_that_of_torch() -> None:
    """But for the running variance, which is that of the batch itself and no estimate of its source's."""
    ours, theirs = BatchNorm(4), nn.BatchNorm1d(4, eps=1e-3, momentum=0.01)
    with torch.no_grad():
        for layer in (ours, theirs):
            layer.weight.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
            layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    for step in range(3):
        x = (3 + 2 * normal(10, 4, seed=step)).requires_grad_()
        with batch_statistics(ours):
            found = ours(x)
        torch.testing.assert_close(found, theirs(x))
        slopes = [
            torch.autograd.grad(y.square().sum(), [x, layer.weight, layer.bias], retain_graph=True)
            for y, layer in ((found, ours), (theirs(x), theirs))
        ]
        torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        theirs.running_mean.zero_()
        theirs.running_var.fill_(1)
    ours = BatchNorm(4)
    x = normal(10, 4)
    with batch_statistics(ours):
        ours(x)
    assert ours.mean.tolist() == pytest.approx((0.01 * x.mean(0)).tolist())
    assert ours.var.tolist() == pytest.approx((0.99 + 0.01 * x.var(0, correction=0)).tolist())
    theirs.load_state_dict({**ours.state_dict(), "running_mean": ours.mean, "running_var": ours.var}, strict=False)
    torch.testing.assert_close(ours(x), theirs.eval()(x))


def renormalised(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Algorithm 1 of Ioffe 2017, element by element."""
    y = torch.zeros_like(x)
    for f in range(x.shape[1]):
        mu, sigma = x[:, f].mean(), (x[:, f].var(correction=0) + 1e-3).sqrt()
        running = (var[f] + 1e-3).sqrt()
        r = min(max((sigma / running).item(), 1 / 3), 3)
        d = min(max(((mu - mean[f]) / running).item(), -5), 5)
        for b in range(len(x)):
            y[b, f] = (x[b, f] - mu) / sigma * r + d
    return y


def test_renormalisation_begins_after_so_many_batches() -> None:
    layer, plain = BatchNorm(3, renorm_after=2), BatchNorm(3)
    for step in range(4):
        x = torch.tensor([0.1, 4.0, 90.0]) * normal(8, 3, seed=step) + torch.tensor([0.0, 1.0, 50.0])
        mean, var = layer.mean.clone(), layer.var.clone()
        with batch_statistics(layer, plain):
            found, without = layer(x), plain(x)
        torch.testing.assert_close(found, without if step < 2 else renormalised(x, mean, var), rtol=1e-4, atol=1e-4)
        assert torch.equal(layer.mean, plain.mean)
    assert layer.batches.item() == 4
    inside = BatchNorm(3, renorm_after=0)  # near to the running ones the outputs are theirs
    x = 0.9 * normal(50, 3)
    expected = inside(x)
    with batch_statistics(inside):
        torch.testing.assert_close(inside(x), expected)


def test_a_copy_in_evaluation_mode_goes_by_the_batch_and_gathers_nothing() -> None:
    layer = build_mlp(NetworkConfig(hidden=[5], batch_norm="before"), OBS, CRITICS)
    target = TargetNet(layer, tau=0.5)
    before = [x.clone() for x in target.module.buffers()]
    obs, action = normal(7, 3), normal(7, 2, seed=1)
    with batch_statistics(layer, target.module):
        torch.testing.assert_close(target(obs, action), layer(obs, action))
    assert all(map(torch.equal, before, target.module.buffers()))
    norm = next(x for x in layer.modules() if isinstance(x, BatchNorm))
    assert norm.mean.abs().max() > 0
    target.follow()
    theirs = next(x for x in target.module.modules() if isinstance(x, BatchNorm))
    torch.testing.assert_close(theirs.mean, norm.mean / 2)


@pytest.mark.parametrize("place", ["before", "after"])
def test_norms_stand_at_the_inputs_and_before_or_behind_the_activations(place: str) -> None:
    kinds = [type(layer).__name__ for layer in mlp(3, [4, 5], "relu", False, batch_norm=place)]
    inner = ["Linear", "BatchNorm", "ReLU"] if place == "before" else ["Linear", "ReLU", "BatchNorm"]
    assert kinds == ["BatchNorm", *inner, *inner]


# --- N critics at once -----------------------------------------------------------------------------------------------

KINDS: list[Any] = [
    NetworkConfig(hidden=[8, 6], batch_norm="before"),
    NetworkConfig(hidden=[8, 6], batch_norm="after", renorm_after=1),
    NetworkConfig(hidden=[8, 6], layer_norm=True, weight_norm=True, init="orthogonal"),
    SimbaConfig(hidden=[4, 4], normalize_obs=False),
]


def build(cfg: Any, *heads: HeadSpec) -> Any:
    torch.manual_seed(0)
    return (build_simba if cfg.name == "simba" else build_mlp)(cfg, OBS, *heads)


def alone(cfg: Any, critics: Any, n: int) -> nn.Sequential:
    """A network of its own with the weights of the nth critic."""
    network = nn.Sequential(*hidden_layers(cfg, 5, cfg.hidden), nn.Linear(cfg.hidden[-1], 2))
    rows = dict(critics.layers.named_parameters()) | dict(critics.layers.named_buffers())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        stacked = rows[name]
        mine = stacked if stacked.ndim == 0 else stacked[n] if tensor.ndim == 2 else stacked[n, 0]
        with torch.no_grad():
            tensor.copy_(mine.T if tensor.ndim == 2 else mine)
    return network


@pytest.mark.parametrize("cfg", KINDS, ids=str)
def test_critics_are_as_many_networks_of_their_own(cfg: Any) -> None:
    critics, obs, action = build(cfg, CRITICS), normal(6, 3), normal(6, 2, seed=1).tanh()
    with torch.no_grad():
        for parameter in critics.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    separate = [alone(cfg, critics, n) for n in range(3)]
    seen = torch.cat([obs, action], 1)
    for _ in range(3):
        with batch_statistics(critics, *separate):
            expected = torch.stack([network(seen) for network in separate])
            torch.testing.assert_close(critics(obs, action), expected)
    expected = torch.stack([network(seen) for network in separate])
    torch.testing.assert_close(critics(obs, action), expected)
    torch.testing.assert_close(critics(obs, action, among=torch.tensor([2, 0])), expected[[2, 0]])
    with batch_statistics(critics, *separate):
        few = critics(obs, action, among=slice(1))
        torch.testing.assert_close(few, torch.stack([network(seen) for network in separate])[:1])


def test_dropped_units_by_hand() -> None:
    """DroQ: linear, dropout, LayerNorm, ReLU; every critic and row has noise of its own."""
    head = CRITICS._replace(hidden=(4, 5), layer_norm=True, dropout=0.3)
    critics, obs, action = build(NetworkConfig(hidden=[7]), head), normal(6, 3), normal(6, 2, seed=1).tanh()
    assert critics.units == 9
    noise = critics.noise(2, 6, torch.Generator().manual_seed(0))
    assert noise.shape == (2, 3, 6, 9)
    own = NetworkConfig(hidden=[4, 5], layer_norm=True)
    for n in range(3):
        x, start = torch.cat([obs, action], 1), 0
        for layer in alone_with(own, critics, n):
            x = layer(x)
            if isinstance(layer, nn.Linear) and layer.out_features in (4, 5):
                x = torch.where(noise[0, n, :, start : start + layer.out_features] < 0.3, 0.0, x / 0.7)
                start += layer.out_features
        torch.testing.assert_close(critics(obs, action, noise=noise[0])[n], x)
    torch.testing.assert_close(
        critics(obs, action, among=torch.tensor([2]), noise=noise[0, 2:])[0], critics(obs, action, noise=noise[0])[2]
    )
    plain = critics(obs, action)
    torch.testing.assert_close(plain[1], alone_with(own, critics, 1)(torch.cat([obs, action], 1)))


def alone_with(cfg: NetworkConfig, critics: Any, n: int) -> nn.Sequential:
    """The nth critic as layers in a row, without those that drop units."""
    network = nn.Sequential(*hidden_layers(cfg, 5, cfg.hidden), nn.Linear(cfg.hidden[-1], 2))
    with_weights = [layer for layer in critics.layers if next(layer.parameters(), None) is not None]
    mine = [layer for layer in network if next(layer.parameters(), None) is not None]
    for layer, stack in zip(mine, with_weights, strict=True):
        weight = stack.weight[n].T if isinstance(layer, nn.Linear) else stack.weight[n, 0]
        layer.load_state_dict({"weight": weight, "bias": stack.bias[n, 0]})
    return network


# --- running norms ---------------------------------------------------------------------------------------------------


def test_running_statistics_are_those_of_all_that_was_gathered() -> None:
    layer, rng = RunningNorm(3), np.random.default_rng(0)
    seen = [rng.normal([0, 1e3, -5], [1, 2, 1e-3], (n, 3)).astype(np.float32) for n in (1, 4, 200, 1)]
    x = torch.from_numpy(seen[1])
    assert torch.equal(layer(x), x)
    for n, rows in enumerate(seen):
        layer.gather(rows)
        everything = np.concatenate(seen[: n + 1]).astype(np.float64)
        np.testing.assert_allclose(layer.mean.numpy(), everything.mean(0), rtol=1e-9)
        np.testing.assert_allclose(layer.var.numpy(), everything.var(0) if n else np.ones(3), rtol=1e-6)
    expected = (seen[2] - everything.mean(0)) / np.sqrt(everything.var(0) + 1e-8)
    np.testing.assert_allclose(layer(torch.from_numpy(seen[2])).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_observations_are_gathered_wherever_they_are_normalised() -> None:
    """A Dict's fields each for themselves; pictures, one-hot numbers and masks as they are."""
    fields = {"speed": OBS, "place": Space("discrete", (), np.dtype(np.int64), n=4)}
    dtype = np.dtype([("speed", np.float32, (3,)), ("place", np.int64)])
    space = Space("dict", (), dtype, fields=fields)
    rows = np.zeros(5, dtype)
    rows["speed"] = normal(5, 3).numpy()
    cfg = NetworkConfig(hidden=[4], normalize_obs=True)
    network = build_mlp(cfg, space, POLICY)
    gather(network, rows)
    (norm,) = [layer for layer in network.modules() if isinstance(layer, RunningNorm)]
    assert norm.mean.tolist() == pytest.approx(rows["speed"].mean(0).tolist(), abs=1e-6)
    mask = Space("multi_binary", (2,), np.dtype(bool), nvec=(2, 2))
    masked = Space(
        "dict", (), np.dtype([("obs", np.float32, (3,)), (MASK, bool, (2,))]), fields={"obs": OBS, MASK: mask}
    )
    network, seen = build_mlp(cfg, masked, POLICY), np.zeros(5, masked.dtype)
    seen["obs"] = rows["speed"]
    gather(network, seen)
    (norm,) = [layer for layer in network.modules() if isinstance(layer, RunningNorm)]
    assert norm.count.item() == 5
    assert not [x for x in build_mlp(cfg, fields["place"], POLICY).modules() if isinstance(x, RunningNorm)]


@pytest.mark.parametrize(
    "cfg",
    [
        NetworkConfig(hidden=[8, 6], batch_norm="before"),
        NetworkConfig(hidden=[8, 6], batch_norm="after", normalize_obs=True),
        SimbaConfig(hidden=[5, 5], activation="silu"),
    ],
    ids=str,
)
def test_acting_and_learning_see_the_same_outputs(cfg: Any) -> None:
    """Also after statistics have changed, with the numpy functions that were made before."""
    network = build(cfg, POLICY)
    assert cfg.activation == "silu" or translate(network) is not None
    inference, obs = Inference(network), normal(4, 3)
    for step in range(3):
        gather(network, (10 + 3 * normal(20, 3, seed=step)).numpy())
        with batch_statistics(network):
            network(normal(20, 3, seed=step))
        expected = network(obs).detach().numpy()
        np.testing.assert_allclose(inference(obs.numpy()), expected, rtol=1e-4, atol=1e-5)
        assert inference(obs.numpy()).dtype == np.float32


# --- SimBa and unit weights ------------------------------------------------------------------------------------------


def test_a_residual_torso_by_hand() -> None:
    network = build(SimbaConfig(hidden=[4, 4], normalize_obs=False), POLICY)
    embedding, one, two, norm, head = network.branches[0]
    assert (one.layers[1].out_features, one.layers[3].out_features) == (16, 4)

    def normed(x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()

    obs = normal(6, 3)
    x = obs @ embedding.weight.T
    for block in (one, two):
        assert isinstance(block, Residual)
        x = x + (normed(x) @ block.layers[1].weight.T).relu() @ block.layers[3].weight.T
    torch.testing.assert_close(network(obs), head(normed(x)))
    assert (embedding.weight.T @ embedding.weight).tolist() == [
        pytest.approx([float(i == j) for j in range(3)], abs=1e-5) for i in range(3)
    ]
    assert norm.weight.unique().tolist() == [1.0]


@pytest.mark.parametrize("way", [Update, GraphUpdate])
def test_unit_weights_are_brought_back_to_their_length(way: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(graph, "load_or_compile", lambda function, *_: lambda tensors: function(*tensors))
    cfg = NetworkConfig(hidden=[8, 6], batch_norm="before", weight_norm=True, init="orthogonal")
    nets = Nets(actor=build(cfg, POLICY), critics=build(cfg, CRITICS))

    def loss(nets: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        with batch_statistics(nets.actor, nets.critics):
            said = nets.actor(batch["obs"]).square().mean() + nets.critics(batch["obs"], batch["action"]).sin().mean()
        return said, {}

    options = {} if way is Update else {"cache": tmp_path}
    update = way(loss, nets, ["actor", "critics"], Adam(), max_grad_norm=1.0, **options)

    def lengths() -> list[float]:
        actor = [layer.weight.norm(dim=1) for layer in nets.actor.modules() if isinstance(layer, nn.Linear)]
        critics = [layer.weight.norm(dim=1) for layer in nets.critics.layers if layer.__class__.__name__ == "Linears"]
        return torch.cat([x.flatten() for x in (*actor, *critics)]).tolist()

    assert lengths() == pytest.approx([1.0] * len(lengths()), abs=1e-5)
    before = nets.critics.layers[1].weight.clone()
    for step in range(3):
        update({"obs": normal(6, 3, seed=step), "action": normal(6, 2, seed=step)}, learning_rate=0.1)
    assert lengths() == pytest.approx([1.0] * len(lengths()), abs=1e-5)
    assert (nets.critics.layers[1].weight - before).abs().max() > 0.05
    assert nets.critics.layers[0].mean.abs().max() > 0


@pytest.mark.parametrize("cfg", [*KINDS, SimbaConfig()], ids=str)
@pytest.mark.parametrize("heads", [(CRITICS,), (POLICY, HeadSpec("value", 1))], ids=["critics", "policy"])
def test_parameters_are_counted(cfg: Any, heads: tuple[HeadSpec, ...]) -> None:
    assert footprint(cfg, OBS, *heads) == sum(p.numel() for p in build(cfg, *heads).parameters())


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer_norm=true"):
        NetworkConfig(layer_norm=True, batch_norm="after")
    with pytest.raises(ConfigError, match="renorm_after"):
        NetworkConfig(renorm_after=10)
    with pytest.raises(ConfigError, match="one width"):
        SimbaConfig(hidden=[3, 4])
    with pytest.raises(ConfigError, match="one width"):
        build(SimbaConfig(), CRITICS._replace(hidden=()))
    with pytest.raises(ConfigError, match="dropped"):
        build(SimbaConfig(), CRITICS._replace(dropout=0.1))
    for cfg in (SimbaConfig(), NetworkConfig(batch_norm="after")):
        with pytest.raises(ConfigError, match=r"algo\.critics\.layer_norm=false"):
            build(cfg, CRITICS._replace(layer_norm=True))
    with pytest.raises(ConfigError, match=r"write dueling=false"):
        SimbaConfig(dueling=True)
    with pytest.raises(ConfigError, match="any fraction"):
        build(SimbaConfig(), HeadSpec("q", 2, fractions=8))
    with pytest.raises(ConfigError, match=r"network\.weight_norm=false"):
        build_gru(GruConfig(weight_norm=True), OBS, POLICY)
