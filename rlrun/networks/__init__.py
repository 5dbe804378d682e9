"""Networks by configuration: torsos, heads, builder; and their fast twin for acting."""

from rlrun.networks.builder import Network, NetworkBuilder, NetworkConfig
from rlrun.networks.inference import Inference

__all__ = ["Inference", "Network", "NetworkBuilder", "NetworkConfig"]
