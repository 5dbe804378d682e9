"""`network=simba`: observations by their running statistics, then residual blocks (see residual.py).

Lee et al. 2025, "SimBa: simplicity bias for scaling up parameters in deep reinforcement learning", arXiv:2410.09754.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from rlrun import networks
from rlrun.checks import Within
from rlrun.errors import ConfigError
from rlrun.networks.builder import NetworkConfig, build_mlp, footprint
from rlrun.registry import register
from rlrun.types import HeadSpec, Space

if TYPE_CHECKING:
    import torch

    from rlrun.networks import Critics, Network


@dataclass
class SimbaConfig(NetworkConfig):
    """Normalised observations, then residual blocks."""

    name: str = "simba"  # registered kind of network
    # widths of the residual blocks, one after the other: all the same
    hidden: list[Annotated[int, Within(1, 10**6)]] = field(default_factory=lambda: [128])
    normalize_obs: bool = True  # observations of floats less their running mean, over their running deviation

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, off in (("layer_norm", False), ("batch_norm", "none"), ("dueling", False), ("noisy", "none")):
            if getattr(self, key) != off:
                raise ConfigError(key, "simba has none of its own choice", f"write network.{key}={str(off).lower()}")
        require_blocks("hidden", self.hidden)

    def torso(self, inputs: int, hidden: Sequence[int], dropout: float = 0.0) -> torch.nn.Sequential:
        if dropout:
            raise ConfigError("algo.critics.dropout", "simba has no units that are dropped", "write dropout=0")
        require_blocks("algo.critics.hidden", hidden)
        return networks.residuals(inputs, hidden[0], len(hidden), self.activation)

    @property
    def plain(self) -> bool:
        return False


def require_blocks(key: str, hidden: Sequence[int]) -> None:
    """ConfigError unless there is a block, and all are of one width."""
    if len(set(hidden)) != 1:
        raise ConfigError(key, f"blocks of one width are needed, got {list(hidden)}", "write such as [256, 256]")


@register("network", SimbaConfig, smoke={"hidden": [16]}, footprint=footprint)
def build_simba(cfg: SimbaConfig, obs_space: Space, *heads: HeadSpec) -> Network | Critics:
    """Residual blocks with layer normalisation, on observations that are normalised by their running statistics."""
    if any(head.fractions for head in heads):
        raise ConfigError("network", "simba cannot be asked for quantiles at any fraction", "write network=mlp")
    return build_mlp(cfg, obs_space, *heads)
