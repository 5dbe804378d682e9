"""How the critics of an actor are: their number and network, what they learn, and which of them counts.

minimum    the critic whose value is the lowest, for targets and for the actor            TD3, SAC
subset     for targets the lowest of some that are drawn for every update; the actor      REDQ (Chen et al. 2021,
           climbs the mean of all                                                         arXiv:2101.05982)
mean       the mean of all
truncated  for targets the quantiles of all, without the highest; the actor climbs the    TQC (Kuznetsov et al.
           mean of all                                                                    2020, arXiv:2005.04269)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from rlrun.checks import Bounded, NotNegative, OneOf, Within, only_with
from rlrun.errors import ConfigError
from rlrun.ops import critics
from rlrun.ops.critics import Estimate, Returns

LOSSES = ("mse", "huber", "categorical", "hl_gauss", "quantile")


@dataclass
class CriticsConfig(Bounded):
    """Critics of an actor."""

    count: Annotated[int, Within(1, 1000)] = 2  # how many there are
    # minimum | subset | mean | truncated: which of them targets are made of (see algos/continuous/critics.py)
    aggregate: Annotated[str, OneOf("minimum", "subset", "mean", "truncated")] = "minimum"
    subset: Annotated[int, Within(1, 1000)] = 2  # aggregate=subset: of how many, drawn anew, the lowest counts
    dropped: Annotated[int, Within(0, 10**4)] = 2  # aggregate=truncated: quantiles left out, times the count of critics
    # mse | huber: a value | categorical: a distribution on atoms | hl_gauss: a value, as one | quantile: quantiles
    loss: Annotated[str, OneOf(*LOSSES)] = "mse"
    atoms: Annotated[int, Within(2, 10**4)] = 101  # categorical, hl_gauss: returns that have a probability
    v_min: Annotated[float, Within(-1e9, 1e9)] = -5.0  # the lowest of them
    # the highest; choose both such that discounted returns lie in between, or scale rewards (algo.return_bound)
    v_max: Annotated[float, Within(-1e9, 1e9)] = 5.0
    sigma: NotNegative = 0.75  # hl_gauss: deviation of a target, in distances of atoms; 0: on the two next to it
    quantiles: Annotated[int, Within(1, 10**4)] = 25  # quantile: how many each gives
    kappa: NotNegative = 1.0  # quantile: up to which an error counts squared; 0 counts all as they are
    hidden: list[Annotated[int, Within(1, 10**6)]] | None = None  # widths of their hidden layers; null: the network's
    layer_norm: bool = False  # LayerNorm in them also where the network has none
    dropout: Annotated[float, Within(0, 0.99)] = 0.0  # share of their hidden units that is left out of a pass

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, (option, words) in OWNERS.items():
            only_with(self, key, option, *words)
        if self.aggregate == "truncated" and self.loss != "quantile":
            raise ConfigError("aggregate", "truncates quantiles, and there are none", "write loss=quantile")
        if self.aggregate == "truncated" and self.dropped >= self.quantiles:
            hint = f"write dropped={self.quantiles - 1}, or quantiles={self.dropped + 1}"
            raise ConfigError("dropped", f"must be less than {self.quantiles} quantiles, got {self.dropped}", hint)
        if self.aggregate == "subset" and self.subset > self.count:
            raise ConfigError(
                "subset", f"{self.subset} cannot be drawn of {self.count} critics", f"write count={self.subset}"
            )
        if not self.v_min < self.v_max:
            raise ConfigError("v_max", f"must be above v_min = {self.v_min:g}, got {self.v_max:g}")


OWNERS: Mapping[str, tuple[str, tuple[str, ...]]] = {  # option -> another, and its values that give it a meaning
    "subset": ("aggregate", ("subset",)),
    "dropped": ("aggregate", ("truncated",)),
    "atoms": ("loss", ("categorical", "hl_gauss")),
    "v_min": ("loss", ("categorical", "hl_gauss")),
    "v_max": ("loss", ("categorical", "hl_gauss")),
    "sigma": ("loss", ("hl_gauss",)),
    "quantiles": ("loss", ("quantile",)),
    "kappa": ("loss", ("quantile",)),
}


def estimate(cfg: CriticsConfig) -> Estimate:
    """What a critic's numbers are."""
    made: dict[str, Any] = {
        "mse": lambda: critics.Squared(),
        "huber": lambda: critics.Huber(),
        "categorical": lambda: critics.Categorical(cfg.atoms, cfg.v_min, cfg.v_max),
        "hl_gauss": lambda: critics.HLGauss(cfg.atoms, cfg.v_min, cfg.v_max, cfg.sigma),
        "quantile": lambda: critics.Quantile(cfg.quantiles, cfg.kappa),
    }
    chosen: Estimate = made[cfg.loss]()
    return chosen


def for_target(cfg: CriticsConfig, returns: Returns) -> Returns:
    """Of the critics that are asked, [N, ..., S], what counts in a target [..., S]; of a subset only its are asked."""
    if cfg.aggregate == "truncated":
        return critics.truncated(returns, cfg.dropped * cfg.count)
    return critics.pooled(returns) if cfg.aggregate == "mean" else critics.lowest(returns)


def for_actor(cfg: CriticsConfig, returns: Returns) -> Returns:
    """Of all, [N, ..., S], what the actor climbs, [..., S']."""
    return critics.lowest(returns) if cfg.aggregate == "minimum" else critics.pooled(returns)
