"""An agent at work in several environments: it acts, and its memory goes along with each episode and no further."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from rlrun.agents.agent import Agent
from rlrun.errors import Diverged, EnvError
from rlrun.types import Array, StateDict, Step, VectorEnv


class Acting:
    """`acting(obs, explore=…, env_steps=…) -> actions, extras`, with the memory kept here between the calls.

    Whoever steps the environments says where episodes ended; there the next step begins with the initial memory again.
    The extras of an agent whose memory is replayed hold what it had before the step as `memory` [E, M], so that a
    learner can go through any part of an episode once more.

    Args:
        agent: acts; another one may take its place, with memory of the same shape.
        num_envs: E, rows of every observation.
    """

    def __init__(self, agent: Agent, num_envs: int):
        self.agent, self.num_envs = agent, num_envs
        self.begin()

    def begin(self) -> None:
        """New episodes begin everywhere."""
        self.memory = self.agent.initial_memory(self.num_envs)

    def __call__(self, obs: Array, *, explore: bool, env_steps: int) -> tuple[Array, Mapping[str, Array]]:
        before = self.memory
        action, self.memory, extras = self.agent.act(obs, before, explore=explore, env_steps=env_steps)
        if before is None or not getattr(self.agent, "replays_memory", True):
            return action, extras
        return action, {**extras, "memory": before}

    def ended(self, envs: Collection[int]) -> None:
        """Episodes ended in these environments with the last step."""
        if self.memory is None or not envs:
            return
        rows = list(envs)
        self.memory = self.memory.copy()  # what was handed out stays as it is
        self.memory[rows] = self.agent.initial_memory(len(rows))

    def state_dict(self) -> StateDict:
        return {} if self.memory is None else {"memory": self.memory}

    def load_state_dict(self, state: StateDict) -> None:
        """ValueError if the memory has another shape than the agent's."""
        self.begin()
        if self.memory is not None and "memory" in state:
            if state["memory"].shape != self.memory.shape:
                raise ValueError(f"a memory of shape {state['memory'].shape}, expected {self.memory.shape}")
            self.memory = state["memory"]


def perform(envs: VectorEnv, action: Array, env_steps: int) -> Step:
    """Step the environments. Where one fails, and was told to do what is no number, it is the policy that has failed.

    Raises:
        Diverged: so it is.
        EnvError: it is not.
    """
    try:
        return envs.step(action)
    except EnvError as error:
        if all(np.isfinite(action[name]).all() for name in action.dtype.names or [...]):
            raise
        raise Diverged(
            f"the policy's actions are not finite at env step {env_steps:,}: {action.tolist()}"[:200]
        ) from error
