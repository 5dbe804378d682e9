"""Networks: observation -> output of each head, as modules and as fast functions on numpy arrays.

The modules are imported when somebody asks for one, `networks.Dropout(...)`: a subclass of `nn.Module` needs torch, a
config does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlrun.networks.bayesian import BayesianNetwork
    from rlrun.networks.builder import NetworkBuilder, NetworkConfig
    from rlrun.networks.dropout import Dropout, DropoutInference
    from rlrun.networks.ensemble import Ensemble
    from rlrun.networks.heads import build_head
    from rlrun.networks.inference import Inference
    from rlrun.networks.layers import Flat, OneHot, Scaled
    from rlrun.networks.network import Network, chain
    from rlrun.networks.torsos import mlp

HOME = {
    "BayesianNetwork": "bayesian",
    "Dropout": "dropout",
    "DropoutInference": "dropout",
    "Ensemble": "ensemble",
    "Flat": "layers",
    "Inference": "inference",
    "Network": "network",
    "NetworkBuilder": "builder",
    "NetworkConfig": "builder",
    "OneHot": "layers",
    "Scaled": "layers",
    "build_head": "heads",
    "chain": "network",
    "mlp": "torsos",
}

__all__ = [
    "BayesianNetwork",
    "Dropout",
    "DropoutInference",
    "Ensemble",
    "Flat",
    "Inference",
    "Network",
    "NetworkBuilder",
    "NetworkConfig",
    "OneHot",
    "Scaled",
    "build_head",
    "chain",
    "mlp",
]


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOME[name]}"), name)
