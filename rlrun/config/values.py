"""Plain data as a config's types read it, and back: typed objects, words, YAML."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import EnumType
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf, _utils
from omegaconf.errors import OmegaConfBaseException

from rlrun import registry
from rlrun.checks import check_bounds, countable, largest, types_of
from rlrun.config import dialects, plugins
from rlrun.config.schema import KINDS, MISSING, RunConfig
from rlrun.config.words import assigned
from rlrun.errors import ConfigError

C = TypeVar("C")

KEPT = 1000  # nodes of configs

# A config dataclass as OmegaConf has it, kept since it takes time to make; nobody writes into it.
_structured: Callable[[Any], Any] = functools.cache(OmegaConf.structured)

TRUTH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def typed(schema: type[C], data: Mapping[str, Any], prefix: str = "", known: Mapping[str, Any] | None = None) -> C:
    """`data` as an object of a config dataclass.

    Args:
        prefix: dotted key of the node, for messages.
        known: flat config in which a near match of an unknown key is sought.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, a missing one, or one that the dataclass refuses.
    """
    _check_keys(schema, data, prefix, _declared(schema, prefix) | (known or {}).keys())
    read = as_declared(schema, data)
    _check_values(schema, read, prefix)
    try:
        merged = _converted(schema, read)
    except OmegaConfBaseException as error:
        key = re.sub(r"\[\d+\].*", "", (error.full_key or "").removeprefix("."))
        raise wrong_type(schema, key, flat(data).get(key), prefix) from error
    return _construct(schema, merged, prefix)


def _converted(schema: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with the types and the defaults of a config dataclass; kept, since runs share most of their parts."""
    key = schema, repr(data)
    if key not in _conversions:
        if len(_conversions) >= KEPT:
            _conversions.clear()
        _conversions[key] = OmegaConf.to_container(OmegaConf.merge(_structured(schema), data))
    return copy.deepcopy(_conversions[key])


_conversions: dict[tuple[type, str], Any] = {}


