"""The options of a Gymnasium environment; make.py, which needs Gymnasium, is imported when one is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from rlrun import custom
from rlrun.checks import Bounded, Count, OneOf, Positive, Within
from rlrun.errors import ConfigError
from rlrun.footprint import Need
from rlrun.registry import register
from rlrun.seeding import SeedTree

if TYPE_CHECKING:
    from rlrun.envs.make import GymEnvs


@dataclass
class NormalizeConfig(Bounded):
    """Which streams are normalised by running statistics."""

    obs: bool = False  # observations to mean 0 and standard deviation 1; frozen in evaluation
    reward: bool = False  # rewards divided by the standard deviation of the discounted return
    clip: Positive = 10.0  # both are limited to +-this


@dataclass
class EnvConfig(Bounded):
    """Options of a Gymnasium environment."""

    name: str = "gym"
    id: str = "???"  # any Gymnasium id; `module:Id` imports the module that registers Id
    num_envs: Annotated[int, Within(1, 10**6)] = 1  # environments stepped together
    # in_process (one after the other) | subprocess (a process each: for slow ones) | native (a vector of its own)
    vector: Annotated[str, OneOf("in_process", "subprocess", "native")] = "in_process"
    kwargs: dict[str, Any] = field(default_factory=dict)  # passed to the environment: +env.kwargs.key=value
    wrappers: list[Any] = field(default_factory=list)  # around each environment: [my.module.W, {_target_: …, arg: 1}]
    time_limit: Count | None = None  # steps after which an episode is truncated, in place of the id's own limit
    action_masks: bool = True  # heed what the environment tells of the actions that can be taken, if the algorithm can
    frame_stack: Annotated[int, Within(1, 1000)] = 1  # last observations seen as one, oldest first
    clip_action: bool = True  # bring continuous actions inside the environment's bounds
    rescale_action: list[float] | None = None  # [low, high] agents act in, mapped onto the environment's bounds
    reward_scale: Positive = 1.0  # factor on the training reward
    reward_clip: Positive | None = None  # training reward limited to +-this, after scaling
    normalize: NormalizeConfig = field(default_factory=NormalizeConfig)  # running normalisation

    def __post_init__(self) -> None:
        super().__post_init__()
        for item in self.wrappers:
            custom.entry("wrappers", item)
        bounds = self.rescale_action
        if bounds is not None and (len(bounds) != 2 or bounds[0] >= bounds[1]):
            raise ConfigError("rescale_action", f"must be [low, high] with low < high, got {list(bounds)}")


def footprint(cfg: EnvConfig, each: int) -> list[Need]:
    """All training environments."""
    return [Need("env.num_envs", cfg.num_envs * each, f"{cfg.num_envs:,} environments", each)]


@register("env", EnvConfig, footprint=footprint)
def gym(cfg: EnvConfig, seeds: SeedTree, **terms: Any) -> GymEnvs:
    """Any Gymnasium environment, by id."""
    from rlrun.envs.make import GymEnvs

    return GymEnvs(cfg, seeds, **terms)
