"""Why Hydra could not compose: its errors in our words, which name the key and the nearest valid choice.

Hydra says what it could not merge, not what the user should have written. So the words are tried here one by one on a
config of the chosen components, until one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun import registry
from rlrun.config import dialects, folders
from rlrun.config.folders import GROUPS, ROOT
from rlrun.config.schema import KINDS, OPTIONAL, RunConfig
from rlrun.config.values import flat, is_free, literal, needs_value, wrong_type
from rlrun.config.words import LONGEST, parse
from rlrun.config.yamlfile import line_of, shown
from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean


def failure(words: Sequence[str], error: Exception, loader: ConfigLoader, sweep: bool = False) -> ConfigError:
    """Why Hydra could not compose, in terms of the first word that is to blame."""
    check_choices(words, loader, sweep)
    overrides = [parse(word, loader) for word in words]
    chosen = [str(o.input_line) for o in overrides if _is_choice(o)]
    try:
        base = loader.load_configuration(ROOT, chosen, RunMode.MULTIRUN if sweep else RunMode.RUN)
    except (HydraException, OmegaConfBaseException, ValueError) as cause:
        return _from_file(cause, chosen, loader)
    for override in overrides:
        if not _is_choice(override):
            _check_value(override, base)
    missing = re.search(r"Missing mandatory value: (\S+)", str(error))
    named = getattr(error, "full_key", None) or next(iter(re.findall(r"full_key: (\S+)", str(error))), "config")
    return needs_value(missing[1]) if missing else ConfigError(named, _first_lines(error))


def check_choices(words: Sequence[str], loader: ConfigLoader, sweep: bool = False) -> None:
    """Raise ConfigError for a choice that a group does not have, or several values where no sweep is asked for."""
    for override in (parse(word, loader) for word in words):
        key = override.key_or_group
        if override.is_sweep_override() and not sweep:
            hint = "add -m to sweep over them, or write [a,b] for one list"
            raise ConfigError(key, f"{override.input_line!r} gives several values", hint)
        if _is_choice(override):
            _check_option(override, loader)
        elif override.is_delete() and not is_free(key):
            known = flat(OmegaConf.to_container(OmegaConf.structured(RunConfig)))
            if key.split(".")[0] in (*known, "hydra"):
                raise ConfigError(key, "cannot be left out", f"write {key}=VALUE")


def _is_choice(override: Override) -> bool:
    return override.key_or_group in GROUPS or override.key_or_group.startswith("hydra/")


def _check_option(override: Override, loader: ConfigLoader) -> None:
    """Raise ConfigError if a group has no such option."""
    group = override.key_or_group
    if override.is_delete():
        if not isinstance(override.value(), (str, type(None))):
            raise ConfigError(group, f"{literal(override.value())} is no option of it", f"write ~{group}")
        if group in KINDS and group not in OPTIONAL:
            raise ConfigError(group, "cannot be left out", registry.did_you_mean("", folders.options(group)))
        return
    for name in override.sweep_string_iterator() if override.is_discrete_sweep() else [override.value()]:
        if not (
            isinstance(name, str)
            and len(name) <= LONGEST
            and any(s.is_config(f"{group}/{name}") for s in loader.get_sources())
        ):
            options = folders.options(group) or loader.get_group_options(group)
            raise dialects.unknown_option(group, literal(name), options)


def _check_value(override: Override, base: DictConfig) -> None:
    """Raise ConfigError if the key does not exist or refuses the value."""
    key, known = override.key_or_group, _keys(base, hydra=override.key_or_group.startswith("hydra"))
    parent = key.rpartition(".")[0]
    if isinstance(known.get(parent), list) and key not in known:
        raise ConfigError(key, f"{parent} is a list", f"write {parent}=[...]")
    can_be_new = override.is_add() or override.is_force_add() or (is_free(key) and not override.is_delete())
    if key not in known and not can_be_new:
        raise dialects.unknown_key(key, known)
    if override.is_delete() or override.is_interval_sweep():
        return
    for value in override.sweep_iterator() if override.is_discrete_sweep() else [override.value()]:
        for inner in flat(value, key):
            if inner not in known and is_dataclass(OmegaConf.get_type(OmegaConf.select(base, key))):
                raise dialects.unknown_key(inner, known)
        try:
            OmegaConf.update(base, key, value, force_add=True)
        except OmegaConfBaseException as error:
            where = error.full_key or key
            schema = OmegaConf.get_type(OmegaConf.select(base, parent)) if parent else RunConfig
            raise wrong_type(schema, where.removeprefix(f"{parent}."), value, parent) from error


def _keys(cfg: DictConfig, hydra: bool = False) -> dict[str, Any]:
    """All keys of a composed config with their values as they are written: the run's, or Hydra's own."""
    found = flat(OmegaConf.to_container(cfg, resolve=False))
    return {key: value for key, value in found.items() if (key.split(".")[0] == "hydra") is hydra}


def _from_file(error: Exception, chosen: Sequence[str], loader: ConfigLoader) -> ConfigError:
    """A mistake in a YAML file, one of those that were chosen or of those that they name."""
    said = str(error)
    parent, key = re.search(r"In '([^']+)'", said), re.search(r"full_key: (\S+)", said)
    if missing := re.search(r"Could not (?:find|load|override) '([^']+)'", said):
        group, _, name = missing[1].rpartition("/")
        files = [file for file in map(_file, [*((parent and [parent[1]]) or []), *_paths(chosen)]) if file]
        named = [
            f"{shown(file)}:{line_of(text, name)}"
            for file in files
            if name in (text := file.read_text(errors="replace"))
        ]
        where = named[0] if named else f"{parent[1] if parent else ROOT}.yaml"
        if group not in GROUPS:
            return ConfigError(where, f"there is no {missing[1]} to choose or to override")
        return ConfigError(where, f"there is no {group} named {name!r}", did_you_mean(name, folders.options(group)))
    file = _file(parent[1]) if parent else None
    where = f"{parent[1] if parent else ROOT}.yaml"
    if not key:
        return ConfigError(where, _first_lines(error))
    if parent and parent[1].startswith("tuned/"):
        hint = "'~tuned' leaves the tuned values out"
    else:
        others = [word for word in chosen if word.lstrip("+").replace("=", "/", 1) != (parent and parent[1])]
        hint = dialects.unknown_key(key[1], _keys_without(others, loader)).hint
    line = f", line {line_of(file.read_text(errors='replace'), key[1].rpartition('.')[2])}" if file else ""
    return ConfigError(key[1], f"there is no such key, but {where}{line} sets it", hint)


def _keys_without(chosen: Sequence[str], loader: ConfigLoader) -> dict[str, Any]:
    """The keys of a run with these choices."""
    with suppress(HydraException, OmegaConfBaseException, ConfigError):
        return _keys(loader.load_configuration(ROOT, list(chosen), RunMode.RUN))
    return {}


def _paths(chosen: Sequence[str]) -> list[str]:
    """`experiment=mine` is experiment/mine."""
    return [word.lstrip("+").replace("=", "/", 1) for word in chosen if "=" in word]


def _file(path: str) -> Path | None:
    """The YAML file of a choice, `group/option`."""
    group, _, option = path.partition("/")
    return folders.files(group).get(option)


def _first_lines(error: Exception) -> str:
    """Hydra's message without its search path and advice."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return " ".join(line for line in lines[:2] if not line.startswith(("Config search path", "full_key")))
