"""Tuned values: which file of `conf/tuned/` belongs to a run, when it is left out, and what the run says of it.

They were found for an algorithm on an environment, with certain components. The environment is known by its id, however
it was chosen: `env=cartpole`, `env.id=CartPole-v1` and `env=CartPole-v1` are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun.config import folders
from rlrun.config.folders import GROUPS, ROOT
from rlrun.config.schema import OPTIONAL

BY_ID = "gym"  # the component whose environments are told apart by their id; elsewhere it is but a name


def entry_of(env_id: str) -> str:
    """The option of `env` that a Gymnasium id belongs to; empty if there is none."""
    ids = {option: _env_id(file) for option, file in folders.files("env").items()}
    return next((option for option in sorted(ids) if ids[option] == env_id), "")


def kind_of(experiment: str) -> str:
    """The option of `env` that an experiment overrides, if it is for environments of any id; empty otherwise."""
    defaults = _read(folders.files("experiment").get(experiment)).get("defaults")
    for entry in defaults if isinstance(defaults, list) else ():
        for key, option in entry.items() if isinstance(entry, dict) else ():
            if key.removeprefix("override ").lstrip("/") == "env":
                return "" if _env_id(folders.files("env").get(option)) else str(option)
    return ""


def fitting(words: Sequence[str], loader: ConfigLoader) -> list[str]:
    """The words, with tuned values left out if the user chose another network or buffer than they were found with."""
    replaced = {_name(word) for word in words} & OPTIONAL
    if not replaced or _is_asked(words):
        return list(words)
    given = [word for word in words if _name(word) in GROUPS]
    usual = [word for word in given if _name(word) not in replaced]
    try:
        mine, theirs = (loader.load_configuration(ROOT, [*w, "~tuned"], RunMode.RUN) for w in (given, usual))
    except (HydraException, OmegaConfBaseException):
        return list(words)  # what is wrong comes to light, and is explained, when all of it is composed
    same = all(_component(mine, kind) == _component(theirs, kind) for kind in replaced)
    return list(words) if same else [*words, "~tuned"]


def matching(words: Sequence[str], cfg: DictConfig) -> list[str]:
    """The words, with the tuned values of the environment that the run really has.

    Args:
        cfg: composed from the words, with Hydra's node. Its environment may have another id than the file of its choice
            says, or a general choice the id of a known one.
    """
    made, known = cfg.hydra.runtime.choices, folders.files("tuned")
    env = {key: "" if OmegaConf.is_missing(cfg.env, key) else cfg.env.get(key) for key in ("name", "id")}
    chosen, by_choice = _pair(made, env), f"{made.algo}-{made.env}"
    if _is_asked(words) or chosen == by_choice or not known.keys() & {chosen, by_choice}:
        return list(words)
    return [*words, f"tuned={chosen}" if chosen in known else "~tuned"]


def line(hydra: DictConfig, env: Mapping[str, Any], provenance: Mapping[str, str], asked: Sequence[str]) -> str:
    """What a run says of its tuned values.

    Args:
        hydra: Hydra's node.
        env: the run's environment.
        provenance: where the values of the run come from.
        asked: the words that the user typed.
    """
    used = [source for source in provenance.values() if source.startswith("tuned/")]
    if used:
        return f"tuned: tuned/{hydra.runtime.choices.tuned}.yaml ({len(used)} values; '~tuned' leaves them out)"
    if (chosen := hydra.runtime.choices.get("tuned")) in folders.files("tuned"):
        return f"tuned: tuned/{chosen}.yaml, all of whose values are overridden"
    pair = _pair(hydra.runtime.choices, env)
    if pair in folders.files("tuned"):
        why = "as asked" if _is_asked(asked) else "they are for another network or buffer"
        return f"tuned values are left out, {why}: tuned/{pair}.yaml"
    if hydra.runtime.choices.get("experiment"):
        return f"values of experiment/{hydra.runtime.choices.experiment}.yaml"
    return f"no tuned values for {hydra.runtime.choices.algo} on {env.get('id')}: the algorithm's defaults"


def _pair(made: Mapping[str, str], env: Mapping[str, Any]) -> str:
    """The name that a file of tuned values has for these choices and this environment, if there is one."""
    env_id = env.get("id", "")
    if env.get("name") != BY_ID or _env_id(folders.files("env").get(made["env"])) == env_id:
        return f"{made['algo']}-{made['env']}"
    return f"{made['algo']}-{entry_of(env_id) or env_id}"


def _env_id(file: Path | None) -> str | None:
    """The id that a file of the group `env` sets."""
    return _read(file).get("id")


@functools.cache
def _read(file: Path | None) -> Mapping[str, Any]:
    """What a YAML says; nothing if there is none, or if it cannot be read, which is told when it is composed."""
    try:
        data = yaml.safe_load(file.read_bytes()) if file else None
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return {}
    return data if isinstance(data, dict) else {}


def _component(cfg: DictConfig, kind: str) -> tuple[str | None, str | None]:
    node = cfg.get(kind) or {}
    return node.get("name"), node.get("_target_")


def _is_asked(words: Sequence[str]) -> bool:
    """Whether the user has decided on tuned values."""
    return any(_name(word) == "tuned" for word in words)


def _name(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].strip()
