"""CartPole seen through its pictures, registered as `rlrun/CartPolePixels-v1`.

The pole's strip of the picture, made small, is what an agent sees; of one picture it cannot tell which way things move,
of the difference between two it can. The rest is CartPole-v1, limits included.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box

from rlrun.envs.display import without_display
from rlrun.envs.resize import Resize
from rlrun.errors import ConfigError
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, StateDict

Info = dict[str, Any]


class CartPolePixelsEnv(CartPoleEnv):
    """Differences of pictures float32 [3, height, width] in [-1, 1], or the pictures themselves in uint8.

    A difference is that of the picture from the one of the step before. The first of an episode is black, there being
    none before, and so is the one in which the pole falls; one that is cut by the time limit is not.

    Args:
        crop: the part of the picture's height that is seen, from the top: by default the pole and the cart.
        resize: height and width that it is brought to, each new pixel a mean over the area it covers.
        difference: show differences.
        angle_limit: degrees at which the pole has fallen, in place of 12. Another limit is another task.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012  Gymnasium's own form

    def __init__(
        self,
        crop: Sequence[float] = (0.4, 0.8),
        resize: Sequence[int] = (40, 90),
        difference: bool = True,
        angle_limit: float | None = None,
        render_mode: str | None = None,
    ):
        try:
            importlib.import_module("pygame")
        except ImportError as error:
            raise DependencyNotInstalled("pictures of CartPole need pygame") from error
        without_display()
        super().__init__(render_mode="rgb_array")
        if angle_limit is not None:
            self.theta_threshold_radians = math.radians(angle_limit)
        self._rows = slice(*_checked("crop", crop, (0, 1), self.screen_height))
        size = _checked("resize", resize, (1, math.inf), 1)
        try:
            self._resize = Resize(self._rows.stop - self._rows.start, self.screen_width, *size)
        except ValueError as error:
            raise ConfigError("env.kwargs.resize", str(error)) from error
        self._difference = difference
        bounds: Any = (-1.0, 1.0, (3, *size), np.float32) if difference else (0, 255, (3, *size), np.uint8)
        self.observation_space = Box(*bounds)
        self._before = np.zeros(self.observation_space.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Info]:
        super().reset(seed=seed, options=options)
        return self._seen(black=True), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, Info]:
        _, reward, terminated, truncated, info = super().step(action)
        return self._seen(black=terminated), reward, terminated, truncated, info

    def state_dict(self) -> StateDict:
        """What CartPole is made of; the picture before follows from it."""
        return {
            "state": np.array(self.state, np.float64),
            "beyond": self.steps_beyond_terminated,
            "rng": generator_state(self.np_random),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self.state = tuple(float(value) for value in state["state"])  # type: ignore[assignment]
        self.steps_beyond_terminated = state["beyond"]
        restore_generator(self.np_random, state["rng"])
        self._before = self._picture()

    def _seen(self, black: bool) -> Array:
        picture = self._picture()
        if not self._difference:
            return np.rint(picture * 255).astype(np.uint8)
        seen = np.zeros_like(picture) if black else picture - self._before
        self._before = picture
        return seen

    def _picture(self) -> Array:
        """float32 [3, height, width] in [0, 1]."""
        whole: Any = self.render()
        return np.moveaxis(self._resize.means(whole[self._rows]), -1, 0) / np.float32(255)


def _checked(key: str, pair: Sequence[float], bounds: tuple[float, float], unit: int) -> tuple[int, int]:
    """Two numbers as whole ones, in units; ConfigError if they are no such numbers."""
    numbers = [value for value in pair if isinstance(value, int | float) and bounds[0] <= value <= bounds[1]]
    first, second = (int(value * unit) for value in numbers) if len(numbers) == len(pair) == 2 else (0, 0)
    if second <= (first if unit > 1 else 0):
        wanted = "the top and the bottom as parts of the height, [0.4, 0.8]" if unit > 1 else "[height, width]"
        raise ConfigError(f"env.kwargs.{key}", f"must be {wanted}, got {list(pair)}")
    return first, second


if "rlrun/CartPolePixels-v1" not in gym.registry:
    gym.register(
        "rlrun/CartPolePixels-v1",
        entry_point=f"{__name__}:CartPolePixelsEnv",
        max_episode_steps=500,
        reward_threshold=475.0,
    )
