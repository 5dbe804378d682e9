"""Experience for a loop of one's own: environments and an agent become a stream of steps, pieces or rollouts.

    source = ExperienceSourceFirstLast(gym.make("CartPole-v1"), agent, gamma=0.99, steps_count=3)
    for piece in source:
        ...                                     # piece.state, .action, .reward, .last_state

The names, the order and the tails are PTAN's. Every sweep the agent is called once, with the observations of all
environments, and every environment is stepped once; then what is new comes out, environment by environment:

    its window of `steps_count` steps, once so many belong to the episode and if the sweep's number is a multiple of
    `steps_delta`, counted from 0 over all episodes;
    where its episode ended, the same window without the first step, without the first two, ... down to the last step
    alone; of an episode that never filled a window, all of it first.

Environments start anew by themselves, and a stream never ends. An episode that was cut (truncated) is told from one
whose MDP ended (terminated): see `pieces`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlrun.agents.agent import Agent
from rlrun.agents.base import rows, values
from rlrun.envs.spaces import action_map, to_space
from rlrun.envs.vector.in_process import InProcess
from rlrun.envs.vector.native import Native
from rlrun.errors import ConfigError, RlrunError
from rlrun.experience.acting import Acting
from rlrun.experience.frames import are_stacks, shared
from rlrun.experience.pieces import Experience, ExperienceFirstLast, RolloutBatch
from rlrun.ops.nstep import fold
from rlrun.ops.returns import discounted_returns
from rlrun.seeding import LARGEST
from rlrun.types import Array, EpisodeStat, Space, Step, VectorEnv

Environments = gym.Env | Sequence[gym.Env] | gym.vector.VectorEnv | VectorEnv


class _Sweep(NamedTuple):
    """Every environment stepped once. But for those of `step`, the arrays are the taker's to keep."""

    obs: Array  # [E, *obs] that was acted on
    action: Array  # [E, *action]
    extras: Mapping[str, Array]  # what the agent recorded
    step: Step
    next_obs: Array  # [E, *obs] that is acted on next


class _Source:
    """What all sources share: they let the agent act, and keep the books of finished episodes."""

    def __init__(self, env: Environments, agent: Agent, steps_count: int, seed: int | None = None):
        if not hasattr(agent, "act"):
            raise TypeError(f"a {type(agent).__name__} is no agent: derive it from rlrun.agents.BaseAgent")
        if steps_count < 1:
            raise ValueError(f"steps_count must be at least 1, got {steps_count}")
        self.pool, self.envs = _pooled(env)
        self.agent, self.steps_count = agent, steps_count
        self.env_steps = 0  # taken so far, summed over the environments
        self._seed = seed
        self._streams = 0  # iterators so far
        self._finished: list[EpisodeStat] = []

    def pop_total_rewards(self) -> list[float]:
        """Undiscounted returns of the episodes that ended since the last call, as the environments rewarded them."""
        return [total for total, _ in self.pop_rewards_steps()]

    def pop_rewards_steps(self) -> list[tuple[float, int]]:
        """Returns and lengths of the episodes that ended since the last call."""
        finished, self._finished = self._finished, []
        return [(stat.episode_return, stat.length) for stat in finished]

    def _sweeps(self) -> Iterator[_Sweep]:
        """Endless, beginning with new episodes. An episode's end reaches the agent when the next sweep is asked for."""
        space = self.envs.spec.action_space
        self._streams = stream = self._streams + 1
        acting = self._acting = Acting(self.agent, self.envs.num_envs)
        obs = self.envs.reset(self._seeds()).copy()
        while True:
            if stream != self._streams:
                raise RlrunError("another iterator of this source has begun new episodes in its environments since")
            action, extras = acting(obs, explore=True, env_steps=self.env_steps)
            action = _fitting(action, space, len(obs))
            step = self.envs.step(action)
            self.env_steps += len(obs)
            next_obs = step.obs.copy()
            yield _Sweep(obs, action, extras, step, next_obs)
            acting.ended(step.final_obs)
            obs = next_obs

    def _seeds(self) -> list[int]:
        count, seed, self._seed = self.envs.num_envs, self._seed, None
        if seed is not None:
            return [seed + e for e in range(count)]
        each = 1 if len(self.pool) == count else count  # a vector has one stream, as far as anybody asks
        return [drawn for env in self.pool for drawn in _stream(env).integers(LARGEST, size=each).tolist()]


