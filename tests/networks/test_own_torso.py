"""A torso of the user's stands in place of what reads observations, in every network, and is checked before it acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_encoder import MASKS, SIX, SPACES, VECTOR, observations, record
from torch import nn

from rlrun import networks
from rlrun.errors import ConfigError
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import CnnConfig, build_mlp, encoder, footprint
from rlrun.networks.recurrent import LstmConfig, build_lstm
from rlrun.ops.fields import tensors
from rlrun.testing import check_algorithm
from rlrun.types import MASK, HeadSpec, Space

Q, POLICY, VALUE = HeadSpec("q", 3), HeadSpec("policy", 2, log_stds=1), HeadSpec("value", 1)
CRITICS = HeadSpec("critic", 1, critics=2, action=VECTOR)
HERE = __name__


class Affine(nn.Module):
    """[B, n] -> [B, width]; of the weights 0.25. It keeps the space that it was made for."""

    def __init__(self, obs_space: Space, width: int = 5):
        super().__init__()
        self.obs_space = obs_space
        self.layer = nn.Linear(obs_space.size, width)
        nn.init.constant_(self.layer.weight, 0.25)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layer(obs)


class Parts(nn.Module):
    """Remembers the names of what it was shown last."""

    def __init__(self, obs_space: Space):
        super().__init__()
        self.embedding = nn.Embedding(obs_space.fields["six"].n, 4)

    def forward(self, obs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        self.shown = sorted(obs)
        return torch.cat([obs["vector"], self.embedding(obs["six"])], -1)


def embedding(obs_space: Space, width: int) -> nn.Module:
    return nn.Embedding(obs_space.n, width)


def gives(value: Any) -> nn.Module:
    return type("Gives", (nn.Module,), {"forward": lambda self, obs: value})()


def no_module(obs_space: Space) -> str:
    return "no module"


def raises(obs_space: Space) -> nn.Module:
    raise RuntimeError("not today")


def fails(obs_space: Space) -> nn.Module:
    return nn.Linear(7, 2)


def picture(obs_space: Space) -> nn.Module:
    return gives(torch.zeros(2, 3, 4))


def whole_numbers(obs_space: Space) -> nn.Module:
    return gives(torch.zeros(2, 3, dtype=torch.int64))


def one_row(obs_space: Space) -> nn.Module:
    return gives(torch.zeros(1, 3))


def nothing(obs_space: Space) -> nn.Module:
    return gives(torch.zeros(2, 0))


def pair(obs_space: Space) -> nn.Module:
    return gives((torch.zeros(2, 3), torch.zeros(2, 3)))


def config(torso: Any = f"{HERE}.Affine", **options: Any) -> NetworkConfig:
    return NetworkConfig(torso=torso, **options)


def torsos(network: nn.Module) -> list[Any]:
    return [module.torso for module in network.modules() if isinstance(module, networks.Own)]


@pytest.mark.parametrize("shared", [True, False])
def test_heads_share_a_torso_or_have_one_each(shared: bool) -> None:
    network = build_mlp(config(shared=shared, hidden=[]), VECTOR, POLICY, VALUE)
    assert len(torsos(network)) == (1 if shared else 2)
    obs = torch.from_numpy(observations(VECTOR, 6))
    policy, value = network(obs)
    assert torch.equal(policy[:, :2], network.branches[0][-1].mean(torsos(network)[0](obs)))
    assert torch.equal(value, network.branches[1][-1](torsos(network)[-1](obs)))


def test_hidden_layers_come_behind_it_in_every_network() -> None:
    mapping = {"_target_": f"{HERE}.Affine", "width": 11}
    plain = build_mlp(config(mapping, hidden=[9]), VECTOR, Q)
    assert [m.in_features for m in plain.modules() if isinstance(m, nn.Linear)] == [3, 11, 9]
    split = build_mlp(config(mapping, hidden=[9], dueling=True, noisy="factorised"), VECTOR, Q)
    assert split(torch.zeros(4, 3)).shape == (4, 3)
    remembers = build_lstm(LstmConfig(torso=mapping, hidden=[9]), VECTOR, POLICY, VALUE)
    (policy, value), memory = remembers(torch.zeros(4, 3), torch.zeros(4, remembers.memory_size))
    assert (policy.shape, value.shape, memory.shape) == ((4, 3), (4, 1), (4, remembers.memory_size))
    critics = build_mlp(config(mapping), VECTOR, CRITICS)
    assert critics(torch.zeros(4, 3), torch.zeros(4, 3)).shape == (2, 4, 1)
    for network in (plain, split, remembers, critics):
        assert torsos(network)[0].layer.out_features == 11


@pytest.mark.parametrize("name", ["parts", "masked parts"])
def test_of_a_dict_it_is_shown_every_field_but_the_mask(name: str) -> None:
    network = build_mlp(config(f"{HERE}.Parts"), SPACES[name], Q)
    network(tensors(observations(SPACES[name], 4)))
    assert torsos(network)[0].shown == [field for field in sorted(SPACES[name].fields) if field != MASK]


def test_what_stands_beside_a_mask_is_shown_as_it_is() -> None:
    network = build_mlp(config({"_target_": f"{HERE}.embedding", "width": 8}), record(obs=SIX, action_mask=MASKS), Q)
    obs = observations(record(obs=SIX, action_mask=MASKS), 4)
    assert network(tensors(obs)).shape == (4, 3)


@pytest.mark.parametrize("init", ["orthogonal", "he"])
def test_its_initial_weights_are_its_own(init: str) -> None:
    network = build_mlp(config(init=init), VECTOR, POLICY, VALUE)
    assert all((torso.layer.weight == 0.25).all() for torso in torsos(network))
    assert all((m.bias == 0).all() for m in network.branches[0][1:].modules() if isinstance(m, nn.Linear))


@pytest.mark.parametrize("heads", [(Q,), (POLICY, VALUE), (CRITICS,)], ids=lambda heads: heads[0].kind)
@pytest.mark.parametrize("shared", [True, False])
def test_its_parameters_are_counted_and_counting_draws_no_numbers(heads: tuple[HeadSpec, ...], shared: bool) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    counted = footprint(config(shared=shared), VECTOR, *heads)
    assert torch.equal(torch.get_rng_state(), before)
    network = build_mlp(config(shared=shared), VECTOR, *heads)
    assert counted == sum(parameter.numel() for parameter in network.parameters())


def test_known_layers_act_in_numpy() -> None:
    def acts(torso: str) -> bool:
        return networks.Inference(build_mlp(config(torso), VECTOR, Q))._numpy is not None

    assert acts(f"{HERE}.known")
    assert not acts(f"{HERE}.Affine")


def known(obs_space: Space) -> nn.Module:
    return nn.Sequential(nn.Linear(obs_space.size, 4), nn.ReLU())


def test_who_acts_drops_no_units_and_keeps_statistics_as_they_are() -> None:
    """Learning does both; a batch of one has no statistics of its own."""
    network = build_mlp(config(f"{HERE}.moody"), VECTOR, Q)
    acts, obs = networks.Inference(network), np.ones((1, VECTOR.size), np.float32)
    stream, state = torch.get_rng_state(), {name: x.clone() for name, x in network.state_dict().items()}
    assert acts(obs).tolist() == acts(obs).tolist()
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(x, network.state_dict()[name]) for name, x in state.items())
    learned = [network(torch.ones(8, VECTOR.size)) for _ in range(2)]
    assert not torch.equal(*learned)


def moody(obs_space: Space) -> nn.Module:
    return nn.Sequential(nn.Linear(obs_space.size, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))


@pytest.mark.parametrize(
    ("torso", "says"),
    [
        ("no_such_module.Torso", "'no_such_module.Torso' cannot be imported\nModuleNotFoundError"),
        (f"{HERE}.Afine", f"'{HERE}.Afine' cannot be imported\nAttributeError"),
        (f"{HERE}.HERE", f"{HERE}.HERE cannot be called"),
        ("Affine", "Affine is no dotted path\nfor instance my.module.Affine"),
        ({"_target_": f"{HERE}.Affine", "wdith": 3}, "got an unexpected keyword argument 'wdith'\nits arguments: "),
        (f"{HERE}.no_module", "made a str for the observations\nit must make a torch.nn.Module"),
        (f"{HERE}.raises", f"{HERE}.raises cannot be made: RuntimeError: not today"),
        (f"{HERE}.fails", r"fails on 2 observations \(2, 3\): RuntimeError: mat1 and mat2"),
        (f"{HERE}.picture", r"gives torch.float32 \(2, 3, 4\) for 2 observations \(2, 3\)\nfeatures are floats, a row"),
        (f"{HERE}.whole_numbers", r"gives torch.int64 \(2, 3\)"),
        (f"{HERE}.nothing", r"gives torch.float32 \(2, 0\) for 2 observations \(2, 3\)\nfeatures"),
        (f"{HERE}.one_row", r"gives torch.float32 \(1, 3\)"),
        (f"{HERE}.pair", "gives tuple for 2 observations"),
    ],
    ids=str,
)
def test_one_that_cannot_be_is_named_with_what_is_wrong(torso: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        encoder(config(torso), VECTOR)
    assert caught.value.key == "network.torso"
    assert len(str(caught.value).split("\n")) <= 5


@pytest.mark.parametrize("torso", [["x.Y"], 3, {"width": 3}, ""])
def test_what_names_no_torso_is_refused_with_the_config(torso: Any) -> None:
    with pytest.raises(ConfigError, match="names nothing"):
        config(torso)


def test_convolutions_and_a_torso_do_not_both_read_the_observations() -> None:
    with pytest.raises(ConfigError, match="conv=nature and a torso both read the observations"):
        CnnConfig(torso="x.Y")


def test_policies_may_begin_as_flat_as_asked() -> None:
    network = build_mlp(NetworkConfig(hidden=[512], policy_init_std=0.001), VECTOR, HeadSpec("policy", 64), VALUE)
    head, value = network.branches[0][-1], network.branches[1][-1]
    assert head.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert (head.bias == 0).all() and (value.bias != 0).all()


def test_with_a_torso_of_ones_own_all_holds_that_holds_of_an_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "scripts" / "examples")
    check_algorithm("ppo", "env=cartpole", "network.torso=own_torso.Residual")


def test_a_torso_is_tried_on_a_copy() -> None:
    module, _ = encoder(config(f"{HERE}.Parts"), SPACES["parts"])
    assert not hasattr(module.torso, "shown")
    assert np.isfinite(module(tensors(observations(SPACES["parts"], 2))).detach().numpy()).all()
