"""The words `key=value`: one grammar for training, sweeps and the options of every verb.

It is Hydra's, without its traps: what Hydra cannot read is text, so that `hydra.run.dir=runs/x=y` needs no quotes; a
directory is never a number or a list. Numbers are read by the type of their key, in `config.typed`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun.errors import ConfigError

LONGEST = 200  # characters of a key or a choice, which Hydra takes for the name of a file
DIRECTORIES = {"hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"}


def parse(word: str, loader: ConfigLoader | None = None) -> Override:
    """A word as Hydra reads it; ConfigError if it cannot.

    Args:
        loader: finds the choices that `glob(…)` stands for.
    """
    if len(key := word.partition("=")[0]) > LONGEST:
        raise ConfigError(key, "is not the name of an option", "options are written key=value")
    try:
        return replace(_parsed(word), config_loader=loader)
    except (HydraException, ValueError) as error:
        problem = "is not the name of an option" if "=" in word else "is not an option"
        raise ConfigError(key or word, problem, "options are written key=value") from error


@functools.lru_cache(maxsize=1000)
def _parsed(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def readable(word: str, sweep: bool = False) -> str:
    """A word such that Hydra reads what it says: text that its grammar does not know is quoted.

    Args:
        sweep: commas part the values of a sweep; otherwise they belong to the text.
    """
    key, equals, value = (part.strip() for part in word.partition("="))
    if not equals:
        return word
    key = key.replace("+++", "++").replace("+++", "++")
    found = _read(f"{key}={value}")
    if found is not None and (key.lstrip("+") not in DIRECTORIES or _is_text(found)):
        return f"{key}={value}"
    parts = value.split(",") if sweep and key.lstrip("+") not in DIRECTORIES and value[:1] not in "[{'\"" else [value]
    return f"{key}={','.join(QuotedString(part, Quote.single).with_quotes() for part in parts)}"


def assigned(words: Sequence[str], context: Any = None) -> dict[str, Any]:
    """Dotted key -> value, for the words behind a verb.

    Args:
        context: nested plain data that interpolations such as `${total_timesteps}` look into.

    Raises:
        ConfigError: a word that sets nothing, or gives several values.
    """
    found: dict[str, Any] = {}
    for word in words:
        override = parse(readable(word))
        key = override.key_or_group
        if override.is_delete():
            raise ConfigError(key, "cannot be left out here", f"write {key}=VALUE")
        if override.is_sweep_override():
            raise ConfigError(key, f"{override.input_line!r} gives several values", "write [a,b] for a list")
        found[key] = _resolved(key, override.value(), context)
    return found


def _resolved(key: str, value: Any, context: Any) -> Any:
    try:
        data: Any = OmegaConf.create({"value": value}, parent=OmegaConf.create(context or {}))
        return OmegaConf.to_container(data, resolve=True)["value"]  # type: ignore[call-overload,index]
    except OmegaConfBaseException as error:
        raise ConfigError(key, f"{value!r} cannot be resolved: {str(error).splitlines()[0]}") from error


def _read(word: str) -> Override | None:
    try:
        return parse(word)
    except ConfigError:
        return None


def _is_text(override: Override) -> bool:
    return isinstance(override.value(), str) and not override.is_sweep_override()
