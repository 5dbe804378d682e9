"""E environments stepped together. The one module that knows Gymnasium's autoreset.

Everything here has SAME_STEP semantics: when an episode ends, the environment is reset in the same step, `Step.obs`
is the reset observation that the agent acts on next and `Step.final_obs[e]` the true last one, so no step ever is a
reset and the data equal those of E separate environments. Returns and lengths are summed here, over raw rewards,
before any wrapper sees them. After the first, seeded reset every environment goes on with its own random stream.

The arrays of a `Step`, and `obs`, are overwritten by the next step.

What is registered is called as `factory(recipe, num_envs, evaluation=False)`; `evaluation` asks for environments that
can be started one by one, each from a seed of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import isfinite
from typing import Any

import numpy as np

from rlrun.envs.faults import Nonsense, described, failure, moment, shown, step_of
from rlrun.envs.spaces import ActionMap
from rlrun.envs.state import NOTHING, Proof, Unsaveable, form
from rlrun.errors import EnvError
from rlrun.seeding import LARGEST as LARGEST_SEED
from rlrun.types import Array, EnvSpec, EpisodeStat, Metrics, StateDict, Step

FEW = 32  # numbers up to which a Python sum is faster than NumPy
GOES_ON = "goes_on"  # true in `info` of an end that is one for the agent alone: the episode that is reported goes on
NEW_EPISODES = "new episodes are begun"
NOT_ASKED = Proof("its state is not saved (checkpoint.env_state=off)")


class Vector:
    """Base: seeds, episode statistics and state, the same for every way of stepping."""

    def __init__(self, spec: EnvSpec, actions: ActionMap):
        self.spec, self.num_envs = spec, spec.num_envs
        self.obs = np.zeros((self.num_envs, *spec.obs_space.shape), spec.obs_space.dtype)  # what is acted on next
        self._actions = actions
        self._seeds = [0] * self.num_envs
        self._episodes = [0] * self.num_envs  # finished since that seed
        self._return: Any = [0.0] * self.num_envs  # of the episodes under way
        self._length: Any = [0] * self.num_envs
        self._floats = self.obs.reshape(-1) if self.obs.dtype.kind == "f" else None
        self._float_fields = [name for name, part in spec.obs_space.fields.items() if part.dtype.kind == "f"]
        self._proof = NOT_ASKED
        self.caveat = f"{NEW_EPISODES}: {NOT_ASKED.reason}"  # in what a resumed vector differs; "" if in nothing

    def prove(self, check: Callable[[], None] | None = None) -> None:
        """Find out whether the environments can be saved in mid-episode, unless that is known."""
        if self._proof.reason == NOT_ASKED.reason:
            self._proof = self._find_proof(check)
            self.caveat = self._proof.reason and f"{NEW_EPISODES}: {self._proof.reason}"

    @property
    def pulls(self) -> Array | None:
        return None

    def metrics(self) -> Metrics:
        return {}

    def state_dict(self) -> StateDict:
        """The episodes under way, if that was proven to be possible and is; otherwise seeds for new ones."""
        try:
            if self._proof.reason:
                raise Unsaveable(self._proof.reason)
            states = self._capture()
        except Unsaveable as error:
            self.caveat = f"{NEW_EPISODES}: {error}"
            return {"grade": "episode", **self._promise(), "seeds": self._fresh_seeds()}
        self.caveat = self.caveat or self._doubt(states)
        return {
            "grade": "exact",
            **self._promise(),
            "seeds": list(self._seeds),
            "episodes": list(self._episodes),
            "obs": self.obs.copy(),
            "return": [float(value) for value in self._return],
            "length": [int(value) for value in self._length],
            "environments": states,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a saved state; one of grade "episode" starts new episodes from seeds that it fixed."""
        if "proof" in state:  # a run goes by what was proven when it began
            tried = frozenset((int(layer), str(name), str(kind)) for layer, name, kind in state["proof"]["form"])
            self._proof = Proof(state["proof"]["reason"], tried)
            self.caveat = state["caveat"]
        self.reset(state["seeds"])
        if state["grade"] == "episode":
            return
        try:
            self._restore(state["environments"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EnvError(f"{self.spec.id}: its saved state does not fit it: {described(error)}") from error
        self.obs[:] = state["obs"]
        self._episodes[:], self._return[:], self._length[:] = state["episodes"], state["return"], state["length"]

    def reset(self, seeds: Sequence[int]) -> Array:
        raise NotImplementedError

    def _find_proof(self, check: Callable[[], None] | None) -> Proof:
        raise NotImplementedError

    def _capture(self) -> list[StateDict]:
        """One state per environment, or one for all; Unsaveable if that cannot be had."""
        raise NotImplementedError

    def _restore(self, states: list[StateDict]) -> None:
        raise NotImplementedError

    def _promise(self) -> StateDict:
        return {"caveat": self.caveat, "proof": {"reason": self._proof.reason, "form": sorted(self._proof.form)}}

    def _doubt(self, states: list[StateDict]) -> str:
        """What speaks against states that are of another form than those that were proven; "" if nothing does."""
        for state in states:
            if new := sorted(entry for entry in form(state) - self._proof.form if entry[2] != NOTHING):
                return f"the environment's state was not tried in this form: {new[0][1]} is new"
        return ""

    def _require_finite(self, action: Array, ended: Collection[int] = ()) -> None:
        """EnvError if an observation is not a number, or infinite; `ended` have been reset."""
        if self._is_finite(self.obs) if self._floats is None else _finite(self._floats):
            return
        for e, obs in enumerate(self.obs):
            if not self._is_finite(obs):
                raise self._not_finite(e, "reset()" if e in ended else step_of(action[e]), obs)

    def _final(self, env: int, action: Array, obs: Any) -> Array:
        """A copy of an episode's last observation; EnvError if it is not finite."""
        last = np.array(obs, self.obs.dtype)
        if last.shape != self.obs.shape[1:]:
            raise EnvError(f"{self.spec.id}: the last observation of environment {env} has shape {last.shape}")
        if not self._is_finite(last):
            raise self._not_finite(env, step_of(action[env]), last)
        return last

    def _is_finite(self, obs: Array) -> bool:
        """Whether all floating-point numbers of one observation or of several are finite."""
        if self._float_fields:
            return all(np.isfinite(obs[name]).all() for name in self._float_fields)
        return self._floats is None or _finite(obs.ravel())

    def _not_finite(self, env: int, call: str, obs: Array) -> EnvError:
        when = moment(self._seeds[env], self._episodes[env], int(self._length[env]))
        return failure(self.spec.id, env, when, call, Nonsense(f"the observation is not finite: {shown(obs.tolist())}"))

    def _begin(self, seeds: Sequence[int]) -> list[int]:
        """Forget the episodes under way; returns the seeds as ints, one per environment."""
        if len(seeds) != self.num_envs:
            raise ValueError(f"{self.num_envs} environments need as many seeds, got {len(seeds)}")
        self._seeds = [int(seed) for seed in seeds]
        for e in range(self.num_envs):
            self._begin_one(e, self._seeds[e])
        return self._seeds

    def _begin_one(self, env: int, seed: int) -> None:
        self._seeds[env], self._episodes[env] = seed, 0
        self._return[env], self._length[env] = 0.0, 0

    def _end(self, env: int) -> EpisodeStat:
        """Close the books on a finished episode."""
        stat = EpisodeStat(float(self._return[env]), int(self._length[env]), env)
        self._return[env], self._length[env] = 0.0, 0
        self._episodes[env] += 1
        return stat

    def _fresh_seeds(self) -> list[int]:
        """Seeds that continue the old ones: other episodes than any before, the same ones from the same checkpoint."""
        lived = zip(self._seeds, self._episodes, self._length, strict=True)
        drawn = (np.random.SeedSequence([int(x) for x in life]).generate_state(1)[0] for life in lived)
        return [int(seed) & LARGEST_SEED for seed in drawn]


class Together(Vector):
    """Base of those that step all environments in one call, and of which all wait from one call to the next.

    What a processor has not done for a while takes it longer, so every NumPy call counts in that time.
    """

    def __init__(self, spec: EnvSpec, actions: ActionMap):
        super().__init__(spec, actions)
        self._books = np.zeros((2, self.num_envs))
        self._return, self._length = self._books
        self._added = np.ones((2, self.num_envs))  # by a step: its reward and 1
        self._no_more = [False] * self.num_envs

    def _digest(self, action: Array, result: tuple[Any, Any, Any, Any, dict[str, Any]]) -> Step:
        """A Step from what a Gymnasium vector in SAME_STEP mode returned."""
        obs, reward, terminated, truncated, info = result
        self.obs[:] = obs
        self._added[0] = reward
        self._books += self._added
        final_obs: dict[int, Array] = {}
        episodes: list[EpisodeStat] = []
        ended: list[int] = []
        if np.count_nonzero(terminated) or np.count_nonzero(truncated):
            ended = (terminated | truncated).nonzero()[0].tolist()
        if ended and "final_obs" not in info:
            raise EnvError(f"{self.spec.id}: an episode ended, but its last observation is not in info['final_obs']")
        goes_on = info.get(GOES_ON, self._no_more)
        for e in ended:
            final_obs[e] = self._final(e, action, info["final_obs"][e])
            if not goes_on[e]:
                episodes.append(self._end(e))
        self._require_finite(action, final_obs)
        return Step(self.obs, reward.astype(np.float32), terminated, truncated, final_obs, episodes)


def _finite(numbers: Array) -> bool:
    """Whether all numbers [N] are finite: their sum is, or else each is looked at."""
    return isfinite(sum(numbers.tolist()) if numbers.size <= FEW else numbers.dot(numbers)) or bool(
        np.isfinite(numbers).all()
    )
