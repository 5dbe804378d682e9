"""A torso of the user's own, `network.torso=my.module.Torso`, in place of what reads observations.

It is made as `Torso(obs_space, **arguments)`, and gives features [B, F] for observations as the environment shows them:
[B, *obs] in the dtype of the space, of a Dict a dict of such tensors. How many features there are is found by trying.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlrun import custom
from rlrun.custom import Custom, one_line
from rlrun.errors import ConfigError, RlrunError
from rlrun.networks.inference import TRANSLATORS, translate
from rlrun.ops.fields import mapped, tensors
from rlrun.types import Space

KEY = "network.torso"
TRIED = 2  # observations that it is tried on


class Own(nn.Module):
    """A torso of the user's, whose initial weights are its own affair.

    Args:
        path: what it is called.
        names: of the fields that it is shown; none where there is one observation.
    """

    def __init__(self, path: str, torso: nn.Module, names: tuple[str, ...] = ()):
        super().__init__()
        self.path, self.torso, self.names = path, torso, names

    def forward(self, obs: Any) -> Tensor:
        features: Tensor = self.torso({name: obs[name] for name in self.names} if self.names else obs)
        return features


TRANSLATORS[Own] = lambda own: None if own.names else translate(own.torso)


def own_torso(item: Any, space: Space) -> tuple[Own, int]:
    """The torso that a config names, and how many features it gives.

    Where modules are made on the device "meta", to be counted, it has no weights, and no random number was drawn.

    Args:
        item: as `rlrun.custom.entry` takes it.
        space: of what it is to read, without a mask.

    Raises:
        ConfigError: it cannot be made, fails, or gives no features [B, F].
    """
    is_counted = torch.get_default_device().type == "meta"
    with torch.device("cpu"), torch.random.fork_rng(devices=[], enabled=is_counted):
        own = _made(custom.entry(KEY, item), space)
        width = _width(own, space)
    return (own.to("meta") if is_counted else own), width


def _made(named: Custom, space: Space) -> Own:
    factory = named.factory()
    named.check(factory, "obs_space")
    try:
        made = factory(space, **named.arguments)
    except RlrunError:
        raise
    except Exception as error:
        raise ConfigError(KEY, f"{named.path} cannot be made: {one_line(error)}") from error
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        raise ConfigError(KEY, f"{named.path} made a {kind} for the observations", "it must make a torch.nn.Module")
    return Own(named.path, made, tuple(space.fields))


def _width(own: Own, space: Space) -> int:
    """The features of a torso, which is tried on a copy."""
    obs = tensors(np.zeros((TRIED, *space.shape), space.dtype))
    shown = f"{TRIED} observations {mapped(lambda x: tuple(x.shape), obs)}"
    try:
        with torch.no_grad():
            features: Any = copy.deepcopy(own).eval()(obs)
    except Exception as error:
        raise ConfigError(KEY, f"{own.path} fails on {shown}: {one_line(error)}"[:400]) from error
    said = f"{features.dtype} {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
    is_row = isinstance(features, Tensor) and features.is_floating_point() and features.shape[:-1] == (TRIED,)
    if not (is_row and features.shape[-1]):
        hint = f"features are floats, a row for each observation: ({TRIED}, F)"
        raise ConfigError(KEY, f"{own.path} gives {said} for {shown}", hint)
    return features.shape[-1]
