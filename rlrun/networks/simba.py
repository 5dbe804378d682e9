"""`network=simba`: observations by their running statistics, then residual blocks (see residual.py).

Lee et al. 2025, "SimBa: simplicity bias for scaling up parameters in deep reinforcement learning", arXiv:2410.09754.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from rlrun.checks import Within
from rlrun.errors import ConfigError
from rlrun.networks.builder import NetworkConfig, build_mlp, footprint
from rlrun.registry import register
from rlrun.types import HeadSpec, Space

if TYPE_CHECKING:
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
                raise ConfigError(key, "simba has none of its own choice", f"write {key}={str(off).lower()}")
        if len(set(self.hidden)) != 1:
            raise ConfigError("hidden", f"blocks are of one width, got {self.hidden}", "write hidden=[256,256]")

    @property
    def residual(self) -> bool:
        return True


@register("network", SimbaConfig, smoke={"hidden": [16]}, footprint=footprint)
def build_simba(cfg: SimbaConfig, obs_space: Space, *heads: HeadSpec) -> Network | Critics:
    """Residual blocks with layer normalisation, on observations that are normalised by their running statistics."""
    if any(head.fractions for head in heads):
        raise ConfigError("network", "simba cannot be asked for quantiles at any fraction", "write network=mlp")
    return build_mlp(cfg, obs_space, *heads)
