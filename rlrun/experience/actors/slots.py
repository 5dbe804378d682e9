"""How the chunks of an actor go to the learner: in slots of shared memory, filled and taken in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rlrun.experience.acting import Acting
from rlrun.experience.actors.crew import Delivery
from rlrun.experience.actors.shared import Form, Shared
from rlrun.experience.rows import COLUMNS, Rows
from rlrun.types import MASK, Array, Chunk, EnvSpec, EpisodeStat, Gradients, Rollout

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm

EPISODE = [("return", "f8"), ("length", "i8"), ("env", "i8")]
HEAD = [("sweeps", "i8"), ("version", "i8"), ("ends", "i8"), ("episodes", "i8")]


class Content(NamedTuple):
    """What an actor sends.

    Args:
        env: of the actor's E environments.
        steps: T, sweeps of a chunk at most.
        extras: what the agent records: name -> shape and type for one sweep, [E, ...].
        gradients: how many numbers a gradient has, where gradients are sent in place of rollouts.
        aux: the names of what is said of a gradient.
    """

    env: EnvSpec
    steps: int
    extras: Mapping[str, Form] = {}
    gradients: int = 0
    aux: tuple[str, ...] = ()

    @classmethod
    def of(cls, algo: Algorithm, env: EnvSpec, place: range, num_envs: int, env_steps: int) -> Content:
        """What goes to an algorithm.

        Args:
            env: of the environments at `place` among the run's `num_envs`.
            env_steps: at which it is tried what the agent records.
        """
        if algo.sends == "gradients":
            return cls(env, algo.rollout_steps, {}, algo.gradient_size, algo.gradient_aux)
        return cls(env, algo.rollout_steps, recorded(algo, env, place, num_envs, env_steps))

    @property
    def nbytes(self) -> int:
        """Of one chunk; but for the episodes that end in it, each with an observation."""
        forms = self.forms(1)
        written = forms.keys() - {"episodes", "ends", "final_obs"}
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in map(forms.__getitem__, written))

    def forms(self, count: int) -> dict[str, Form]:
        """The arrays of so many chunks."""
        env, steps, obs, action = self.env, self.steps, self.env.obs_space, self.env.action_space
        each, most, flag = (count, steps, env.num_envs), steps * env.num_envs, np.dtype(bool)
        forms: dict[str, Form] = {"head": ((count,), np.dtype(HEAD)), "sweeps": ((1,), np.dtype(np.int64))}
        forms["episodes"] = ((count, most), np.dtype(EPISODE))
        if self.gradients:
            forms["gradients"] = ((count, self.gradients), np.dtype(np.float32))
            forms["aux"] = ((count, len(self.aux)), np.dtype(np.float64))
        else:
            forms["obs"] = ((count, steps + 1, env.num_envs, *obs.shape), obs.dtype)
            forms["action"] = ((*each, *action.shape), action.dtype)
            forms |= {"reward": (each, np.dtype(np.float32)), "terminated": (each, flag), "truncated": (each, flag)}
            forms |= {f"extra {key}": ((*each, *shape[1:]), dtype) for key, (shape, dtype) in self.extras.items()}
            forms |= {"ends": ((count, most), np.dtype(np.int64)), "final_obs": ((count, most, *obs.shape), obs.dtype)}
        return forms


class Slots:
    """Room for some chunks of one actor. Both sides have one, on the same memory.

    Args:
        content: of a chunk.
        count: slots.
    """

    def __init__(self, content: Content, count: int):
        self.count, self.aux, self.envs = count, content.aux, content.env.num_envs
        self.shared = Shared(content.forms(count))
        self._extras = tuple(content.extras)

    @property
    def swept(self) -> Array:
        """[1] int64: how many sweeps the actor has done in all."""
        return self.shared["sweeps"]

    def rows(self, slot: int) -> Rows | None:
        """The columns of a slot; None where rollouts are not sent."""
        return None if "gradients" in self.shared.forms else _Slot(self.shared, slot, self._extras)

    def action(self, slot: int, row: int) -> Array | None:
        """The actions [E, ...] of a row, if there is one and rollouts are sent."""
        return self.shared["action"][slot, row] if row >= 0 and "action" in self.shared.forms else None

    def put(self, slot: int, delivery: Delivery) -> None:
        """What lies in the rows of a slot already, and what goes with it.

        Raises:
            ValueError: the agent recorded what it had not when it was tried.
        """
        shared, (chunk, version) = self.shared, delivery
        for number, episode in enumerate(chunk.episodes):
            shared["episodes"][slot, number] = tuple(episode)
        ends = 0
        if "gradients" in shared.forms:
            shared["gradients"][slot] = chunk.data.values
            shared["aux"][slot] = [chunk.data.aux[name] for name in self.aux]
        else:
            ends = len(chunk.data.final_obs)
            for number, ((t, e), final) in enumerate(chunk.data.final_obs.items()):
                shared["ends"][slot, number] = t * self.envs + e
                shared["final_obs"][slot, number] = final
        shared["head"][slot] = (chunk.env_steps // self.envs, version, ends, len(chunk.episodes))

    def get(self, slot: int) -> Delivery:
        """What was put into a slot. Arrays are those of the slot."""
        shared = self.shared
        sweeps, version, ends, count = shared["head"][slot].tolist()
        episodes = [EpisodeStat(*episode) for episode in shared["episodes"][slot, :count].tolist()]
        steps = sweeps * self.envs
        if "gradients" in shared.forms:
            aux = dict(zip(self.aux, shared["aux"][slot].tolist(), strict=True))
            data: Any = Gradients(shared["gradients"][slot], aux, steps, version)
        else:
            where = (divmod(place, self.envs) for place in shared["ends"][slot, :ends].tolist())
            final_obs = dict(zip(where, shared["final_obs"][slot, :ends].copy(), strict=True))
            columns: dict[str, Any] = {name: shared[name][slot, :sweeps] for name in COLUMNS}
            extras = {key: shared[f"extra {key}"][slot, :sweeps] for key in self._extras}
            obs = shared["obs"][slot, : sweeps + 1]
            data = Rollout(obs, **columns, final_obs=final_obs, extras=extras, policy_version=version)
        return Delivery(Chunk(steps, episodes, data), version)


class _Slot(Rows):
    """The columns of one slot."""

    def __init__(self, shared: Shared, slot: int, extras: tuple[str, ...]):
        for name in ("obs", *COLUMNS):
            setattr(self, name, shared[name][slot])
        self.extras = {key: shared[f"extra {key}"][slot] for key in extras}

    def extra(self, key: str, value: Array) -> Array:
        if key not in self.extras:
            raise ValueError(f"the agent records {key!r}, which it did not when it was tried")
        return self.extras[key]


def recorded(algo: Algorithm, env: EnvSpec, place: range, num_envs: int, env_steps: int) -> dict[str, Form]:
    """What the agent records of a sweep [E, ...], by name: it is tried on observations of zeros.

    Args:
        env: of the environments at `place` among the run's `num_envs`.
        env_steps: at which it is tried.
    """
    agent = algo.agent.fork(np.random.default_rng(0))
    agent.station(place, num_envs)
    obs = np.zeros((env.num_envs, *env.obs_space.shape), env.obs_space.dtype)
    if env.obs_space.masked:
        obs[MASK] = True
    _, extras = Acting(agent, env.num_envs)(obs, explore=True, env_steps=env_steps)
    return {key: (value.shape, value.dtype) for key, value in extras.items()}
