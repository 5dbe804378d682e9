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

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from math import isfinite
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

import rlrun.experience.options  # noqa: F401  makes choices of what is here
from rlrun.envs import state as env_state
from rlrun.envs.contact import LARGEST, Contact, real
from rlrun.envs.faults import Nonsense, described, failure, is_ours, moment, shown, step_of
from rlrun.envs.info import InfoMeter, means
from rlrun.envs.make import Recipe
from rlrun.envs.regret import RegretMeter
from rlrun.envs.spaces import ActionMap, action_map, read_spec
from rlrun.envs.state import NOTHING, Proof, Unsaveable, form
from rlrun.errors import ConfigError, EnvError
from rlrun.experience.children import Children
from rlrun.seeding import LARGEST as LARGEST_SEED
from rlrun.types import Array, EnvSpec, EpisodeStat, Metrics, StateDict, Step, VectorEnv

log = logging.getLogger(__name__)

FEW = 32  # numbers up to which a Python sum is faster than NumPy
NEW_EPISODES = "new episodes are begun"
NOT_ASKED = Proof("its state is not saved (checkpoint.env_state=off)")


class _Vector:
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
        self._proof = NOT_ASKED
        self.caveat = f"{NEW_EPISODES}: {NOT_ASKED.reason}"  # in what a resumed vector differs; "" if in nothing

    def prove(self, check: Callable[[], None] | None = None) -> None:
        """Find out whether the environments can be saved in mid-episode, unless that is known."""
        if self._proof.reason == NOT_ASKED.reason:
            self._proof = self._find_proof(check)
            self.caveat = self._proof.reason and f"{NEW_EPISODES}: {self._proof.reason}"

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
        if self._floats is None or _finite(self._floats):
            return
        for e, obs in enumerate(self.obs):
            if not _finite(obs.ravel()):
                raise self._not_finite(e, "reset()" if e in ended else step_of(action[e]), obs)

    def _final(self, env: int, action: Array, obs: Any) -> Array:
        """A copy of an episode's last observation; EnvError if it is not finite."""
        last = np.array(obs, self.obs.dtype)
        if last.shape != self.obs.shape[1:]:
            raise EnvError(f"{self.spec.id}: the last observation of environment {env} has shape {last.shape}")
        if self._floats is not None and not _finite(last.ravel()):
            raise self._not_finite(env, step_of(action[env]), last)
        return last

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

    def _digest(self, action: Array, result: tuple[Any, Any, Any, Any, dict[str, Any]]) -> Step:
        """A Step from what a Gymnasium vector in SAME_STEP mode returned."""
        obs, reward, terminated, truncated, info = result
        self.obs[:] = obs
        self._return += reward
        self._length += 1
        final_obs: dict[int, Array] = {}
        episodes: list[EpisodeStat] = []
        ended = np.flatnonzero(terminated | truncated).tolist()
        if ended and "final_obs" not in info:
            raise EnvError(f"{self.spec.id}: an episode ended, but its last observation is not in info['final_obs']")
        for e in ended:
            final_obs[e] = self._final(e, action, info["final_obs"][e])
            episodes.append(self._end(e))
        self._require_finite(action, final_obs)
        return Step(self.obs, reward.astype(np.float32), terminated, truncated, final_obs, episodes)


