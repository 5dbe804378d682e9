"""What a config takes from the environment is written down as `${oc.env:…}` and looked up again: it may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from rlrun.errors import ConfigError

LOOKUP = "oc.env"
ELSEWHERE = "\0another environment"  # what every variable holds where values must not depend on them


def for_the_record(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain data, resolved but for the values that depend on an environment variable."""
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    if LOOKUP not in str(written):
        return _literal(resolved)
    with _another_environment():
        return _recorded(cfg, written, resolved)


def looked_up(data: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config with the values that the environment has now.

    Raises:
        ConfigError: a variable is not set, or its value is none that can be there.
    """
    found: Any = dict(data)
    if "${" not in str(found):
        return found
    try:
        found = OmegaConf.to_container(OmegaConf.create(found), resolve=True)
    except OmegaConfBaseException as error:
        key = (error.full_key or "config").removeprefix(".")
        raise ConfigError(key, str(error).splitlines()[0], "the run took it from its environment") from error
    return found


def _recorded(node: Any, written: Any, resolved: Any) -> Any:
    """`node` at one place of the config, as it was written and as it resolves here; asked in another environment."""
    if isinstance(node, DictConfig) and isinstance(written, dict):
        return {key: _recorded(_value(node, key), written[key], resolved[key]) for key in written}
    if isinstance(node, ListConfig) and isinstance(written, list):
        values = enumerate(zip(written, resolved, strict=True))
        return [_recorded(_value(node, place), *both) for place, both in values]
    there = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return _literal(resolved) if there == resolved else written


def _value(node: Any, key: Any) -> Any:
    """What is at a key in this environment; something that equals nothing if it cannot be resolved."""
    try:
        return node[key]
    except OmegaConfBaseException:
        return object()


def _literal(value: Any) -> Any:
    """Resolved data so that they resolve to themselves."""
    match value:
        case dict():
            return {key: _literal(item) for key, item in value.items()}
        case list():
            return [_literal(item) for item in value]
        case str():
            return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return value


@contextmanager
def _another_environment() -> Iterator[None]:
    OmegaConf.register_new_resolver(LOOKUP, lambda *_: ELSEWHERE, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver(LOOKUP, oc.env, replace=True)
