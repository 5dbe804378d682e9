"""A network with one head as the chain of its layers, for those who must do something between them."""

from __future__ import annotations

from torch import nn

from rlrun.networks.builder import Network


def chain(network: Network) -> list[nn.Module]:
    """Encoder, hidden layers and head in order, the very modules of the network.

    Raises:
        ValueError: the network has several heads.
    """
    (branch,) = network.branches
    return [*_flatten(network.trunk), *_flatten(branch)]


def _flatten(module: nn.Module) -> list[nn.Module]:
    if type(module) is nn.Sequential:
        return [layer for child in module for layer in _flatten(child)]
    return [module]