class InProcess(_Vector):
    """Gymnasium environments in this process, stepped one after the other.

    A bandit says in `info["regret"]` of a step how much its best arm would have brought more on average; that makes it
    report `bandit/...`, as RegretMeter has it.

    Args:
        envs: the environments.
        actions: how an agent's actions become the environments'; by default Box actions are clipped.
        make: makes another such environment, to find out whether its state can be saved in mid-episode.
        info_keys: of `info`, reported as `rollout/info/...`.

    Raises:
        ValueError: the same environment stands twice in `envs`.
    """

    def __init__(
        self,
        envs: Sequence[gym.Env],
        actions: ActionMap | None = None,
        make: Callable[[], gym.Env] | None = None,
        info_keys: Sequence[str] = (),
    ):
        if len({id(env.unwrapped) for env in envs}) < len(envs):
            raise ValueError("the same environment stands twice in the list: each must be one of its own")
        self._contacts = [Contact(env, e) for e, env in enumerate(envs)]
        self.envs = [contact.env for contact in self._contacts]
        actions = actions or action_map(envs[0].action_space)
        super().__init__(read_spec(self.envs[0], self.envs[0].observation_space, actions, len(envs)), actions)
        self._make = make
        self._tables = [env_state.tables(env) for env in self.envs]
        self._whole_numbers = self.spec.action_space.kind == "discrete"
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
        # ints rather than NumPy's: environments look actions up in lists and dicts
        for e, one in enumerate(actions.tolist() if self._whole_numbers else self._singly(actions)):
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
                episodes.append(self._end(e))
                next_obs = contacts[e].reset()
            rows[e][...] = next_obs
        self._require_finite(actions, final_obs)
        return Step(self.obs, reward, terminated, truncated, final_obs, episodes)

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
            self._meter = RegretMeter(self.spec.num_actions)
            self._meter.load_state_dict(state["regret"])
        for meter, saved in zip(self._infos, state.get("infos", ()), strict=False):
            meter.load_state_dict(saved)

    def close(self) -> None:
        for contact in self._contacts:
            contact.close()

    def _singly(self, actions: Array) -> Iterable[Array]:
        """Continuous actions [E, *action] one by one, as arrays also where they have no dimension."""
        return actions if actions.ndim > 1 else (actions[e, ...] for e in range(len(actions)))

    def _account(self, env: int, action: Array, reward: float, regret: Any) -> None:
        try:
            regret = real(regret, "info['regret']")
        except Nonsense as error:
            raise self._contacts[env].failure(step_of(action), error) from error
        arm = action if self._whole_numbers else 0
        self._meter = self._meter or RegretMeter(self.spec.num_actions)
        self._meter.add(*(np.array([value]) for value in (arm, reward, regret)))

    def _find_proof(self, check: Callable[[], None] | None) -> Proof:
        return env_state.prove(self._make, check) if self._make else Proof("another one like it cannot be made")

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
    return InProcess(envs, recipe.actions(envs[0].action_space), recipe.unseen, () if evaluation else recipe.info_keys)


class Subprocess(_Vector):
    """One process per environment. Pays off where a step takes longer than a few messages, some 0.1 ms.

    Args:
        recipe: makes an environment; sent to the children.
        num_envs: how many.
    """

    def __init__(self, recipe: Recipe, num_envs: int):
        self._children = Children(recipe, num_envs, AutoresetMode.SAME_STEP)
        actions = recipe.actions(self._children.single_action_space)
        super().__init__(self._children.read_spec(actions), actions)
        self._return, self._length = np.zeros(num_envs), np.zeros(num_envs, np.int64)
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
        return env_state.prove(self._make.unseen, check)

    def _capture(self) -> list[StateDict]:
        return self._children.capture()

    def _restore(self, states: list[StateDict]) -> None:
        self._children.restore(states)


def subprocess(recipe: Recipe, num_envs: int, *, evaluation: bool = False) -> VectorEnv:
    """One process per environment, for environments whose steps are slow."""
    return Subprocess(recipe, num_envs)


