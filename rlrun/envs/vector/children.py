"""Environments in child processes: how they start, fail and end.

Gymnasium's AsyncVectorEnv carries the messages and shares the observations' memory. What it leaves open is settled
here and in rlrun/offspring.py: a child reports an error as data, with the seed and action that led to it, and one that
dies is named in an EnvError.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from rlrun import offspring
from rlrun.envs import state as env_state
from rlrun.envs.contact import Contact
from rlrun.envs.faults import ChildError, described, traced
from rlrun.envs.info import InfoMeter, Totals
from rlrun.envs.recipe import Recipe
from rlrun.envs.spaces import ActionMap, read_spec
from rlrun.envs.state import Unsaveable
from rlrun.envs.vector.base import GOES_ON
from rlrun.errors import Abandoned, EnvError
from rlrun.types import Array, StateDict

PATIENCE = 3.0  # seconds a child has to close its environment before it is killed


class Children(AsyncVectorEnv):
    """One process per environment.

    Args:
        recipe: makes an environment; sent to every child.
        num_envs: how many.
        autoreset_mode: when an environment is reset after its episode's end.

    Raises:
        EnvError: from any method, if an environment fails or its process dies.
    """

    def __init__(self, recipe: Recipe, num_envs: int, autoreset_mode: AutoresetMode):
        self._env_id = recipe.spec.id
        self._seeds: Sequence[int] = [0] * num_envs
        self._doing, self._actions = "its start", None
        self.parent_pipes, self.processes = [], []
        model = Contact(recipe.unseen(), masks=recipe.masks)  # opened once in this process too, to read its spaces
        model.close()
        self.actions = recipe.actions(model.env.action_space)
        self.env_spec = read_spec(model.env, model.env.observation_space, self.actions, num_envs, bool(recipe.masks))
        self._wire = _Wire(model, self.actions)
        starts = [_Start(recipe, index, self._wire) for index in range(num_envs)]
        with offspring.single_threaded():
            self._guarded(
                super().__init__,
                starts,
                copy=False,
                context=offspring.start_method(__name__),
                autoreset_mode=autoreset_mode,
            )
        # before multiprocessing waits for them at exit
        Finalize(self, offspring.kill, (self.processes,), exitpriority=100)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        self._seeds, self._doing, self._actions = seed, "reset()", None
        obs, info = self._guarded(super().reset, seed=seed, options=options)
        return self._wire.unpacked(obs), info

    def step(self, actions: Any) -> Any:
        self._actions = actions
        obs, reward, terminated, truncated, info = self._guarded(super().step, self._wire.packed(actions))
        if "final_obs" in info:
            info["final_obs"] = [last if last is None else self._wire.unpacked(last) for last in info["final_obs"]]
            info.setdefault(GOES_ON, info.get("final_info", {}).get(GOES_ON, [False] * self.num_envs))
        return self._wire.unpacked(obs), reward, terminated, truncated, info

    def capture(self) -> list[StateDict]:
        """One state per environment; Unsaveable if one of them cannot be had."""
        states = self._guarded(self.call, "capture")
        for state in states:
            if isinstance(state, str):
                raise Unsaveable(state)
        return list(states)

    def restore(self, states: Sequence[StateDict]) -> None:
        for failed in self._guarded(self.call, "restore", states):
            if failed:
                raise EnvError(failed)

    def take_info(self) -> list[Totals]:
        """What was asked of each environment's `info`, since the last call."""
        return list(self._guarded(self.call, "take_info"))

    def info_states(self) -> list[StateDict]:
        return list(self._guarded(self.call, "info_state"))

    def restore_info(self, states: Sequence[StateDict]) -> None:
        self._guarded(self.call, "restore_info", states)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Let the children close their environments, for a while; with `terminate` at once end them."""
        pipes = [pipe for pipe in self.parent_pipes if pipe is not None]
        if not terminate:
            for pipe in pipes:
                with contextlib.suppress(OSError):
                    pipe.send(("close", None))
            end = time.monotonic() + PATIENCE
            for process in self._started():
                process.join(max(0.0, end - time.monotonic()))
        offspring.kill(self._started())
        for pipe in pipes:
            pipe.close()

    def _guarded(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of `call`, unless a child reports an error or is no more."""
        try:
            result = call(*args, **kwargs)
        except (EOFError, OSError) as error:
            lost = self._lost(error)
            self.close(terminate=True)
            raise lost from error
        except Abandoned:  # the answer is not waited for, so there is no talking to them any more
            self.close(terminate=True)
            raise
        info = result[-1] if isinstance(result, tuple) else None
        if isinstance(info, dict) and "error" in info:
            text, trace = next(said for said in info["error"] if said)
            raise EnvError(text) from ChildError(trace)
        return result

    def _started(self) -> list[BaseProcess]:
        """All processes, unless the last one failed to start."""
        return [process for process in self.processes if process.pid is not None]

    def _lost(self, error: Exception) -> EnvError:
        """Which child died, how and when; a pipe may break a moment before its process is gone."""
        if (e := len(self._started())) < self.num_envs:
            return EnvError(
                f"{self._env_id}: the process of environment {e} could not be started: {type(error).__name__}: {error}"
            )
        gone = wait([process.sentinel for process in self.processes], timeout=PATIENCE)
        dead = [(e, process) for e, process in enumerate(self.processes) if process.sentinel in gone]
        if not dead:
            return EnvError(f"{self._env_id}: no contact with its processes: {type(error).__name__}: {error}")
        e, process = dead[0]
        process.join(PATIENCE)
        doing = self._doing if self._actions is None else f"step({self._actions[e]})"
        how = offspring.fate(process)
        return EnvError(
            f"{self._env_id}: the process of environment {e} (seed {self._seeds[e]}) died in {doing}: {how}\n"
            "env.vector=in_process shows more of what happened"
        )


