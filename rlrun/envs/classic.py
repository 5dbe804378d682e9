"""Gymnasium's vectorised CartPole, resetting in the same step."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode

from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, StateDict


class SameStepCartPole(CartPoleVectorEnv):
    """All poles in one set of arrays; one random stream for the whole vector.

    Gymnasium's class resets a fallen pole in the *next* step, whose action it ignores. Here the reset follows at
    once, before the parent would do it, and `info["final_obs"]` [E, 4] holds the true last observations in the rows
    that `info["_final_obs"]` [E] marks.
    """

    state: Any  # [4, E]
    metadata = {**CartPoleVectorEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def step(self, action: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        ended = self.prev_done
        if not ended.any():
            return obs, reward, terminated, truncated, info
        final_obs = obs.copy()
        self.state[:, ended] = self.np_random.uniform(self.low, self.high, size=(4, ended.sum()))
        self.steps[ended] = 0
        obs[ended] = self.state.T[ended]
        self.prev_done = np.zeros_like(ended)
        return obs, reward, terminated, truncated, {"final_obs": final_obs, "_final_obs": ended}

    def state_dict(self) -> StateDict:
        return {"state": self.state.copy(), "steps": self.steps.copy(), "rng": generator_state(self.np_random)}

    def load_state_dict(self, state: StateDict) -> None:
        self.state, self.steps = np.array(state["state"]), np.array(state["steps"])
        restore_generator(self.np_random, state["rng"])
