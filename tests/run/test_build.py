"""What is found out about components of a user's own while a run is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlrun import networks, registry
from rlrun.config.fit import check_buffer
from rlrun.envs.spaces import masked
from rlrun.errors import ConfigError
from rlrun.registry import Needs, register
from rlrun.run.build import network
from rlrun.types import MASK, HeadSpec, Space

VECTOR = Space("box", (3,), np.dtype(np.float32), low=-np.ones(3, np.float32), high=np.ones(3, np.float32))
ACTIONS = Space("discrete", (), np.dtype(np.int64), n=2)
HEADS = (HeadSpec("policy", 2, log_stds=2), HeadSpec("value", 1))


@dataclass
class OwnConfig:
    """A layer."""

    name: str = "own"
    whole_heads: bool = True
    gives: str = ""  # what `forward` makes of the outputs, by a name of MISTAKES
    remembers: int = 0


class Own(nn.Module):
    """A layer, and an output for each head; knows nothing of masks."""

    def __init__(self, cfg: OwnConfig, obs_space: Space, *heads: HeadSpec):
        super().__init__()
        self.layer, self.drop = nn.Linear(obs_space.shape[0], 4), nn.Dropout()
        make = networks.build_head if cfg.whole_heads else lambda head, width: nn.Linear(width, head.size)
        self.heads = nn.ModuleList(make(head, 4) for head in heads)
        self.memory_size, self.gives = cfg.remembers, MISTAKES.get(cfg.gives, lambda outputs: outputs)

    def forward(self, obs: Any, memory: Any = None) -> Any:
        outputs = tuple(head(self.drop(self.layer(obs))) for head in self.heads)
        return self.gives(outputs if len(outputs) > 1 else outputs[0])


MISTAKES: dict[str, Any] = {
    "list": list,
    "dict": lambda outputs: dict(enumerate(outputs)),
    "nothing": lambda outputs: None,
    "a tuple of one": lambda output: (output,),
    "half": lambda outputs: tuple(output.half() for output in outputs),
}


@pytest.fixture(autouse=True)
def own() -> Iterator[None]:
    known = {kind: dict(entries) for kind, entries in registry._ENTRIES.items()}
    register("network", OwnConfig)(Own)
    yield
    registry._ENTRIES.clear()
    registry._ENTRIES.update(known)


def test_a_network_whose_outputs_are_too_narrow_is_refused() -> None:
    says = (
        r"network: for one observation own gives .*\[\(1, 2\), \(1, 1\)\], the algorithm asks for \[\(1, 4\), \(1, 1\)"
    )
    with pytest.raises(ConfigError, match=says):
        network(OwnConfig(whole_heads=False), VECTOR, *HEADS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"gives": "list"},
            r"gives outputs of shape \['list'\], the algorithm asks for .*\na tuple of tensors, one for",
        ),
        ({"gives": "dict"}, r"gives outputs of shape \['dict'\]"),
        ({"gives": "nothing"}, r"gives outputs of shape \['NoneType'\]"),
        ({"gives": "half"}, "gives outputs of torch.float16\nit must give torch.float32"),
        ({"remembers": 5}, r"with memory_size=5 own gives \[\(1, 4\), \(1, 1\)\] .*\nit must give a pair: .* \(1, 5\)"),
        ({"remembers": 5, "gives": "nothing"}, "with memory_size=5 own gives NoneType for one observation"),
    ],
    ids=str,
)
def test_a_network_that_gives_what_is_no_output_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"network: {'' if 'with' in says else '.*'}{says}"):
        network(OwnConfig(**options), VECTOR, *HEADS)


def test_a_network_of_one_head_gives_no_tuple() -> None:
    with pytest.raises(ConfigError, match=r"gives outputs of shape \['tuple'\], .* \[\(1, 2\)\]\nrlrun.networks"):
        network(OwnConfig(gives="a tuple of one"), VECTOR, HeadSpec("q", 2))


def test_a_network_that_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "parameters", lambda self, recurse=True: iter([]))
    with pytest.raises(ConfigError, match="network: own has no parameters that could be trained"):
        network(OwnConfig(), VECTOR, *HEADS)


def test_what_is_no_module_is_refused() -> None:
    register("network", PlainConfig)(type("Plain", (), {"__module__": __name__, "__init__": lambda self, *args: None}))
    with pytest.raises(ConfigError, match=r"network: plain made a Plain\nit must make a torch\.nn\.Module"):
        network(PlainConfig(), VECTOR, *HEADS)


@dataclass
class PlainConfig:
    """Nothing."""

    name: str = "plain"


def test_trying_a_network_draws_nothing_and_leaves_it_as_it_is() -> None:
    torch.manual_seed(3)
    ours = Own(OwnConfig(), VECTOR, *HEADS)
    following = torch.rand(1)
    torch.manual_seed(3)
    tried = network(OwnConfig(), VECTOR, *HEADS)
    assert torch.equal(torch.rand(1), following)
    assert tried.training and all(map(torch.equal, tried.parameters(), ours.parameters()))


def test_a_network_need_not_know_of_masks() -> None:
    space = masked(VECTOR, ACTIONS)
    made = network(OwnConfig(), space, HeadSpec("q", 2))
    obs = np.zeros(5, space.dtype)
    obs["obs"], obs[MASK] = np.arange(15).reshape(5, 3), True
    q = networks.Inference(made.eval())(obs)
    same = made.network(torch.arange(15.0).reshape(5, 3))
    np.testing.assert_array_equal(q, same.detach().numpy())
    assert made.memory_size == 0
    assert not hasattr(made, "units")


def test_what_learns_from_replay_says_how_it_discounts() -> None:
    register("algo", OwnConfig, needs=Needs(memory="replay"))(type("Learner", (), {"__module__": "own"}))
    with pytest.raises(ConfigError, match=r"algo\.gamma: own learns from replay.*\nadd a field: gamma: float = 0.99"):
        check_buffer("own", "uniform")
