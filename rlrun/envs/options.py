"""The options of Gymnasium environments and of Atari games."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from rlrun import custom
from rlrun.checks import Bounded, Count, Natural, OneOf, Positive, Share, Within, ascending
from rlrun.errors import ConfigError


@dataclass
class NormalizeConfig(Bounded):
    """Which streams are normalised by running statistics."""

    obs: bool = False  # observations to mean 0 and standard deviation 1; frozen in evaluation
    reward: bool = False  # rewards divided by the standard deviation of the discounted return
    clip: Positive = 10.0  # both are limited to +-this

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip != type(self).clip and not (self.obs or self.reward):
            raise ConfigError("clip", "has no meaning where nothing is normalised", "write clip=10, or obs=true")


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
        ascending("rescale_action", self.rescale_action)


@dataclass
class AtariConfig(EnvConfig):
    """Options of an Atari game; evaluations play whole games for the rewards of the game, whatever is said here."""

    name: str = "atari"
    id: str = "ALE/Pong-v5"  # any game of ale-py's; what the id says of frame skip and sticky actions is not asked
    frame_skip: Annotated[int, Within(1, 1000)] = 4  # emulator frames of a step, of which the last two are seen as one
    frame_stack: Annotated[int, Within(1, 1000)] = 4  # last observations seen as one, oldest first
    grayscale: bool = True  # one number for a pixel, its luminance; otherwise 3
    screen_size: Annotated[int, Within(1, 160)] = 84  # side of the square that pictures are brought to
    sticky: Share = 0.0  # chance of a frame to repeat the button of the one before
    full_action_space: bool = False  # all 18 buttons, also those that do nothing in this game
    noop_max: Annotated[int, Within(0, 10**6)] = 30  # a game begins after 0 to so many frames without a button
    fire_reset: bool = True  # press FIRE for the agent when a game begins and when a life was lost
    # terminal | penalty | ignore: what it is in training to lose a life while others are left
    life_loss: Annotated[str, OneOf("terminal", "penalty", "ignore")] = "terminal"
    life_penalty: Positive = 1.0  # life_loss=penalty: taken off the reward
    reward_clip: Positive | None = 1.0  # training reward limited to +-this, after scaling
    max_frames: Count = 108_000  # emulator frames after which a game is truncated, unless time_limit says otherwise
    threads: Natural = 0  # vector=native: games stepped at a time; 0 for as many as there are processors