class Native(_Vector):
    """An environment's own vector, which must reset in the same step. It has one random stream, not one per env.

    Args:
        envs: a Gymnasium vector.
        actions: how an agent's actions become the environment's.

    Raises:
        ConfigError: the vector resets in the next step or not at all.
    """

    def __init__(self, envs: gym.vector.VectorEnv, actions: ActionMap):
        _require_same_step(envs)
        super().__init__(read_spec(envs, envs.single_observation_space, actions, envs.num_envs), actions)
        self._return, self._length = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self.envs = envs
        self._inner: Any = envs.unwrapped  # what may have a state_dict

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start all environments; the first seed is the vector's. Returns obs [E, *obs]."""
        seed = self._begin(seeds)[0]
        try:
            result = self.envs.reset(seed=seed)
            if not (isinstance(result, tuple) and len(result) == 2):
                raise Nonsense(f"it must return (obs, info), not {type(result).__name__}")
            self.obs[:] = self._checked(result[0])
        except BaseException as error:
            if is_ours(error):
                raise
            raise self._failure("reset()", error) from error
        self._require_finite(self.obs, range(self.num_envs))
        return self.obs

    def reset_one(self, env: int, seed: int) -> Array:
        raise EnvError(f"{self.spec.id}: a native vector cannot start one environment by itself")

    def step(self, action: Array) -> Step:
        """Step all environments; those whose episode ends are reset at once."""
        actions = np.array(self._actions(action))  # a copy: a vector may keep its actions or change them
        try:
            obs, reward, terminated, truncated, info = self.envs.step(actions)
            reward, terminated, truncated = self._numbers(reward), self._flags(terminated), self._flags(truncated)
            if not isinstance(info, dict):
                raise Nonsense(f"info must be a dict, not {shown(info)}")
            result = self._checked(obs), reward, terminated, truncated, info
        except BaseException as error:
            if is_ours(error):
                raise
            raise self._failure(step_of(action.tolist()), error) from error
        return self._digest(action, result)

    def close(self) -> None:
        try:
            self.envs.close()
        except BaseException as error:
            if is_ours(error):
                raise
            log.warning("%s: close() failed: %s", self.spec.id, described(error))

    def _checked(self, obs: Any) -> Array:
        """Observations [E, *obs] of the space."""
        obs, space = np.asarray(obs), self.spec.obs_space
        if obs.shape != self.obs.shape or not np.can_cast(obs.dtype, space.dtype, "same_kind"):
            wanted = f"{space.dtype} {self.obs.shape}"
            raise Nonsense(f"its observations must be {wanted}, but they are {obs.dtype} {obs.shape}")
        if space.n and (obs.min() < 0 or obs.max() >= space.n):
            raise Nonsense(f"its space is Discrete({space.n}), but the observations are {shown(obs.tolist())}")
        return obs

    def _numbers(self, reward: Any) -> Array:
        """Rewards float64 [E]."""
        reward = np.asarray(reward)
        if reward.shape != (self.num_envs,) or reward.dtype.kind not in "biuf":
            raise Nonsense(f"its rewards are {reward.dtype} {reward.shape}, not a number per environment")
        if not (np.abs(reward) <= LARGEST).all():
            raise Nonsense(f"the rewards are {shown(reward.tolist())}")
        return reward.astype(np.float64)

    def _flags(self, flags: Any) -> Array:
        """`terminated` or `truncated` [E] as bool, the caller's own."""
        flags = np.array(flags)
        if flags.shape != (self.num_envs,) or flags.dtype.kind != "b":
            raise Nonsense(f"`terminated` and `truncated` must be bool [{self.num_envs}], not {flags.dtype}")
        return flags

    def _failure(self, call: str, error: BaseException) -> EnvError:
        return EnvError(f"{self.spec.id}: the vector (seed {self._seeds[0]}) failed in {call}\n{described(error)}")

    def _find_proof(self, check: Callable[[], None] | None) -> Proof:
        return Proof("" if hasattr(self._inner, "state_dict") else "its own vector cannot save its state")

    def _doubt(self, states: list[StateDict]) -> str:
        return ""  # it speaks for itself

    def _capture(self) -> list[StateDict]:
        try:
            return [self._inner.state_dict()]
        except BaseException as error:
            if is_ours(error):
                raise
            raise Unsaveable(f"its state_dict() failed: {described(error)}") from error

    def _restore(self, states: list[StateDict]) -> None:
        self._inner.load_state_dict(states[0])


class _Single(gym.Env):
    """A vector of one as a plain environment: it ends its episode by showing the final observation."""

    def __init__(self, envs: gym.vector.VectorEnv):
        _require_same_step(envs)
        self._envs = envs
        self.spec, self.metadata = envs.spec, envs.metadata
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._envs.reset(seed=seed)[0][0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self._envs.step(np.asarray(action)[None])
        last = info["final_obs"] if terminated[0] or truncated[0] else obs
        return last[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def close(self) -> None:
        self._envs.close()


def native(recipe: Recipe, num_envs: int, *, evaluation: bool = False) -> VectorEnv:
    """The environment's own vectorised implementation, where it has one; one random stream for all."""
    if not evaluation:
        envs = recipe.vector(num_envs)
        return Native(envs, recipe.actions(envs.single_action_space))
    # every evaluation episode has a seed of its own, which a native vector cannot take
    if recipe.spec.entry_point is not None:
        return in_process(recipe, num_envs)
    singles = [_Single(recipe.vector(1)) for _ in range(num_envs)]
    return InProcess(singles, recipe.actions(singles[0].action_space))


def _finite(numbers: Array) -> bool:
    """Whether all numbers [N] are finite: their sum is, or else each is looked at."""
    return isfinite(sum(numbers.tolist()) if numbers.size <= FEW else numbers.dot(numbers)) or bool(
        np.isfinite(numbers).all()
    )


def _require_same_step(envs: gym.vector.VectorEnv) -> None:
    mode = envs.metadata.get("autoreset_mode")
    if mode == AutoresetMode.SAME_STEP:
        return
    said = f"resets in mode {mode.value}" if isinstance(mode, AutoresetMode) else "does not say when it resets"
    raise ConfigError(
        "experience",
        f"{type(envs.unwrapped).__name__} {said}: its resets would end up in the data as transitions that never were",
        "use experience=in_process, or a vector whose metadata['autoreset_mode'] is AutoresetMode.SAME_STEP",
    )
