"""How networks read spaces of every kind: each part counts, the mask does not, and acting sees what learning sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlrun.errors import ConfigError
from rlrun.networks import Inference, NetworkConfig
from rlrun.networks.builder import build_mlp, encoder, footprint
from rlrun.networks.conv import is_picture
from rlrun.networks.inference import NUMPY_BATCH
from rlrun.ops.fields import tensors
from rlrun.types import MASK, Array, HeadSpec, Space

INT, FLOAT, BYTE = np.dtype(np.int64), np.dtype(np.float32), np.dtype(np.uint8)


def picture(*shape: int, stack: int = 0) -> Space:
    return Space("box", shape, BYTE, low=np.zeros(shape, BYTE), high=np.full(shape, 255, BYTE), stack=stack)


def record(**parts: Space) -> Space:
    return Space("dict", (), np.dtype([(name, part.dtype, part.shape) for name, part in parts.items()]), fields=parts)


VECTOR = Space("box", (3,), FLOAT, low=np.full(3, -1, np.float32), high=np.ones(3, np.float32))
CHOICES = Space("multi_discrete", (2, 2), INT, nvec=(2, 3, 4, 5))
BITS = Space("multi_binary", (4,), np.dtype(np.int8))
SIX = Space("discrete", (), INT, n=6)
MASKS = Space("multi_binary", (3,), np.dtype(bool))
SPACES = {
    "choices": CHOICES,
    "bits": BITS,
    "parts": record(vector=VECTOR, six=SIX, bits=BITS, choices=CHOICES),
    "masked": record(obs=VECTOR, action_mask=MASKS),
    "masked number": record(obs=SIX, action_mask=MASKS),
    "masked parts": record(action_mask=MASKS, vector=VECTOR, six=SIX),
    "small picture": record(camera=picture(6, 7, 3), vector=VECTOR),
    "stacked picture": record(camera=picture(4, 6, 7, 3, stack=4), vector=VECTOR),
    "stacked grey picture": record(camera=picture(2, 6, 7, stack=2), vector=VECTOR),
    "picture": record(camera=picture(40, 36, 1), six=SIX),
}
Q, POLICY, VALUE = HeadSpec("q", 3), HeadSpec("policy", 2, log_stds=1), HeadSpec("value", 1)


def observations(space: Space, count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if space.fields:
        records = np.zeros(count, space.dtype)
        for name, part in space.fields.items():
            records[name] = observations(part, count, seed)
        return records
    counts = np.reshape(space.nvec, space.shape) if space.nvec else space.n or (256 if space.dtype == BYTE else 2)
    drawn = (
        rng.normal(size=(count, *space.shape))
        if space.dtype == FLOAT
        else rng.integers(counts, size=(count, *space.shape))
    )
    return drawn.astype(space.dtype)


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"init": "orthogonal", "hidden": []}])
@pytest.mark.parametrize("count", [1, 3, NUMPY_BATCH + 1])
@pytest.mark.parametrize("name", SPACES)
def test_acting_and_learning_see_the_same_outputs(name: str, count: int, options: dict) -> None:
    torch.manual_seed(0)
    space = SPACES[name]
    network = build_mlp(NetworkConfig(**options), space, POLICY, VALUE)
    obs = observations(space, count)
    inference = Inference(network)
    for one, other, width in zip(inference(obs), inference.torch(obs), (3, 1), strict=True):
        assert one.shape == other.shape == (count, width)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_whatever_is_no_picture_is_acted_on_in_numpy(name: str) -> None:
    inference = Inference(build_mlp(NetworkConfig(), SPACES[name], Q))
    assert (inference._numpy is None) == ("picture" in name)


@pytest.mark.parametrize("name", [name for name, space in SPACES.items() if space.fields])
def test_every_part_counts_but_the_mask(name: str) -> None:
    torch.manual_seed(0)
    space = SPACES[name]
    network = build_mlp(NetworkConfig(activation="tanh"), space, Q)
    obs, other = observations(space, 8), observations(space, 8, seed=1)
    before = network(tensors(obs))
    for part in space.fields:
        changed = obs.copy()
        changed[part] = other[part]
        assert torch.equal(network(tensors(changed)), before) == (part == MASK)


@pytest.mark.parametrize("options", [{}, {"shared": True, "layer_norm": True}, {"hidden": [], "features": 5}])
@pytest.mark.parametrize("name", SPACES)
def test_parameters_are_counted_before_they_are_made(name: str, options: dict) -> None:
    cfg, heads = NetworkConfig(**options), (POLICY, VALUE)
    made = sum(parameter.numel() for parameter in build_mlp(cfg, SPACES[name], *heads).parameters())
    assert footprint(cfg, SPACES[name], *heads) == made


def test_every_part_of_a_dict_becomes_as_many_features() -> None:
    module, width = encoder(NetworkConfig(features=7), SPACES["parts"])
    assert width == 28
    assert module(tensors(observations(SPACES["parts"], 5))).shape == (5, 28)


def test_choices_are_one_hot_side_by_side() -> None:
    module, width = encoder(NetworkConfig(), CHOICES)
    assert width == 14
    (row,) = module(torch.tensor([[[1, 0], [3, 2]]])).tolist()
    assert [i for i, bit in enumerate(row) if bit] == [1, 2, 2 + 3 + 3, 2 + 3 + 4 + 2]


def test_what_a_picture_is() -> None:
    assert is_picture(picture(8, 8, 3))
    assert is_picture(picture(4, 84, 84, stack=4))
    assert is_picture(picture(4, 84, 84, 3, stack=4))
    assert is_picture(picture(9, 9))
    assert not is_picture(picture(4, 9, stack=4))  # a stack of vectors
    assert not is_picture(picture(9))
    assert not is_picture(Space("box", (8, 8, 3), FLOAT))


@pytest.mark.parametrize("shape", [(8, 9, 3), (3, 8, 9), (8, 9)])
def test_channels_may_come_first_or_last_or_not_at_all(shape: tuple[int, ...]) -> None:
    """The same picture in either order gives the same features, and the weights are scaled to [0, 1]."""
    torch.manual_seed(0)
    cfg, space = NetworkConfig(), record(camera=picture(*shape))
    module, _ = encoder(cfg, space)
    assert module.encoders[0][1].in_channels == (1 if len(shape) == 2 else 3)
    obs = observations(space, 2)["camera"]
    first = obs[:, None] if len(shape) == 2 else np.moveaxis(obs, -1, 1) if shape[-1] == 3 else obs
    expected = torch.from_numpy(np.ascontiguousarray(first)).float() / 255
    for layer in list(module.encoders[0])[1:]:
        expected = layer(expected)
    assert torch.allclose(module({"camera": torch.from_numpy(obs)}), expected, atol=1e-6)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="features: must be"):
        NetworkConfig(features=0)