class _Wire:
    """How observations and actions go between the processes: as Gymnasium has them, and records as their bytes.

    Args:
        model: an environment as it is seen in the children.
        actions: the map of its actions.
    """

    def __init__(self, model: Contact, actions: ActionMap):
        self.space, self.actions = model.space, actions
        self._action_dtype = actions(np.zeros((1, *actions.space.shape), actions.space.dtype)).dtype
        self.observation_space = _bytes(model.space.dtype) if model.space.fields else model.env.observation_space
        self.action_space = _bytes(self._action_dtype) if actions.space.fields else model.env.action_space

    def packed(self, records: Array) -> Array:
        """Records [...] as bytes [..., size]; anything else unchanged."""
        if records.dtype.names is None:
            return records
        return np.frombuffer(records.tobytes(), np.uint8).reshape(*records.shape, -1)

    def unpacked(self, obs: Array) -> Array:
        """Observations as they were before they were packed."""
        return obs.view(self.space.dtype)[..., 0] if self.space.fields else obs

    def action(self, action: Any) -> Any:
        """What an environment takes, from what came over the wire for it."""
        own = action.view(self._action_dtype) if self.actions.space.fields else np.asarray(action)[None]
        return next(iter(self.actions.singly(own)))


def _bytes(dtype: np.dtype) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, (dtype.itemsize,), np.uint8)


class _Start:
    """Makes one child's environment, in the child. Asked in the parent, it gives one that has spaces and no more."""

    def __init__(self, recipe: Recipe, index: int, wire: _Wire):
        self._recipe, self._index, self._parent, self._wire = recipe, index, os.getpid(), wire

    def __call__(self) -> gym.Env:
        if os.getpid() == self._parent:
            spaces = gym.Env[Any, Any]()
            spaces.observation_space, spaces.action_space = self._wire.observation_space, self._wire.action_space
            return spaces
        offspring.begin()
        return _Child(self._recipe, self._index, self._wire)


class _Child(gym.Env):
    """The environment as its parent sees it: errors come as data, info stays at home.

    Args:
        recipe: makes the environment; one that cannot be made says so when it is reset.
        index: its place among the children.
        wire: how it speaks with its parent.
    """

    def __init__(self, recipe: Recipe, index: int, wire: _Wire):
        self.observation_space, self.action_space = wire.observation_space, wire.action_space
        self._index, self._wire = index, wire
        self._nothing = wire.packed(np.zeros(wire.space.shape, wire.space.dtype))
        self._contact: Any = None
        self._meter = InfoMeter(recipe.info_keys) if recipe.info_keys else None
        try:
            self._contact = Contact(recipe(), index, recipe.masks)
            self._tables = env_state.tables(self._contact.env)
        except BaseException as error:
            named = EnvError(f"{recipe.spec.id}: environment {index}: {described(error)}")
            named.__cause__ = error
            self._broken = named

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._contact is None:
            return self._nothing, _report(self._broken)
        if seed is not None:  # an environment may draw from the global streams, and nobody else does here
            random.seed(seed)
            np.random.seed(seed)
        try:
            return self._sent(self._contact.reset(seed)), {}
        except EnvError as error:
            return self._nothing, _report(error)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            obs, reward, terminated, truncated, info = self._contact.step(self._wire.action(action))
        except EnvError as error:
            return self._nothing, 0.0, False, False, _report(error)
        if self._meter is not None:
            self._meter.add(info)
        return self._sent(obs), reward, terminated, truncated, {GOES_ON: True} if info.get(GOES_ON) else {}

    def _sent(self, obs: Any) -> Array:
        """A copy as it goes over the wire: where an episode ends, the reset that follows may overwrite the original."""
        return self._wire.packed(np.array(obs))

    def take_info(self) -> Totals:
        return self._meter.take() if self._meter else {}

    def info_state(self) -> StateDict:
        return self._meter.state_dict() if self._meter else {}

    def restore_info(self, states: Sequence[StateDict]) -> None:
        if self._meter:
            self._meter.load_state_dict(states[self._index])

    def capture(self) -> StateDict | str:
        """The state, or why it cannot be had."""
        try:
            return env_state.capture(self._contact.env, self._tables)
        except Unsaveable as error:
            return str(error)

    def restore(self, states: Sequence[StateDict]) -> str:
        """Take over a state. Returns what went wrong, if something did."""
        try:
            env_state.restore(self._contact.env, states[self._index])
        except BaseException as error:
            return f"{self._contact.id}: the saved state does not fit environment {self._index}: {described(error)}"
        return ""

    def close(self) -> None:
        if self._contact is not None:
            self._contact.close()
        sys.stderr = io.StringIO()  # nobody wants to read that the parent hung up


def _report(error: EnvError) -> dict[str, Any]:
    """What the parent raises, and the traceback that led to it."""
    return {"error": (str(error), traced(error))}
