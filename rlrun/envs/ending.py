"""What an episode ends with, for whoever looks at no more than that."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


class Ending(gym.Wrapper):
    """Keeps the picture of an episode's last state, which is gone with the reset that follows at once.

    Args:
        env: draws pictures (render_mode rgb_array).
    """

    picture: Any = None  # [height, width, 3] uint8; None before an episode has ended

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        step = self.env.step(action)
        if step[2] or step[3]:
            self.picture = self.env.render()
        return step
