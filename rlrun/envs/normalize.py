"""Running normalisation of observations and rewards.

Statistics are those of all data seen so far (Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm
for computing sample variances"), in float64, without a prior that would bias them. Those of observations belong to the
factory of environments, since evaluation reads them, and changes nothing; both are in the checkpoint.

What a learner stores stays as it was normalised when it was seen. In a rollout that is what the policy saw; in a
replay it grows old, and there the network should normalise (`network.normalize_obs`, see networks/norms.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlrun.envs.wrappers import VectorWrapper
from rlrun.errors import ConfigError
from rlrun.ops.running import RunningMeanStd
from rlrun.state import put_back, saved
from rlrun.types import Array, Space, StateDict, Step, VectorEnv

LIMIT = 10.0  # normalised values lie within +-LIMIT unless told otherwise


class RunningFields:
    """A RunningMeanStd for every field of records that holds floating-point numbers. The others pass as they are."""

    def __init__(self, space: Space):
        self.fields = {
            name: RunningMeanStd(part.shape) for name, part in space.fields.items() if part.dtype.kind == "f"
        }

    def update(self, batch: Array) -> None:
        """Take in records [N], N >= 1."""
        for name, stats in self.fields.items():
            stats.update(batch[name])

    def normalized(self, values: Array, limit: float) -> Array:
        """Records [...] with these fields normalised."""
        records = np.array(values)
        for name, stats in self.fields.items():
            records[name] = stats.normalized(records[name], limit)
        return records

    def state_dict(self) -> StateDict:
        return dict(saved(self.fields))

    def load_state_dict(self, state: StateDict) -> None:
        put_back(self.fields, state)


def running(space: Space) -> RunningMeanStd | RunningFields:
    """New statistics of observations.

    Raises:
        ConfigError: they hold no numbers that could be normalised.
    """
    stats = RunningFields(space) if space.fields else RunningMeanStd(space.shape)
    if space.kind not in ("box", "dict") or (isinstance(stats, RunningFields) and not stats.fields):
        kind = space.unmasked.kind
        raise ConfigError("env.normalize.obs", f"{kind} observations cannot be normalised", "leave it false")
    return stats


class NormalizeObs(VectorWrapper):
    """(obs - mean) / std per element, within +-limit, float32; of a Dict in every field of floating-point numbers.

    Args:
        env: a vector with observations that hold such numbers.
        stats: statistics to share, which whoever owns them saves; new ones if None.
        training: whether what is seen here goes into the statistics.
        limit: what the results are clipped to.

    Raises:
        ConfigError: observations hold none.
    """

    def __init__(
        self,
        env: VectorEnv,
        stats: RunningMeanStd | RunningFields | None = None,
        *,
        training: bool = True,
        limit: float = LIMIT,
    ):
        super().__init__(env)
        self._limit = limit
        space = self.spec.obs_space
        self.obs_stats = running(space) if stats is None else stats
        if isinstance(self.obs_stats, RunningFields):
            inside = {name: _within(space.fields[name], limit) for name in self.obs_stats.fields}
            space = space._replace(fields={**space.fields, **inside})
        else:
            space = _within(space, limit)
        self.spec = replace(self.spec, obs_space=space)
        self.obs = np.zeros((self.num_envs, *space.shape), space.dtype)
        self._training = training

    def reset(self, seeds: Sequence[int]) -> Array:
        return self._seen(self.env.reset(seeds))

    def reset_one(self, env: int, seed: int) -> Array:
        obs = self.env.reset_one(env, seed)
        if self._training:
            self.obs_stats.update(np.asarray(obs)[None])
        self.obs[env] = self._normalized(obs)
        return self.obs[env]

    def step(self, action: Array) -> Step:
        step = self.env.step(action)
        obs = self._seen(step.obs)
        return step._replace(obs=obs, final_obs={e: self._normalized(last) for e, last in step.final_obs.items()})

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a state, with statistics that are back already."""
        self.env.load_state_dict(state)
        self.obs[:] = self._normalized(self.env.obs)

    def _seen(self, obs: Array) -> Array:
        if self._training:
            self.obs_stats.update(obs)
        self.obs[:] = self._normalized(obs)
        return self.obs

    def _normalized(self, obs: Array) -> Array:
        return self.obs_stats.normalized(obs, self._limit)


def _within(space: Space, limit: float) -> Space:
    """The space of a Box's values after normalisation."""
    high = np.full(space.shape, limit, np.float32)
    return space._replace(dtype=np.dtype(np.float32), low=-high, high=high, one_hot=False)


class NormalizeReward(VectorWrapper):
    """reward / std of the discounted return so far, within +-limit. The mean stays, so a reward keeps its sign.

    Args:
        env: the vector whose rewards are scaled; training only, evaluation reports rewards as they are.
        gamma: the agent's discount.
        limit: what the results are clipped to.
    """

    def __init__(self, env: VectorEnv, gamma: float, limit: float = LIMIT):
        super().__init__(env)
        self._limit = limit
        self.reward_stats = RunningMeanStd()
        self._gamma = gamma
        self._return = np.zeros(self.num_envs)  # [E] discounted sum of the current episode's rewards

    def reset(self, seeds: Sequence[int]) -> Array:
        self._return[:] = 0.0
        return self.env.reset(seeds)

    def reset_one(self, env: int, seed: int) -> Array:
        self._return[env] = 0.0
        return self.env.reset_one(env, seed)

    def step(self, action: Array) -> Step:
        step = self.env.step(action)
        self._return = self._return * self._gamma + step.reward
        self.reward_stats.update(self._return)
        self._return[step.terminated | step.truncated] = 0.0
        reward = np.clip(step.reward / self.reward_stats.std, -self._limit, self._limit)
        return step._replace(reward=reward.astype(np.float32))

    def state_dict(self) -> StateDict:
        own = {"reward_stats": self.reward_stats.state_dict(), "discounted_return": self._return.copy()}
        return {**self.env.state_dict(), **own}

    def load_state_dict(self, state: StateDict) -> None:
        self.env.load_state_dict(state)
        self.reward_stats.load_state_dict(state["reward_stats"])
        self._return[:] = state["discounted_return"] if state["grade"] == "exact" else 0.0
