"""`init_from=RUN`: a new run starts with what another one has learned, and with nothing else of it.

Weights are taken as the other run's checkpoint has them, with the statistics that its observations were normalised by;
optimiser, counters, schedules, replay and random streams begin anew. Which entries of its state are weights an
algorithm declares at its registration (`weights=("q", "q_target.module")`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.envs.environments import Environments
from rlrun.errors import ConfigError, RlrunError
from rlrun.run.parts import Parts
from rlrun.rundir import checkpoints
from rlrun.rundir import find as runs
from rlrun.rundir.trust import read_config

KEY = "init_from"


def start(parts: Parts, word: str | None) -> dict[str, Any]:
    """Give the algorithm of a new run, at its beginning, the weights that a word names.

    Args:
        word: RUN, RUN@best, RUN@STEPS or the path of a checkpoint; None for nothing.

    Returns:
        What was taken, for `meta.json`; {} if nothing was.

    Raises:
        ConfigError: there are no such weights, or they are of another shape; names the first that differs.
    """
    if word is None:
        return {}
    algo = parts.cfg.algo.name
    names = registry.get("algo", algo).weights
    if not names:
        known = [name for name in registry.names("algo") if registry.get("algo", name).weights]
        raise ConfigError(KEY, f"{algo} has no weights to start with", f"these have: {', '.join(known)}")
    found, other = find(word)
    if other != algo:
        raise ConfigError(KEY, f"{word} is a run of {other}, this is one of {algo}", f"write algo={other}")
    state = checkpoints.load(found, ["algo", "environments"])
    own = parts.algo.state_dict()
    for name in names:
        ours, theirs = at(own, name), at(state["algo"], name)
        if ours is None:  # a target network that it does without
            continue
        _must_match(word, leaves(ours, name), leaves(theirs, name))
        own = replaced(own, name, theirs)
    with checkpoints.must_fit(found):
        parts.algo.load_state_dict(own)
    _take_over_normalisation(parts.environments, word, state["environments"].get("obs_stats"))
    manifest = json.loads((found / checkpoints.MANIFEST).read_text(encoding="utf-8"))
    taken = {"checkpoint": str(found), "env_steps": manifest["env_steps"], "files": manifest["files"]}
    return {"init_from": taken}


def find(word: str) -> tuple[Path, str]:
    """The checkpoint that a word names, as an absolute path, and the algorithm that wrote it."""
    run, at, which = word.rpartition("@")
    is_choice = bool(at) and (which in ("best", "last") or (which.isascii() and which.isdigit()))
    run, which = (run, which) if is_choice else (word, "last")
    try:
        run_dir, which = runs.open_checkpoint(run, which, usual="last")
        found = checkpoints.find(run_dir.checkpoints, int(which) if which.isdigit() else which)
    except RlrunError as error:
        problem, _, hint = str(error).partition("\n")
        raise ConfigError(KEY, problem, hint) from error
    algo = read_config(run_dir, trust=True).get("algo") or {}  # of which nothing is obeyed
    return found.resolve(), str(algo.get("name", "something else"))


def at(state: Mapping[str, Any], path: str) -> Any:
    """The entry of a nested state at a dotted path; None if there is none."""
    node: Any = state
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def replaced(state: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A nested state with another entry at a dotted path."""
    first, _, rest = path.partition(".")
    return {**state, first: replaced(state[first], rest, value) if rest else value}


def leaves(node: Any, path: str) -> dict[str, tuple[int, ...]]:
    """The shapes of all arrays and tensors of a state by name."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        if isinstance(node, Mapping):
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}")
        elif isinstance(node, list | tuple):
            for i, value in enumerate(node):
                yield from walk(value, f"{path}.{i}")
        else:
            yield path, tuple(np.shape(node))

    return dict(walk(node, path))


def _must_match(word: str, ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> None:
    """ConfigError that names the first parameter of another shape."""
    for name in [*ours, *theirs]:
        here, there = ours.get(name), theirs.get(name)
        if here != there:
            problem = f"{name} is {_shape(there)} in {word}, and {_shape(here)} here"
            raise ConfigError(KEY, problem, "network and environment must have the same shape")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"


def _take_over_normalisation(environments: Environments, word: str, theirs: Mapping[str, Any] | None) -> None:
    ours = environments.state_dict().get("obs_stats")
    if (ours is None) != (theirs is None):
        wanted = "false" if theirs is None else "true"
        raise ConfigError(
            KEY, f"{word} was trained with env.normalize.obs={wanted}", f"write env.normalize.obs={wanted}"
        )
    if ours is not None:
        environments.load_state_dict({"obs_stats": theirs})