class ExperienceSource(_Source):
    """Windows of n steps that follow each other: tuples of `Experience`, shorter at an episode's end.

    Args:
        env: an environment, several of one kind, or a Gymnasium vector that resets in the same step.
        agent: any of `rlrun.agents`, or one's own.
        steps_count: n.
        steps_delta: sweeps from one full window to the next; what an episode's end brings comes in any case.
        seed: environment e starts from seed + e, once; without it, from its own random stream, which is the caller's to
            seed.

    Raises:
        TypeError: `env` is no environment, or `agent` no agent.
        ValueError: the same environment stands twice in the list, or they are not of one kind.
        ConfigError: a space is of no kind that agents know, or the vector resets in the next step.
        RlrunError: from an iterator of the source that is used after another has begun: they play in the same
            environments.
    """

    def __init__(
        self, env: Environments, agent: Agent, steps_count: int = 2, steps_delta: int = 1, seed: int | None = None
    ):
        if steps_delta < 1:
            raise ValueError(f"steps_delta must be at least 1, got {steps_delta}")
        super().__init__(env, agent, steps_count, seed)
        self.steps_delta = steps_delta

    def __iter__(self) -> Iterator[Any]:
        return self._windows(self.steps_count)

    def episodes(self) -> Iterator[tuple[Experience, ...]]:
        """Whole episodes, in the order in which they end."""
        under_way: list[list[Experience]] = [[] for _ in range(self.envs.num_envs)]
        for steps, ended in self._steps():
            for e, experience in enumerate(steps):
                under_way[e].append(experience)
                if experience.done:
                    self._finished.append(ended[e])
                    episode, under_way[e] = tuple(under_way[e]), []
                    yield episode

    def _windows(self, size: int) -> Iterator[tuple[Experience, ...]]:
        windows: list[deque[Experience]] = [deque(maxlen=size) for _ in range(self.envs.num_envs)]
        for number, (steps, ended) in enumerate(self._steps()):
            for e, (window, experience) in enumerate(zip(windows, steps, strict=True)):
                window.append(experience)
                if len(window) == size and number % self.steps_delta == 0:
                    yield tuple(window)
                if not experience.done:
                    continue
                if len(window) < size:
                    yield tuple(window)
                while len(window) > 1:
                    window.popleft()
                    yield tuple(window)
                window.clear()
                self._finished.append(ended[e])  # told when the last of it has been taken

    def _steps(self) -> Iterator[tuple[list[Experience], dict[int, EpisodeStat]]]:
        """Sweep by sweep: a step of each environment, and the episodes that ended, by environment.

        What a step led to is the same object as what the next one begins with.
        """
        states: list[Any] = []
        for sweep in self._sweeps():
            step = sweep.step
            states = states or _kept(sweep.obs)
            following = _kept(sweep.next_obs, states, step.final_obs)
            led = following.copy()
            for e, final in step.final_obs.items():
                (led[e],) = _kept(final[None], [states[e]])
            told = map(rows, (step.reward, step.terminated, step.truncated))
            steps = list(map(Experience, states, rows(sweep.action), *told, led))
            yield steps, {stat.env: stat for stat in step.episodes}
            states = following


class ExperienceSourceFirstLast(ExperienceSource):
    """Pieces of n steps, folded: `ExperienceFirstLast` keeps the first observation and action, the last observation and
    the discounted rewards between, which is all that learning from n steps takes.

    A piece comes when the observation behind it has been acted on, so the last n of an episode come together.

    Args:
        gamma: discount factor per step.
        steps_count: n.
        env, agent, steps_delta, seed: see ExperienceSource.
    """

    def __init__(
        self,
        env: Environments,
        agent: Agent,
        gamma: float,
        steps_count: int = 1,
        steps_delta: int = 1,
        seed: int | None = None,
    ):
        super().__init__(env, agent, steps_count, steps_delta, seed)
        self.gamma = _share(gamma)

    def __iter__(self) -> Iterator[ExperienceFirstLast]:
        for window in self._windows(self.steps_count + 1):
            yield _folded(window[: self.steps_count], self.gamma)


