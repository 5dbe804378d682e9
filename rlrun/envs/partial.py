"""Tasks whose observation does not tell the whole state, so that an agent has to remember, registered as `rlrun/...`.

Their states can be saved in the middle of an episode.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.spaces import Box, Discrete

from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, StateDict

Info = dict[str, Any]


class CartPoleNoVelocityEnv(CartPoleEnv):
    """CartPole that shows where the cart and the pole are, [2] float32, and not how they move.

    No function of one observation balances the pole for long: the velocities have to be told from earlier ones.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        high = np.array([2 * self.x_threshold, 2 * self.theta_threshold_radians], np.float32)
        self.observation_space = Box(-high, high)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Info]:
        obs, info = super().reset(seed=seed, options=options)
        return obs[::2], info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, Info]:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs[::2], reward, terminated, truncated, info


class RecallEnv(gym.Env):
    """A symbol is shown once, at the episode's beginning, and asked for at its end.

    Observations: the symbol 1..symbols in the first step, 0 in all others. The last of the `length` actions earns 1
    if it names the symbol (0 for symbol 1), everything else 0. Without memory 1 / symbols is the best mean return.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own form

    def __init__(self, symbols: int = 2, length: int = 6):
        self.observation_space, self.action_space = Discrete(symbols + 1), Discrete(symbols)
        self._symbols, self._length = symbols, length
        self._symbol, self._t = 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, Info]:
        super().reset(seed=seed)
        self._symbol, self._t = int(self.np_random.integers(self._symbols)), 0
        return self._symbol + 1, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, Info]:
        self._t += 1
        over = self._t == self._length
        return 0, float(over and action == self._symbol), over, False, {}

    def state_dict(self) -> StateDict:
        return {"symbol": self._symbol, "t": self._t, "rng": generator_state(self.np_random)}

    def load_state_dict(self, state: StateDict) -> None:
        self._symbol, self._t = state["symbol"], state["t"]
        restore_generator(self.np_random, state["rng"])


if "rlrun/Recall-v0" not in gym.registry:
    gym.register("rlrun/Recall-v0", entry_point=f"{__name__}:RecallEnv")
    gym.register(
        "rlrun/CartPoleNoVelocity-v1",
        entry_point=f"{__name__}:CartPoleNoVelocityEnv",
        max_episode_steps=500,
        reward_threshold=475.0,
    )