def in_types(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a run with every number as its key has it: `1e5` is a whole number, or not, by the key's type.

    What does not fit stays as it is; `validate` refuses it.
    """
    _load_components(data)
    plain = as_declared(RunConfig, data)
    for kind in KINDS:
        node = plain.get(kind)
        if isinstance(node, Mapping):
            plain[kind] = as_declared(plugins.entry_of(kind, dict(node)).config, node)
    return plain


def keys(data: Mapping[str, Any]) -> set[str]:
    """All dotted keys that a run of these components can have, nodes included; those of its data among them."""
    _load_components(data)
    found = set(flat(data)) | _declared(RunConfig)
    for kind in KINDS:
        node = data.get(kind)
        if isinstance(node, Mapping):
            found |= _declared(plugins.entry_of(kind, dict(node)).config, kind)
    return found


def _declared(schema: Any, prefix: str = "") -> Set[str]:
    """The dotted keys of a config dataclass, behind that of its node."""
    return _keys_of(schema, prefix) if schema else frozenset()


@functools.cache
def _keys_of(schema: Hashable, prefix: str) -> Set[str]:
    return frozenset(flat(OmegaConf.to_container(_structured(schema)), prefix))


def is_free(key: str) -> bool:
    """Whether a key stands in a mapping that takes any name, as an environment's arguments do."""
    kind, *inside = key.split(".")
    return any(
        _stands_in_mapping(registry.get(kind, name).config, inside) for name in registry.names(kind) if kind in KINDS
    )


def _stands_in_mapping(schema: Any, path: Sequence[str]) -> bool:
    if not is_dataclass(schema) or len(path) < 2:
        return False
    hint = types_of(schema).get(path[0])
    return get_origin(hint) is dict or _stands_in_mapping(hint, path[1:])


def as_declared(hint: Any, value: Any) -> Any:
    """A value as its type reads it, or unchanged if it does not fit."""
    if is_dataclass(hint) and isinstance(value, Mapping):
        types = types_of(hint)
        return {key: as_declared(types.get(key), inner) for key, inner in value.items()}
    origin, args = get_origin(hint), [arg for arg in get_args(hint) if arg is not type(None)]
    if origin in (Union, UnionType) and len(args) == 1:
        return as_declared(args[0], value)
    if origin is list and isinstance(value, list):
        return [as_declared(args[0], item) for item in value]
    if origin is dict and isinstance(value, Mapping):
        return {key: as_declared(args[1], item) for key, item in value.items()}
    if hint in (int, float):
        return _number(hint, value)
    return TRUTH.get(value.lower(), value) if hint is bool and isinstance(value, str) else value


def _number(kind: type, value: Any) -> Any:
    """An `int` or `float` for a number or the text of one, such as `1e5`; anything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value
    with suppress(ValueError, OverflowError):
        if kind is int and not isinstance(value, float):
            return int(value)
    with suppress(ValueError, OverflowError):
        number = float(value)
        return int(number) if kind is int and number.is_integer() else value if kind is int else number
    return value


def _check_values(hint: Any, value: Any, key: str, largest: float | None = None) -> None:
    """Raise ConfigError for what no key can be: `???`, a number beyond all bounds, a truth that is neither 0 nor 1.

    Args:
        largest: the bound of the field, if it has one of its own.
    """
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if _is_optional(hint) else [hint]
    if value is None and _is_optional(hint):
        return
    kind = kinds[0] if len(kinds) == 1 else Any
    is_mapping, is_list = is_dataclass(kind) or get_origin(kind) is dict, get_origin(kind) is list
    if (is_mapping and not isinstance(value, Mapping)) or (is_list and not isinstance(value, list)):
        write = f"write {key}.KEY=VALUE" if is_dataclass(kind) else ""
        raise ConfigError(key, f"{quoted(value)} is not {_describe(hint)}", write)
    if kind in WORDS and isinstance(value, Mapping | list):  # which OmegaConf lets pass inside of a list
        raise ConfigError(key, f"{quoted(value)} is not {_describe(hint)}")
    if isinstance(value, Mapping):
        _check_mapping(kind, value, key)
    elif isinstance(value, list):
        for item in value:
            _check_values(next(iter(get_args(kind)), Any), item, key)
    elif value == MISSING:
        raise needs_value(key)
    elif kind is bool and isinstance(value, (int, float)) and value not in (0, 1):
        raise ConfigError(key, f"{value} is not true or false")
    elif isinstance(value, (int, float)) and kind is not object:
        countable(key, value, largest)


def _check_mapping(hint: Any, value: Mapping[str, Any], key: str) -> None:
    """The same for all values of a mapping. The arguments of an environment are its own to judge."""
    types = types_of(hint) if is_dataclass(hint) else {}
    for name, item in value.items():
        _check_values(types.get(name, object), item, _join(key, str(name)), largest(hint, name))


def _is_optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _load_components(data: Mapping[str, Any]) -> None:
    plugins.load_installed()
    plugins.load_named(module_names(data.get("imports")))


def module_names(value: Any) -> list[str]:
    """The value of `imports`, which is obeyed before the rest of a config can be checked."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError("imports", f"{quoted(value)} is not a list of modules", "write imports=[my.module]")
    return value


def quoted(value: Any) -> str:
    """A value as an error shows it: text in quotes, anything else as the command line takes it."""
    return repr(value) if isinstance(value, str) else literal(value)


def literal(value: Any) -> str:
    """A value as the command line takes it."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, list):
        return f"[{','.join(literal(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(item)}" for key, item in value.items()) + "}"
    return str(value)


def from_yaml(text: str) -> dict[str, Any]:
    """YAML as plain data, interpolations as they are written."""
    data: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    return data


def plain(cfg: Any, resolve: bool) -> dict[str, Any]:
    """A node of OmegaConf as plain data."""
    data: Any = OmegaConf.to_container(cfg, resolve=resolve)
    return data


def to_yaml(data: Any) -> str:
    """Plain data, or a node of OmegaConf in or as it, as YAML that reads back the same."""
    text: str = yaml.dump(data, Dumper=_dumper(), default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text


@functools.cache
def _dumper() -> Any:
    """Writes as OmegaConf does, but in C where that was compiled; what is in two places is written twice."""

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def node(dumper: Any, found: Any) -> Any:
        return dumper.represent_data(OmegaConf.to_container(found, resolve=False, enum_to_str=True))

    Dumper.add_representer(str, _utils.get_omega_conf_dumper().str_representer)
    Dumper.add_representer(DictConfig, node)
    Dumper.add_representer(ListConfig, node)
    return Dumper


def merged(data: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Plain data with the values of `key=value` words put in."""
    cfg = OmegaConf.create(dict(data))
    for key, value in assigned(words, data).items():
        OmegaConf.update(cfg, key, value, merge=True)
    changed: Any = OmegaConf.to_container(cfg)
    return changed


def from_words(schema: type[C], words: Sequence[str]) -> C:
    """`key=value` words as an object of an options dataclass; ConfigError as for `typed`."""
    known = _declared(schema)
    for key in assigned(words):
        if key not in known:
            raise dialects.unknown_key(key, known, owners=False)
    return typed(schema, merged({}, words))


def flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """All values by dotted key; inner nodes stand beside their leaves."""
    found: dict[str, Any] = {}
    for key, value in data.items() if isinstance(data, Mapping) else ():
        name = _join(prefix, str(key))
        found[name] = value
        found |= flat(value, name)
    return found


def wrong_type(schema: Any, key: str, value: Any, prefix: str = "") -> ConfigError:
    """The error for a value that does not have the type of its field.

    Args:
        schema: config dataclass.
        key: dotted key in it; `[i]` behind it points into a list.
        prefix: dotted key of the node that has the schema.
    """
    name = re.sub(r"\[\d+\]", "", key)
    for part in name.split("."):
        schema = types_of(schema).get(part) if is_dataclass(schema) else None
    wanted = f"{_join(prefix, name)}.KEY=VALUE" if is_dataclass(schema) else ""
    problem = f"{quoted(value)} is not {_describe(schema)}"
    return ConfigError(_join(prefix, name), problem, wanted and f"write {wanted}")


def needs_value(key: str) -> ConfigError:
    """The error for a value that only the user can know."""
    return ConfigError(key, "needs a value", f"write {key}=VALUE")


def _check_keys(schema: type, data: Mapping[str, Any], prefix: str, known: Any) -> None:
    types = types_of(schema)
    for key, value in data.items():
        if key not in types:
            raise dialects.unknown_key(_join(prefix, key), known, owners=bool(prefix) or schema is RunConfig)
        if is_dataclass(types[key]) and isinstance(value, Mapping):
            _check_keys(types[key], value, _join(prefix, key), known)


def _construct(schema: type[C], data: Any, prefix: str) -> C:
    """Bottom up, so that every refusal, and every word that it advises, can be prefixed with the node it came from."""
    types = types_of(schema)
    values = {}
    for name in (f.name for f in fields(schema)):  # type: ignore[arg-type]
        key, value = _join(prefix, name), data[name]
        if value == MISSING:
            raise needs_value(key)
        values[name] = _construct(types[name], value, key) if is_dataclass(types[name]) else value
    try:
        made = schema(**values)
        check_bounds(made)  # of a dataclass that does not do it itself, too
        return made
    except ConfigError as error:
        words = rf"(?<![\w.])({'|'.join(values)})(?=[\w.]*=)(?!\w)"
        hint = re.sub(words, lambda found: _join(prefix, found[0]), error.hint)
        raise ConfigError(_join(prefix, error.key), error.problem, hint) from error


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}

EXAMPLES = {int: "[64,64]", float: "[0.1,0.2]", str: "[a,b]", Any: "[my.module.Name]"}


def _describe(hint: Any) -> str:
    """A type in words: `float | None` is 'a number or null'."""
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(hint, EnumType):
        return " or ".join(hint.__members__)
    if origin is dict:
        return "a mapping like {key: value}"
    if origin is list:
        return f"a list like {EXAMPLES.get(args[0], '[...]')}"
    return " or ".join(_describe(arg) for arg in args) if args else WORDS.get(hint, "a group of keys")


def _join(prefix: str, key: str) -> str:
    return ".".join(part for part in (prefix, str(key)) if part)
