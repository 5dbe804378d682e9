"""One process per environment, for environments whose steps are slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.vector import AutoresetMode

from rlrun.envs import state as env_state
from rlrun.envs.info import means
from rlrun.envs.recipe import Recipe
from rlrun.envs.state import Proof
from rlrun.envs.vector.base import Together
from rlrun.envs.vector.children import Children
from rlrun.types import Array, Metrics, StateDict, Step, VectorEnv


class Subprocess(Together):
    """One process per environment. Pays off where a step takes longer than a few messages, some 0.1 ms.

    Args:
        recipe: makes an environment; sent to the children.
        num_envs: how many.
    """

    def __init__(self, recipe: Recipe, num_envs: int):
        self._children = Children(recipe, num_envs, AutoresetMode.SAME_STEP)
        super().__init__(self._children.env_spec, self._children.actions)
        self._make = recipe
        self._tells = bool(recipe.info_keys)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start every environment from its own seed. Returns obs [E, *obs]."""
        self.obs[:] = self._children.reset(seed=self._begin(seeds))[0]
        self._require_finite(self.obs, range(self.num_envs))
        return self.obs

    def reset_one(self, env: int, seed: int) -> Array:
        """Abandon one environment's episode and start another from a seed. Returns its obs [*obs]."""
        self._begin_one(env, int(seed))
        only = np.arange(self.num_envs) == env
        obs, _ = self._children.reset(seed=self._seeds, options={"reset_mask": only})
        self.obs[env] = obs[env]
        self._require_finite(self.obs, (env,))
        return self.obs[env]

    def step(self, action: Array) -> Step:
        """Step every environment; one whose episode ends is reset at once."""
        actions = self._actions(action)
        return self._digest(actions, self._children.step(actions))

    def metrics(self) -> Metrics:
        """What is asked of the environments' `info`."""
        return means(self._children.take_info()) if self._tells else {}

    def state_dict(self) -> StateDict:
        infos = {"infos": self._children.info_states()} if self._tells else {}
        return super().state_dict() | infos

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        if self._tells and "infos" in state:
            self._children.restore_info(state["infos"])

    def close(self) -> None:
        self._children.close()

    def _find_proof(self, check: Callable[[], None] | None) -> Proof:
        return env_state.prove(self._make.unseen, check, self._make.masks)

    def _capture(self) -> list[StateDict]:
        return self._children.capture()

    def _restore(self, states: list[StateDict]) -> None:
        self._children.restore(states)


def subprocess(recipe: Recipe, num_envs: int, *, evaluation: bool = False) -> VectorEnv:
    """One process per environment, for environments whose steps are slow."""
    return Subprocess(recipe, num_envs)