class ExperienceSourceRollouts(_Source):
    """Rollouts of T steps as A3C has them (Mnih et al. 2016, algorithm S3): a `RolloutBatch` of all environments.

    The return of a step is what the rollout brought from it on, and the value of what followed: of the state behind the
    last step, or of the last observation of an episode that was cut. Where the MDP ended nothing followed.

    A rollout comes when the agent has acted on the state behind it, which tells that state's value; the next rollout
    begins with this step. So a learner's first step in a rollout is one that it chose before the last update.

    Args:
        agent: one that tells values: ActorCriticAgent, any whose agent states are the values, or that records `value`.
        gamma: discount factor per step.
        steps_count: T.
        env, seed: see ExperienceSource.

    Raises:
        TypeError: from the iterator: the agent tells no values.
    """

    def __init__(self, env: Environments, agent: Agent, gamma: float, steps_count: int = 5, seed: int | None = None):
        super().__init__(env, agent, steps_count, seed)
        self.gamma = _share(gamma)

    def __iter__(self) -> Iterator[RolloutBatch]:
        taken: list[_Taken] = []
        for sweep in self._sweeps():
            step, memory = sweep.step, self._acting.memory
            value = sweep.extras["value"] if "value" in sweep.extras else values(memory)
            self._finished += step.episodes
            follows = np.zeros(len(value), np.float32)
            if cut := [e for e in step.final_obs if step.truncated[e]]:
                final = np.stack([step.final_obs[e] for e in cut])
                follows[cut] = self.agent.value(final, None if memory is None else memory[cut])  # type: ignore[attr-defined]
            ends = step.terminated.copy(), step.truncated.copy()
            if len(taken) == self.steps_count:
                yield self._batch(taken, value)
                taken = []
            taken.append(_Taken(sweep.obs, sweep.action, step.reward.copy(), *ends, value, follows))

    def _batch(self, taken: list[_Taken], last_value: Array) -> RolloutBatch:
        obs, action, reward, terminated, truncated, value, follows = map(np.stack, zip(*taken, strict=True))
        next_value = np.where(truncated, follows, np.concatenate([value[1:], last_value[None]]))
        returns = discounted_returns(reward, next_value, terminated, truncated, self.gamma)
        columns = (obs, returns, action, value)
        return RolloutBatch(*(column.swapaxes(0, 1).reshape(-1, *column.shape[2:]) for column in columns))


class _Taken(NamedTuple):
    """A sweep of a rollout, each [E, ...]."""

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    value: Array  # of `obs`
    follows: Array  # value of the last observation, where the episode was cut


def _pooled(env: Any) -> tuple[list[Any], VectorEnv]:
    """What there is to be stepped, one by one, and as one vector."""
    if isinstance(env, gym.vector.VectorEnv):
        try:
            return [env], Native(env, action_map(env.single_action_space))
        except ConfigError as error:
            hint = "give a list of its environments, or vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP}"
            raise ConfigError("env", error.problem, hint) from None
    if hasattr(env, "num_envs") and not isinstance(env, gym.Env):
        return [env], env  # one of rlrun.envs.vector
    pool = list(env) if isinstance(env, Sequence) and not isinstance(env, str) else [env]
    if not pool:
        raise ValueError("there is no environment in the list")
    for e, other in enumerate(pool):
        if not isinstance(other, gym.Env):
            raise TypeError(f"{other!r} is no Gymnasium environment; gymnasium.make makes one of an id")
        if _form(other) != _form(pool[0]) or other.action_space != pool[0].action_space:
            raise ValueError(f"environment {e} has other spaces than environment 0: one agent cannot act in both")
    return pool, InProcess(pool)


def _stream(env: Any) -> np.random.Generator:
    stream = getattr(env, "np_random", None)
    return (stream[0] if isinstance(stream, tuple) else stream) or np.random.default_rng()


def _form(env: gym.Env) -> tuple[Any, ...]:
    """What observations look like, whatever their bounds."""
    space = to_space(env.observation_space)
    return space.kind, space.shape, space.dtype, space.n, space.nvec


def _kept(obs: Array, before: Sequence[Any] = (), begun: Container[int] = ()) -> list[Any]:
    """Observations [E, *obs] one by one; stacks share pictures with those of the step before, where none has begun."""
    if not are_stacks(obs):
        return rows(obs)
    return [shared(stack, before[e] if before and e not in begun else None) for e, stack in enumerate(obs)]


def _folded(steps: Sequence[Experience], gamma: float) -> ExperienceFirstLast:
    first, last, between = steps[0], steps[-1], len(steps) - 1
    reward = np.array([step.reward for step in steps], np.float32)
    discount = np.array([gamma] * between + [0.0 if last.terminated else gamma], np.float32)
    total, following, count = (result.item() for result in fold(reward, discount, np.zeros(between, bool)))
    ends = last.terminated, last.truncated
    return ExperienceFirstLast(first.state, first.action, total, last.next_obs, following, *ends, count)


def _fitting(actions: Any, space: Space, count: int) -> Array:
    """Actions as an array [E, *action]; ValueError if they are not of that shape."""
    if space.fields and not getattr(actions, "dtype", np.dtype(object)).names:
        made = np.zeros(len(actions), space.dtype)
        for e, action in enumerate(actions):
            for name in space.fields:
                made[name][e] = _part(action, name)
        actions = made
    actions = np.asarray(actions)
    if actions.shape != (count, *space.shape):
        raise ValueError(f"the agent's actions have shape {actions.shape}, expected {(count, *space.shape)}")
    return actions


def _part(action: Any, name: str) -> Any:
    """The part of a Dict or Tuple, and of what is inside, that has this dotted name."""
    for key in name.split("."):
        action = action[int(key) if isinstance(action, tuple | list) else key]
    return action


def _share(gamma: float) -> float:
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    return gamma
