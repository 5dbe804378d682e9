"""Convolutional torsos against their papers' sizes, a plain forward pass, and torch's own spectral norm."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from rlrun import cli
from rlrun.algos.algorithm import Kit
from rlrun.compute.device import Device, DeviceConfig
from rlrun.errors import ConfigError
from rlrun.networks import Inference
from rlrun.networks.builder import CnnConfig, NetworkConfig, build_cnn, build_mlp, encoder, footprint
from rlrun.networks.conv import Residual, SpectralConv, largest_singular_value
from rlrun.networks.recurrent import GruConfig, build_gru
from rlrun.types import EnvSpec, HeadSpec, Space

BYTE, FLOAT = np.dtype(np.uint8), np.dtype(np.float32)
Q, POLICY, VALUE = HeadSpec("q", 6), HeadSpec("policy", 6), HeadSpec("value", 1)


def picture(*shape: int, stack: int = 0, dtype: np.dtype = BYTE) -> Space:
    high = 255 if dtype == BYTE else 1
    return Space("box", shape, dtype, low=np.zeros(shape, dtype), high=np.full(shape, high, dtype), stack=stack)


CPU = DeviceConfig(accelerator="cpu")
ATARI = picture(4, 84, 84, stack=4)
VECTOR = Space("box", (3,), FLOAT, low=np.full(3, -1, np.float32), high=np.ones(3, np.float32))


def frames(count: int, space: Space = ATARI, seed: int = 0) -> torch.Tensor:
    drawn = np.random.default_rng(seed).integers(0, 256, (count, *space.shape))
    return torch.from_numpy(drawn.astype(space.dtype))


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({"conv": "nips"}, 32 * 9 * 9),  # 2592, as in the paper
        ({"conv": "nature"}, 64 * 7 * 7),  # 3136
        ({"conv": "impala"}, 32 * 11 * 11),  # 3872
        ({"conv": "impala", "conv_width": 2, "max_pool": 6}, 64 * 6 * 6),  # Beyond the Rainbow
    ],
)
def test_atari_frames_become_as_many_features_as_in_the_papers(options: dict, width: int) -> None:
    module, found = encoder(CnnConfig(**options), ATARI)
    assert found == width
    assert module(frames(2)).shape == (2, width)


def test_nature_is_the_plain_forward_pass() -> None:
    """Pixels are scaled once, and the Q output is linear: it can be negative."""
    network = build_cnn(CnnConfig(), ATARI, Q)
    weights = dict(network.named_parameters())
    assert [tuple(w.shape) for w in weights.values()][::2] == [
        (32, 4, 8, 8),
        (64, 32, 4, 4),
        (64, 64, 3, 3),
        (512, 3136),
        (6, 512),
    ]
    obs, (w1, b1, w2, b2, w3, b3, w4, b4, w5, b5) = frames(3), weights.values()
    x = functional.relu(functional.conv2d(obs.float() / 255, w1, b1, 4))
    x = functional.relu(functional.conv2d(x, w2, b2, 2))
    x = functional.relu(functional.conv2d(x, w3, b3)).flatten(1)
    expected = functional.relu(x @ w4.T + b4) @ w5.T + b5
    torch.testing.assert_close(network(obs), expected, atol=1e-5, rtol=1e-4)
    assert (expected < 0).any()


@pytest.mark.parametrize("build", [build_cnn, build_gru])
def test_weights_lie_as_pictures_do_where_a_kit_makes_a_network(build: Callable) -> None:
    """Of the convolutions alone; what they give is the same to the bit."""
    torch.manual_seed(0)
    options = CnnConfig() if build is build_cnn else GruConfig(conv="nature")
    made = build(options, ATARI, Q)
    kit = Kit(EnvSpec("toy", ATARI, ATARI), network=lambda *args: copy.deepcopy(made), device=Device(CPU))
    module = kit.module(Q)
    for name, weight in module.named_parameters():
        assert weight.is_contiguous() == (weight.ndim != 4), name
        assert torch.equal(weight, dict(made.named_parameters())[name])
    memory = () if build is build_cnn else (torch.zeros(2, made.memory_size),)
    with torch.no_grad():
        found, expected = (network(frames(2), *memory) for network in (module, made))
    for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, expected)), strict=True):
        assert torch.equal(one, other)


def test_impala_is_the_plain_forward_pass() -> None:
    space = picture(12, 14, 3)
    network = build_cnn(CnnConfig(conv="impala", hidden=[8], max_pool=2), space, Q)
    weights = list(network.parameters())
    assert len(weights) == 2 * (3 * 5 + 2)
    w, obs = iter(weights), frames(2, space)

    def conv(x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, next(w), next(w), padding=1)

    x = obs.movedim(-1, 1).float() / 255
    for _ in range(3):
        x = functional.max_pool2d(conv(x), 3, 2, 1)
        for _ in range(2):
            x = x + conv(functional.relu(conv(functional.relu(x))))
    x = functional.adaptive_max_pool2d(functional.relu(x), 2).flatten(1)
    x = functional.relu(x @ next(w).T + next(w)) @ next(w).T + next(w)
    torch.testing.assert_close(network(obs), x, atol=1e-5, rtol=1e-4)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(32, 288, requires_grad=True)
    sigma = largest_singular_value(matrix)
    u, s, v = torch.linalg.svd(matrix.detach(), full_matrices=False)
    assert abs(sigma.item() - s[0].item()) < 0.01 * s[0].item()  # the second is at 0.96 of the first
    separated = (u * torch.cat([s[:1] * 2, s[1:]])) @ v
    separated.requires_grad_()
    largest_singular_value(separated).backward()
    assert torch.allclose(separated.grad, torch.outer(u[:, 0], v[0]), atol=1e-4)  # the gradient of a singular value
    assert torch.isfinite(largest_singular_value(torch.zeros(3, 5)))
    module = SpectralConv(4, 4, 3, padding=1)
    before, x = module(torch.ones(1, 4, 6, 6)) - module.bias[:, None, None], torch.ones(1, 4, 6, 6)
    with torch.no_grad():
        module.weight *= 7
    assert torch.allclose(module(x) - module.bias[:, None, None], before, atol=1e-5)


def test_only_residual_blocks_are_normalised() -> None:
    module, _ = encoder(CnnConfig(conv="impala", spectral_norm=True), ATARI)
    normal = [type(layer) for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert normal.count(SpectralConv) == 12
    assert normal.count(torch.nn.Conv2d) == 3
    assert sum(isinstance(layer, Residual) for layer in module.modules()) == 6


@pytest.mark.parametrize("options", [{}, {"conv": "impala", "spectral_norm": True, "hidden": []}, {"shared": False}])
@pytest.mark.parametrize("space", [ATARI, picture(40, 40), picture(3, 40, 90, dtype=FLOAT)])
def test_parameters_are_counted_and_acting_sees_what_learning_sees(options: dict, space: Space) -> None:
    torch.manual_seed(0)
    cfg = CnnConfig(**{"hidden": [16], **options})
    network = build_cnn(cfg, space, POLICY, VALUE)
    assert footprint(cfg, space, POLICY, VALUE) == sum(p.numel() for p in network.parameters())
    obs = frames(2, space)
    for one, other in zip(Inference(network)(obs.numpy()), network(obs), strict=True):
        np.testing.assert_array_equal(one, other.detach().numpy())


def test_pictures_of_floats_are_taken_as_they_are() -> None:
    space = picture(3, 40, 90, dtype=FLOAT)
    module, _ = encoder(CnnConfig(), space)
    obs = torch.rand(1, 3, 40, 90) * 2 - 1
    assert torch.equal(module[0](obs), obs)


def test_a_network_that_remembers_may_convolve() -> None:
    network = build_gru(GruConfig(conv="nips", hidden=[8], memory_size=4), ATARI, Q)
    outputs, memory = network(frames(2), torch.zeros(2, 4))
    assert outputs.shape == (2, 6)
    assert memory.shape == (2, 4)


def test_he_start() -> None:
    network = build_cnn(CnnConfig(init="he"), ATARI, Q)
    for p in network.parameters():
        if p.ndim > 1:
            assert p.std().item() == pytest.approx((2 / p[0].numel()) ** 0.5, rel=0.1)
        else:
            assert not p.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_mlp(NetworkConfig(), ATARI, Q), r"network: mlp cannot read pictures.*cnn_nature"),
        (lambda: build_gru(GruConfig(), ATARI, Q), r"network: gru cannot read pictures.*conv=nature"),
        (lambda: build_cnn(CnnConfig(), VECTOR, Q), r"network: cnn .*reads pictures.*\(3,\).*network=mlp$"),
        (lambda: build_mlp(NetworkConfig(conv="nature"), VECTOR, Q), r"network: mlp .*network.conv=none$"),
        (lambda: build_cnn(CnnConfig(), picture(20, 30), Q), "network.conv: nature leaves nothing of .* 20 x 30"),
        (lambda: NetworkConfig(max_pool=6), "max_pool: has no meaning with conv=none"),
        (lambda: CnnConfig(conv="vgg"), "conv: there is no 'vgg'"),
    ],
)
def test_what_does_not_go_together_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make()
    assert re.search(message, " ".join(str(refused.value).split()))


def test_a_vector_is_not_convolved(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env=cartpole", "network=cnn_nature"]) == 2
    assert "network: cnn with conv=nature reads pictures" in capsys.readouterr().err
