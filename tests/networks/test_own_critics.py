"""A network of the user's own becomes the critics of an actor, and need not know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from test_encoder import MASKS, SIX, SPACES, VECTOR, observations, record
from torch import nn

from rlrun import networks, register
from rlrun.errors import ConfigError
from rlrun.networks.own_critics import OwnCritics, beside
from rlrun.ops.fields import tensors
from rlrun.run.build import network
from rlrun.types import HeadSpec, Space

ACTION = Space("box", (2,), np.dtype(np.float32), low=np.float32([0, -4]), high=np.float32([10, 4]))


@dataclass
class NarrowConfig:
    """One narrow layer."""

    name: str = "tests_narrow"
    width: int = 3  # units


@register("network", NarrowConfig)
class Narrow(nn.Module):
    """One narrow layer on vectors."""

    def __init__(self, cfg: NarrowConfig, obs_space: Space, *heads: HeadSpec):
        super().__init__()
        self.hidden = nn.Linear(obs_space.shape[0], cfg.width)
        self.heads = nn.ModuleList(networks.build_head(head, cfg.width) for head in heads)

    def forward(self, obs: torch.Tensor) -> Any:
        outputs = tuple(head(torch.relu(self.hidden(obs))) for head in self.heads)
        return outputs if len(outputs) > 1 else outputs[0]


def critics(count: int = 3, obs_space: Space = VECTOR, action: Space | None = ACTION, size: int = 2) -> Any:
    return network(NarrowConfig(), obs_space, HeadSpec("critic", size, critics=count, action=action))


def test_each_reads_the_observation_and_the_action_in_half_ranges() -> None:
    made, obs = critics(), torch.from_numpy(observations(VECTOR, 5))
    action = torch.tensor([[0.0, 4.0]]).expand(5, 2)
    values = made(obs, action)
    shown = torch.cat([obs, torch.tensor([[-1.0, 1.0]]).expand(5, 2)], -1)
    assert torch.equal(values, torch.stack([member(shown) for member in made.members]))
    assert values.shape == (3, 5, 2)
    assert not torch.equal(values[0], values[1])


def test_some_may_be_chosen() -> None:
    made, obs, action = critics(), torch.from_numpy(observations(VECTOR, 5)), torch.zeros(5, 2)
    values = made(obs, action)
    assert torch.equal(made(obs, action, slice(1)), values[:1])
    assert torch.equal(made(obs, action, torch.tensor([2, 0])), values[[2, 0]])


def test_of_discrete_actions_they_are_shown_none() -> None:
    made = critics(action=None, size=6, obs_space=record(obs=VECTOR, action_mask=MASKS))
    assert made(tensors(observations(record(obs=VECTOR, action_mask=MASKS), 4))).shape == (3, 4, 6)


@pytest.mark.parametrize("space", [SIX, SPACES["parts"], SPACES["picture"].fields["camera"]])
def test_beside_what_is_no_vector_the_action_is_a_field(space: Space) -> None:
    joint = beside(space, ACTION)
    assert [*joint.fields] == [*(space.fields or ["obs"]), "action"]
    assert joint.fields["action"].low.tolist() == [-1, -1]

    class Shown(nn.Module):
        def forward(self, obs: Any) -> torch.Tensor:
            assert {name: tuple(x.shape[1:]) for name, x in obs.items()} == {
                name: part.shape for name, part in joint.fields.items()
            }
            return obs["action"]

    made = OwnCritics(lambda *_: Shown(), space, HeadSpec("critic", 1, critics=1, action=ACTION))
    assert made(tensors(observations(space, 4)), torch.full((4, 2), 4.0)).tolist() == [[[pytest.approx(-0.2), 1.0]] * 4]


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match="tests_narrow cannot be made: IndexError"):
        critics(obs_space=SIX, action=None)
    with pytest.raises(ConfigError, match="a network of yours drops no units"):
        network(NarrowConfig(), VECTOR, HeadSpec("critic", 1, critics=2, action=ACTION, dropout=0.1))


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_an_actor_and_critics_of_ones_own_train(algo: str, rlrun: Any) -> None:
    rlrun(f"algo={algo}", "env=pendulum", "network=tests_narrow", "+smoke=on", "hydra.run.dir=run")
    assert "over 2 episodes" in rlrun("eval", "run", "episodes=2").stdout
