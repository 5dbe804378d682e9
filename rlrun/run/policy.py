"""A run's policy for use elsewhere: observations in, actions out, and no environment opened.

policy = rlrun.load("outputs/cartpole/ppo/…", checkpoint="best")
action = policy(obs)                                                     # of one environment, or of many at once

state, starts = None, np.ones(num_envs, bool)                            # as in Stable-Baselines3
action, state = policy.predict(obs, state, episode_start=starts, deterministic=True)
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlrun import registry
from rlrun.envs.recorded import NotRecorded, Record
from rlrun.envs.view import Shown
from rlrun.errors import EnvError
from rlrun.run.restore import Restored, restore
from rlrun.rundir import find
from rlrun.rundir.trust import read_config
from rlrun.seeding import Role
from rlrun.types import Array


class State(NamedTuple):
    """What a policy carries from one step of N environments to the next."""

    recent: tuple[Shown, ...]  # the observations that it still has to see, where it sees several at once
    memory: Array | None  # [N, M] what a recurrent one remembers

    @property
    def num_envs(self) -> int:
        return len(self.recent[-1].obs) if self.memory is None else len(self.memory)


class Policy:
    """The agent of a checkpoint. It learns nothing, and statistics of observations stay as they are in there.

    Observations and actions are those of the environment that the run was trained in, behind the run's `env.wrappers`
    if it has any: all else that stood between the two in training, such as stacked frames, normalisation or clipped
    actions, is done in here.

    Attributes:
        observation_space, action_space: of one environment, as Gymnasium has them.
        checkpoint: its directory.
        env_steps: after which it was taken.
    """

    def __init__(self, restored: Restored):
        self.checkpoint: Path = restored.checkpoint
        self.env_steps = restored.env_steps
        self._view = restored.setting.environments.view()
        self.observation_space, self.action_space = self._view.observation_space, self._view.action_space
        self._agent = restored.algo.agent.fork(restored.setting.seeds.generator(Role.TEST))
        self._state: State | None = None  # between two calls of the policy itself
        self._form: tuple[int, bool] | None = None  # of the observations then

    def __call__(self, obs: Any, *, deterministic: bool = True, action_masks: Any = None) -> Any:
        """The action for an observation, or for one of each of several environments.

        A policy that remembers, or sees several frames, takes one call for the next step of the same episode: say
        `reset()` where another one begins, or use `predict`.
        """
        form = _form(self.observation_space, obs)
        if form != self._form:
            self._state, self._form = None, form
        action, self._state = self.predict(obs, self._state, None, deterministic, action_masks)
        return action

    def reset(self) -> None:
        """Another episode begins with the next call."""
        self._state = None

    def predict(
        self,
        obs: Any,
        state: State | None = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, State | None]:
        """Actions for observations, and the state for the next step.

        Args:
            obs: of one environment, or of N with a leading axis; of a Dict or Tuple space the same of its parts.
            state: what the step before returned; None where all episodes begin.
            episode_start: [N] bool, in which environments an episode begins with this observation.
            deterministic: the greedy policy; otherwise it acts as in training, exploration included.
            action_masks: which actions can be taken, [n] or [N, n], where the environment of the run says so other than
                in its observations.

        Returns:
            The action, or N actions (of a Dict or Tuple space in a list); and None for a policy that needs no state.

        Raises:
            ValueError: something does not have the form that it must have.
        """
        count, single = _form(self.observation_space, obs)
        if not count:
            raise ValueError("there are no observations")
        if state is not None and not isinstance(state, State):
            raise ValueError(f"the state is a {type(state).__name__}, not what predict() returned")
        if action_masks is not None and not self._view.takes_masks:
            raise ValueError("action_masks: the run's environment told of none, but for those in its observations")
        begins = np.ones(count, bool) if state is None else np.zeros(count, bool)
        if episode_start is not None:
            begins |= _flags("episode_start", episode_start, count)
        masks = None if action_masks is None else [*np.reshape(action_masks, (count, -1))]
        rows = [copy.deepcopy(obs)] if single else _rows(self.observation_space, obs, count)
        if state is not None and state.num_envs != count:
            raise ValueError(f"the state is of {state.num_envs} environments, the observations are of {count}")
        recent = (*(state.recent if state else ()), Shown(rows, masks, begins))[-self._view.frames :]
        try:
            seen = self._view(recent)
        except EnvError as error:
            raise ValueError(str(error).splitlines()[-1]) from error
        memory = self._remembered(state, begins)
        action, memory, _ = self._agent.act(seen, memory, explore=not deterministic, env_steps=self.env_steps)
        own = self._view.actions(action)
        result: Any = [*self._view.actions.singly(own)] if own.dtype.names else own
        kept = State(recent[1 - self._view.frames :] if self._view.frames > 1 else (), memory)
        return result[0] if single else result, kept if kept.recent or memory is not None else None

    def _remembered(self, state: State | None, begins: Array) -> Array | None:
        """The memory that the step begins with."""
        initial = self._agent.initial_memory(len(begins))
        if state is None or state.memory is None or initial is None:
            return initial
        return np.where(begins[:, None], initial, state.memory)


def load(run: str | os.PathLike[str], checkpoint: str | int = "best", trust: bool = False) -> Policy:
    """The policy of a run, as one of its checkpoints has it.

    No environment is opened, unless the run is of a version that did not write down what it was trained in, or its
    algorithm plans on the environment's model.

    Args:
        run: its directory, or what else the command takes for one: `last`, the end of a name, a job's number. The path
            of one of its checkpoints names that.
        checkpoint: best, last, or a number of env steps.
        trust: obey its config even if it was made elsewhere and names code.

    Raises:
        RlrunError: there is no such run or checkpoint, or it cannot be used.
    """
    run_dir, which = find.open_checkpoint(os.fspath(run), str(checkpoint), usual="best")
    record = run_dir.read_meta().get("environment")
    return Policy(restore(run_dir, which, trust, record if _enough(record, read_config(run_dir, trust)) else None))


def _enough(record: Any, config: Mapping[str, Any]) -> bool:
    """Whether a policy can be built from what is known of its environment."""
    with suppress(NotRecorded):
        Record.from_json(record)
        name = config["algo"].get("name", "")
        return not (registry.has("algo", name) and registry.get("algo", name).needs.model)
    return False


def _form(space: gym.Space, obs: Any) -> tuple[int, bool]:
    """How many observations there are, and whether it is a single one without a leading axis.

    Raises:
        ValueError: neither.
    """
    if isinstance(space, gym.spaces.Dict) and isinstance(obs, Mapping) and space.spaces.keys() <= obs.keys():
        forms = {_form(part, obs[name]) for name, part in space.spaces.items()}
    elif isinstance(space, gym.spaces.Tuple) and isinstance(obs, Sequence) and len(obs) == len(space.spaces):
        forms = {_form(part, value) for part, value in zip(space.spaces, obs, strict=True)}
    elif isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        raise ValueError(f"the observation is not of the space {space}")
    else:
        shape, own = np.shape(obs), space.shape or ()
        if shape != own and shape[1:] != own:
            raise ValueError(
                f"the observation has shape {shape}; one is {own}, several are (N, {', '.join(map(str, own))})"
            )
        forms = {(1, True) if shape == own else (shape[0], False)}
    if len(forms) != 1:
        raise ValueError("the parts of the observation are not of as many environments each")
    return forms.pop()


def _rows(space: gym.Space, obs: Any, count: int) -> list[Any]:
    """Observations with a leading axis, one by one."""
    if isinstance(space, gym.spaces.Dict):
        columns = {name: _rows(part, obs[name], count) for name, part in space.spaces.items()}
        return [{name: column[e] for name, column in columns.items()} for e in range(count)]
    if isinstance(space, gym.spaces.Tuple):
        parts = [_rows(part, value, count) for part, value in zip(space.spaces, obs, strict=True)]
        return [*zip(*parts, strict=True)]
    return [*np.array(obs)]


def _flags(name: str, value: Any, count: int) -> Array:
    flags = np.asarray(value, bool).reshape(-1)
    if len(flags) not in (1, count):
        raise ValueError(f"{name} is of {len(flags)} environments, the observations are of {count}")
    return flags
