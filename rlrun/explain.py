"""Why Hydra could not compose: its errors in our words, which name the key and the nearest valid choice.

Hydra says what it could not merge, not what the user should have written. So the words are tried here one by one on a
config of the chosen components, until one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun import choices, hints, registry
from rlrun.choices import GROUPS, ROOT
from rlrun.config import KINDS, OPTIONAL, RunConfig, flat, needs_value, wrong_type
from rlrun.errors import ConfigError


def failure(words: Sequence[str], error: Exception, loader: ConfigLoader, sweep: bool = False) -> ConfigError:
    """Why Hydra could not compose, in terms of the first word that is to blame."""
    overrides = [parse(word, loader) for word in words]
    chosen = []
    for override in overrides:
        if override.is_sweep_override() and not sweep:
            hint = "add -m to sweep over them, or write [a,b] for one list"
            return ConfigError(override.key_or_group, f"{override.input_line!r} gives several values", hint)
        if override.key_or_group in GROUPS or override.key_or_group.startswith("hydra/"):
            _check_option(override, loader)
            chosen.append(str(override.input_line))
    try:
        base = loader.load_configuration(ROOT, chosen, RunMode.MULTIRUN if sweep else RunMode.RUN)
    except (HydraException, OmegaConfBaseException) as cause:
        return _from_file(cause)
    for override in overrides:
        if override.key_or_group not in GROUPS and not override.key_or_group.startswith("hydra"):
            _check_value(override, base)
    missing = re.search(r"Missing mandatory value: (\S+)", str(error))
    return needs_value(missing[1]) if missing else ConfigError("config", _first_lines(error))


def parse(word: str, loader: ConfigLoader) -> Override:
    """A word as Hydra reads it; ConfigError if it cannot."""
    try:
        return OverridesParser.create(config_loader=loader).parse_override(word)
    except HydraException as error:
        hint = "quote special characters twice: 'key=\"a b\"'" if "=" in word else "options are written key=value"
        raise ConfigError(word, "is not an option", hint) from error


def check_tuned(words: Sequence[str], loader: ConfigLoader) -> None:
    """`tuned` is optional, so Hydra would pass over a name that does not exist."""
    for word in words:
        if word.startswith("tuned="):
            _check_option(parse(word, loader), loader)


def _check_option(override: Override, loader: ConfigLoader) -> None:
    """Raise ConfigError if a group has no such option."""
    group = override.key_or_group
    if override.is_delete():
        if group in KINDS and group not in OPTIONAL:
            raise ConfigError(group, "cannot be left out", registry.did_you_mean("", choices.options(group)))
        return
    for name in override.sweep_string_iterator() if override.is_discrete_sweep() else [override.value()]:
        if not any(source.is_config(f"{group}/{name}") for source in loader.get_sources()):
            raise hints.unknown_option(group, str(name), choices.options(group) or loader.get_group_options(group))


def _check_value(override: Override, base: DictConfig) -> None:
    """Raise ConfigError if the key does not exist or refuses the value."""
    key, known = override.key_or_group, _keys(base)
    if key not in known and not (override.is_add() or override.is_force_add()):
        raise hints.unknown_key(key, known)
    parent = key.rpartition(".")[0]
    schema = OmegaConf.get_type(OmegaConf.select(base, parent)) if parent else RunConfig
    values = override.sweep_iterator() if override.is_discrete_sweep() else [override.value()]
    for value in () if override.is_delete() else values:
        for inner in flat(value, key):
            if inner not in known and is_dataclass(OmegaConf.get_type(OmegaConf.select(base, key))):
                raise hints.unknown_key(inner, known)
        try:
            OmegaConf.update(base, key, value, force_add=True)
        except OmegaConfBaseException as error:
            where = error.full_key or key
            given: Any = flat(value, key).get(where, value)
            raise wrong_type(schema, where.removeprefix(f"{parent}."), given, parent) from error


def _keys(cfg: DictConfig) -> dict[str, Any]:
    """All keys of a composed config but Hydra's, with their values as they are written."""
    found = flat(OmegaConf.to_container(cfg, resolve=False))
    return {key: value for key, value in found.items() if key.split(".")[0] != "hydra"}


def _from_file(error: Exception) -> ConfigError:
    """A mistake in a YAML file."""
    file, key = re.search(r"In '([^']+)'", str(error)), re.search(r"full_key: (\S+)", str(error))
    where = f"{file[1]}.yaml" if file else "config"
    if not key:
        return ConfigError(where, _first_lines(error))
    hint = "'~tuned' leaves the tuned values out" if file and file[1].startswith("tuned/") else ""
    return ConfigError(key[1], f"{str(error).splitlines()[1]}, but {where} sets it", hint)


def _first_lines(error: Exception) -> str:
    """Hydra's message without its search path and advice."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return " ".join(line for line in lines[:2] if not line.startswith(("Config search path", "full_key")))
