"""Where Hydra finds what it composes: folders of YAML files, and the components that are registered.

Both are asked only for what a command uses, so nothing is spent on the other components.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, get_origin

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rlrun import registry
from rlrun.checks import types_of
from rlrun.config import plugins, yamlfile
from rlrun.config.schema import KINDS, RunConfig
from rlrun.config.values import module_names
from rlrun.errors import ConfigError
from rlrun.registry import Entry

GLOBAL = {"experiment", "tuned"}  # groups whose files are about the whole run, whether or not they say so


class Folder(ConfigSource):
    """A folder of YAML files: `group/option.yaml`. A file that cannot be read is named, with the line."""

    @staticmethod
    def scheme() -> str:
        return "yaml"

    def load_config(self, config_path: str) -> ConfigResult:
        """One file. The modules that it imports are imported at once: what they register may be chosen in it."""
        file = self._file(config_path)
        if not file.is_file():
            raise ConfigLoadError(f"there is no {file}")
        config, package = yamlfile.read(file)
        if package is None and config_path.split("/")[0] in GLOBAL:
            package = "_global_"
        if package == "_global_" and "imports" in config:
            modules: Any = OmegaConf.to_container(config)["imports"]  # type: ignore[index,call-overload]
            try:
                plugins.load_named(module_names(modules))
            except ConfigError as error:
                raise ConfigError(f"{yamlfile.shown(file)}: {error.key}", error.problem, error.hint) from error
        if config_path.split("/")[0] == "algo" and "_target_" in config:
            target: Any = config["_target_"]
            _choose(config, plugins.entry_of("algo", {"_target_": target}))
        return ConfigResult(self.provider, self.full_path(), config, {"package": package})

    def origin(self, config_path: str) -> object:
        """What `load_config` makes its answer from, the same object as long as that does not change.

        None for a file that names code: what that registers has a say.
        """
        made = yamlfile.parsed(self._file(config_path))
        return None if {"imports", "_target_"} & made[0].keys() else made

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        return os.path.isdir(Path(self.path, config_path))

    def is_config(self, config_path: str) -> bool:
        return os.path.isfile(self._file(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        names: list[str] = []
        for name in os.listdir(Path(self.path, config_path)):
            self._list_add_result(names, f"{config_path}/{name}", name, results_filter)
        return sorted(set(names))

    def _file(self, config_path: str) -> Path:
        return Path(self.path, self._normalize_file_name(config_path))


class Components(ConfigSource):
    """What registered components bring: a schema, what a smoke run shrinks, and an option where there is no file.

    Schemas stand apart from the choices that users see, as `schema/<kind>/<name>`. The path holds the modules of
    `imports=[...]`, which a worker of a sweep has yet to import.
    """

    @staticmethod
    def scheme() -> str:
        return "components"

    def load_config(self, config_path: str) -> ConfigResult:
        path = config_path.removesuffix(".yaml")
        node: Any
        if path == "schema/run":
            node = schema("run", RunConfig)
        elif path.startswith("schema/"):
            _, kind, name = path.split("/", 2)
            entry = registry.get(kind, name)
            node = schema(f"{kind}={name}", entry.config)
            if kind == "algo":
                _choose(node, entry)
        elif path.startswith("smoke/"):
            kind, name = smoke(path)
            entry = registry.get(kind, name)
            keys = {f.name for f in fields(entry.config)}  # type: ignore[arg-type]
            node = OmegaConf.create({key: value for key, value in entry.smoke.items() if key in keys})
        else:
            kind, name = path.split("/", 1)
            node = OmegaConf.create({"defaults": [{f"/schema/{kind}@_here_": name}, "_self_"]})
        header = {"package": "_global_" if path == "schema/run" else None}
        return ConfigResult(self.provider, self.full_path(), node, header)

    def origin(self, config_path: str) -> object:
        """What `load_config` makes its answer from: the component's entry."""
        group, _, path = config_path.removesuffix(".yaml").partition("/")
        if group == "schema":
            return schema if path == "run" else registry.get(*path.split("/", 1))
        return registry.get(*smoke(f"smoke/{path}")) if group == "smoke" else registry.get(group, path)

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        group, _, kind = config_path.partition("/")
        return kind in KINDS if group == "schema" and kind else config_path in (*KINDS, "schema")

    def is_config(self, config_path: str) -> bool:
        path = config_path.removesuffix(".yaml")
        group, _, name = path.partition("/")
        plugins.load_installed()
        plugins.load_named(self.path.split(",") if self.path else ())
        if group == "schema":
            kind, _, name = name.partition("/")
            return path == "schema/run" or (kind in KINDS and registry.has(kind, name))
        if group == "smoke":
            kind, name = smoke(path)
            return kind in KINDS and registry.has(kind, name)
        return group in KINDS and name in registry.foreign(group)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        group, _, kind = config_path.partition("/")
        if results_filter is ObjectType.GROUP:
            return list(KINDS) if config_path == "schema" else []
        if group == "schema" and kind in KINDS:
            return registry.names(kind)
        return registry.foreign(group) if config_path in KINDS else []


def _choose(node: Any, algo: Entry) -> None:
    """Let an algorithm's node choose the network and the buffer, unless something else is chosen.

    One that can do with a perceptron, which is the default, leaves the choice to the environment.
    """
    made = {"override /buffer@_global_.buffer": "uniform" if algo.needs.memory else None}
    if algo.network != "mlp":
        made["override /network@_global_.network"] = algo.network
    given = list(node.get("defaults", []))
    said = {key for entry in given if not isinstance(entry, str) for key in entry}
    with open_dict(node):
        node["defaults"] = given + [{key: choice} for key, choice in made.items() if key not in said]


def smoke(path: str) -> tuple[str, str]:
    """Kind and name of the component in `smoke/<kind>/on-<name>`; nothing if the path is none of these."""
    kind, _, name = path.removeprefix("smoke/").partition("/on-")
    return (kind, name) if kind in KINDS else ("", "")


def schema(what: str, config: type | None) -> DictConfig:
    """The keys of a config dataclass with their defaults, for Hydra to compose; a mapping takes any key.

    The values are `config.typed`'s to judge. ConfigError if it is no config dataclass.
    """
    return copy.deepcopy(_schema(what, config))  # Hydra writes into what it is given


@functools.cache
def _schema(what: str, config: type | None) -> DictConfig:
    try:
        defaults: Any = OmegaConf.to_container(OmegaConf.structured(config))
        node: DictConfig = OmegaConf.structured(_untyped(config, defaults))
    except OmegaConfBaseException as error:
        problem = f"{getattr(config, '__qualname__', config)} is no config dataclass: {str(error).splitlines()[0]}"
        raise ConfigError(what, problem) from error
    _open_mappings(node, config)
    return node


def _untyped(config: Any, defaults: Mapping[str, Any]) -> type:
    """A dataclass with the fields and nodes of another, whose values may be anything."""
    made: list[tuple[str, Any, Any]] = []
    for key, hint in types_of(config).items():
        if is_dataclass(hint):
            inner = _untyped(hint, defaults[key])
            made.append((key, inner, field(default_factory=inner)))
        else:
            made.append((key, Any, field(default_factory=functools.partial(copy.copy, defaults[key]))))
    return make_dataclass(config.__name__, made)


def _open_mappings(node: DictConfig, config: Any) -> None:
    for key, hint in types_of(config).items():
        if get_origin(hint) is dict:
            OmegaConf.set_struct(node[key], False)
        elif is_dataclass(hint):
            _open_mappings(node[key], hint)
