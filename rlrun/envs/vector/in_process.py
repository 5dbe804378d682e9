"""Environments of this process, stepped one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from rlrun.envs import state as env_state
from rlrun.envs.bandits.regret import RegretMeter
from rlrun.envs.contact import Contact, real
from rlrun.envs.faults import Nonsense, step_of
from rlrun.envs.info import InfoMeter, means
from rlrun.envs.recipe import Recipe
from rlrun.envs.spaces import ActionMap, action_map, read_spec
from rlrun.envs.state import Proof
from rlrun.envs.vector.base import GOES_ON, Vector
from rlrun.types import Array, EpisodeStat, Metrics, StateDict, Step, VectorEnv


class InProcess(Vector):
    """Gymnasium environments in this process, stepped one after the other.

    A bandit says in `info["regret"]` of a step how much its best arm would have brought more on average; that makes it
    report `bandit/...`, as RegretMeter has it.

    Args:
        envs: the environments.
        actions: how an agent's actions become the environments'; by default Box actions are clipped.
        make: makes another such environment, to find out whether its state can be saved in mid-episode.
        info_keys: of `info`, reported as `rollout/info/...`.
        masks: where the environments tell which actions can be taken, as `mask_source` found it.

    Raises:
        ValueError: the same environment stands twice in `envs`.
    """

    def __init__(
        self,
        envs: Sequence[gym.Env],
        actions: ActionMap | None = None,
        make: Callable[[], gym.Env] | None = None,
        info_keys: Sequence[str] = (),
        masks: str = "",
    ):
        if len({id(env.unwrapped) for env in envs}) < len(envs):
            raise ValueError("the same environment stands twice in the list: each must be one of its own")
        self._contacts = [Contact(env, e, masks) for e, env in enumerate(envs)]
        self.envs = [contact.env for contact in self._contacts]
        actions = actions or action_map(envs[0].action_space)
        spec = read_spec(self.envs[0], self.envs[0].observation_space, actions, len(envs), bool(masks))
        super().__init__(spec, actions)
        self._make, self._masks = make, masks
        self._tables = [env_state.tables(env) for env in self.envs]
        self._reward = np.zeros(self.num_envs, np.float32)
        self._terminated = np.zeros(self.num_envs, bool)
        self._truncated = np.zeros(self.num_envs, bool)
        self._any_ended = False  # in the last step
        self._rows = [self.obs[e, ...] for e in range(self.num_envs)]  # views: writing through one is faster
        self._meter: RegretMeter | None = None  # made when the first regret is reported
        self._infos = [InfoMeter(info_keys) for _ in envs] if info_keys else []

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start every environment from its own seed. Returns obs [E, *obs]."""
        for e, seed in enumerate(self._begin(seeds)):
            self.reset_one(e, seed)
        return self.obs

    def reset_one(self, env: int, seed: int) -> Array:
        """Abandon one environment's episode and start another from a seed. Returns its obs [*obs]."""
        self._begin_one(env, int(seed))
        self.obs[env] = self._contacts[env].reset(int(seed))
        self._require_finite(self.obs, (env,))
        return self.obs[env]

    def step(self, action: Array) -> Step:
        """Step every environment; one whose episode ends is reset at once."""
        rows, reward, terminated, truncated = self._rows, self._reward, self._terminated, self._truncated
        contacts, returns, lengths, infos = self._contacts, self._return, self._length, self._infos
        final_obs: dict[int, Array] = {}
        episodes: list[EpisodeStat] = []
        if self._any_ended:
            terminated[:] = truncated[:] = self._any_ended = False
        actions = self._actions(action)
        for e, one in enumerate(self._actions.singly(actions)):
            next_obs, r, over, cut, info = contacts[e].step(one)
            if info and "regret" in info:
                self._account(e, action[e], r, info["regret"])
            if infos:
                infos[e].add(info)
            reward[e] = r
            returns[e] += r
            lengths[e] += 1
            if over or cut:
                terminated[e], truncated[e], self._any_ended = over, cut, True
                final_obs[e] = self._final(e, actions, next_obs)
                if not info.get(GOES_ON):
                    episodes.append(self._end(e))
                next_obs = contacts[e].reset()
            rows[e][...] = next_obs
        self._require_finite(actions, final_obs)
        return Step(self.obs, reward, terminated, truncated, final_obs, episodes)

    @property
    def pulls(self) -> Array | None:
        """How often each arm [1, A] has been pulled, if the environments report their regret."""
        return self._meter.pulls if self._meter else None

    def metrics(self) -> Metrics:
        """`bandit/...` if the environments report their regret, and what is asked of their `info`."""
        regret = self._meter.metrics() if self._meter else {}
        return {**regret, **means(meter.take() for meter in self._infos)}

    def state_dict(self) -> StateDict:
        regret = {"regret": self._meter.state_dict()} if self._meter else {}
        infos = {"infos": [meter.state_dict() for meter in self._infos]} if self._infos else {}
        return super().state_dict() | regret | infos

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        if "regret" in state:
            self._meter = self._new_meter()
            self._meter.load_state_dict(state["regret"])
        for meter, saved in zip(self._infos, state.get("infos", ()), strict=False):
            meter.load_state_dict(saved)

    def close(self) -> None:
        for contact in self._contacts:
            contact.close()

    def _account(self, env: int, action: Array, reward: float, regret: Any) -> None:
        try:
            regret = real(regret, "info['regret']")
        except Nonsense as error:
            raise self._contacts[env].failure(step_of(action), error) from error
        arm = action if self.spec.num_actions else 0
        self._meter = self._meter or self._new_meter()
        self._meter.add(*(np.array([value]) for value in (arm, reward, regret)))

    def _new_meter(self) -> RegretMeter:
        return RegretMeter(self.spec.num_actions or self.spec.action_space.size)

    def _find_proof(self, check: Callable[[], None] | None) -> Proof:
        return (
            env_state.prove(self._make, check, self._masks)
            if self._make
            else Proof("another one like it cannot be made")
        )

    def _capture(self) -> list[StateDict]:
        return [env_state.capture(env, tables) for env, tables in zip(self.envs, self._tables, strict=True)]

    def _restore(self, states: list[StateDict]) -> None:
        for env, state in zip(self.envs, states, strict=True):
            env_state.restore(env, state)


def in_process(
    recipe: Recipe, num_envs: int, *, evaluation: bool = False, envs: Sequence[gym.Env] | None = None
) -> VectorEnv:
    """All environments in this process, one after the other; fastest for cheap ones."""
    envs = [recipe() for _ in range(num_envs)] if envs is None else envs
    actions, info_keys = recipe.actions(envs[0].action_space), () if evaluation else recipe.info_keys
    return InProcess(envs, actions, recipe.unseen, info_keys, recipe.masks)
