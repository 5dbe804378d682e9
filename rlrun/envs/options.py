"""The options of a Gymnasium environment; make.py, which needs Gymnasium, is imported when one is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlrun import custom
from rlrun.checks import positive, within
from rlrun.errors import ConfigError
from rlrun.footprint import Need
from rlrun.registry import register
from rlrun.seeding import SeedTree

if TYPE_CHECKING:
    from rlrun.envs.make import GymEnvs


@dataclass
class NormalizeConfig:
    """Which streams are normalised by running statistics."""

    obs: bool = False  # observations to mean 0 and standard deviation 1; frozen in evaluation
    reward: bool = False  # rewards divided by the standard deviation of the discounted return
    clip: float = 10.0  # both are limited to +-this

    def __post_init__(self) -> None:
        positive("clip", self.clip)


@dataclass
class EnvConfig:
    """Options of a Gymnasium environment."""

    name: str = "gym"
    id: str = "???"  # any Gymnasium id; `module:Id` imports the module that registers Id
    num_envs: int = 1  # environments stepped together
    kwargs: dict[str, Any] = field(default_factory=dict)  # passed to the environment: +env.kwargs.key=value
    wrappers: list[Any] = field(default_factory=list)  # around each environment: [my.module.W, {_target_: …, arg: 1}]
    time_limit: int | None = None  # steps after which an episode is truncated, in place of the id's own limit
    frame_stack: int = 1  # last observations seen as one, oldest first
    clip_action: bool = True  # bring continuous actions inside the environment's bounds
    rescale_action: list[float] | None = None  # [low, high] agents act in, mapped onto the environment's bounds
    reward_scale: float = 1.0  # factor on the training reward
    reward_clip: float | None = None  # training reward limited to +-this, after scaling
    normalize: NormalizeConfig = field(default_factory=NormalizeConfig)  # running normalisation

    def __post_init__(self) -> None:
        within("num_envs", self.num_envs, 1, 10**6)
        within("time_limit", self.time_limit, low=1)
        within("frame_stack", self.frame_stack, 1, 1000)
        positive("reward_scale", self.reward_scale)
        positive("reward_clip", self.reward_clip)
        for item in self.wrappers:
            custom.entry("wrappers", item)
        bounds = self.rescale_action
        if bounds is not None and (len(bounds) != 2 or bounds[0] >= bounds[1]):
            raise ConfigError("rescale_action", f"must be [low, high] with low < high, got {list(bounds)}")


def footprint(cfg: EnvConfig, each: int) -> list[Need]:
    """All training environments."""
    return [Need("env.num_envs", cfg.num_envs * each, f"{cfg.num_envs:,} environments", each)]


@register("env", "gym", config=EnvConfig, footprint=footprint)
def gym(cfg: EnvConfig, seeds: SeedTree, vector: str = "in_process", gamma: float = 0.99) -> GymEnvs:
    """Any Gymnasium environment, by id."""
    from rlrun.envs.make import GymEnvs

    return GymEnvs(cfg, seeds, vector, gamma)
