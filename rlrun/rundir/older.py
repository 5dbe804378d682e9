"""Runs and sweeps of older versions: what they call by other names, and keep in other places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rlrun.types import StateDict

CHOICES: Mapping[str, str] = {  # a choice as it was, and in today's words
    "buffer=rollout": "buffer=null",
    "experience=in_process": "env.vector=in_process",
    "experience=subprocess": "env.vector=subprocess",
    "experience=native": "env.vector=native",
}


class Place(NamedTuple):
    """Where a part is found in a checkpoint that has no such part."""

    part: str
    take: Callable[[Any], StateDict]


def shared(source: StateDict) -> StateDict:
    """What training and evaluation share stood in the state of the training environments."""
    envs = source.get("envs", {})
    return {key: envs[key] for key in ("obs_stats", "values") if key in envs}


PLACES: Mapping[str, Place] = {"environments": Place("source", shared)}


def completed(state: StateDict) -> StateDict:
    """The state of a run with the parts that it lacks."""
    state = state | {part: place.take(state[place.part]) for part, place in PLACES.items() if part not in state}
    match state:
        case {"buffer": {"rng": _, **others} as buffer, "algo": dict(algo)} if not others:
            # What cut a learner's rollouts into minibatches was a buffer.
            state = state | {"buffer": {}, "algo": {"minibatches": buffer} | algo}
    return state


def config(data: dict[str, Any]) -> dict[str, Any]:
    """A run's config in today's words; where a meaning has changed since, the run keeps the old one."""
    network, env, experience = (data.get(key) for key in ("network", "env", "experience"))
    if isinstance(env, dict) and "frame_stack" in env and "action_masks" not in env:  # no notice was taken of them
        env = env | {"action_masks": False}
        data = data | {"env": env}
    if isinstance(network, dict) and network.get("name") in ("mlp", "gru", "lstm") and "conv" not in network:
        network = network | {"conv": "flat"}  # pictures were rows of numbers
        data = data | {"network": network}
    if data.get("buffer") == {"name": "rollout"}:
        data = data | {"buffer": None}
    if "seed_tree" not in data:
        data = {"seed_tree": 1} | data | ({"network": network | {"scale": False}} if isinstance(network, dict) else {})
    way = experience.get("name") if isinstance(experience, dict) else None
    if way in ("in_process", "subprocess", "native"):  # how environments are stepped, which is `env.vector`
        data = data | {"experience": {"name": "rollouts"}}
        if isinstance(env, dict) and env.get("name") == "gym":
            data = data | {"env": {**env, "vector": way}}
    return data


def words(given: Sequence[str]) -> list[str]:
    """The words that make a job of a sweep, in today's. Those for what is done anyway are left out."""
    asked = [word for word in given if word.lstrip("+") != "experience=in_process"]  # of bandits, too
    return [CHOICES.get(word.lstrip("+"), word) for word in asked]
