"""Hydra's loader of configs, which remembers what it read and put together as long as what that came from is the same.

A sweep composes hundreds of configs of the same files, and Hydra spends most of the time on reading and merging them.
"""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import omegaconf._utils
import omegaconf.base
from hydra._internal import defaults_list as trees
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, grammar_parser

from rlrun.config.sources import Components, Folder

MERGED = 64  # configs of different files that are kept


class File(NamedTuple):
    """One of the files and schemas that a config is merged from."""

    path: str  # group/option
    package: str  # where in the config its keys belong


class Repository(ConfigRepository):
    """All sources of configs. Its copies share them: Hydra copies it, and all that is stored, for every config.

    What it hands out is kept, and not to be written into.
    """

    known: ClassVar[dict[tuple[str, ...], tuple[object, ConfigResult]]] = {}  # by source and path: origin and config

    def __deepcopy__(self, memo: dict[int, Any]) -> Repository:
        return copy.copy(self)

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path=config_path, object_type=ObjectType.CONFIG)
        if source is None:
            return None
        place, origin = (source.scheme(), source.provider, source.path, config_path), _origin(source, config_path)
        if origin is None or place not in self.known or self.known[place][0] is not origin:
            loaded = super().load_config(config_path)
            assert loaded is not None
            self.known[place] = origin, loaded
        return self.known[place][1]


def _origin(source: ConfigSource, config_path: str) -> object:
    """What a config is made from: as long as it is the same object, the config is the same. None if it cannot tell."""
    if isinstance(source, Folder | Components):
        return source.origin(config_path)
    if source.scheme() == "structured":
        return ConfigStore.instance()._load(source._normalize_file_name(config_path))
    return Repository if source.scheme() == "pkg" else None  # the files of an installed package stay as they are


class Fresh(NamedTuple):
    """A repository whose configs may be written into, which merging does."""

    repository: IConfigRepository

    def load_config(self, config_path: str) -> ConfigResult | None:
        loaded = self.repository.load_config(config_path)
        return loaded and replace(loaded, config=copy.deepcopy(loaded.config))

    def get_schema_source(self) -> ConfigSource:
        return self.repository.get_schema_source()


class Loader(ConfigLoaderImpl):
    """Keeps which files its last config was merged from: to ask Hydra for them costs as much as to compose it."""

    files: Sequence[File] = ()  # the last one counts
    merged: ClassVar[OrderedDict[tuple[Any, ...], tuple[list[Any], DictConfig]]] = OrderedDict()

    def __init__(self, search_path: ConfigSearchPath):
        super().__init__(search_path)
        self.repository = Repository(search_path)
        trees._create_interpolation_map = _choices
        omegaconf._utils.parse = omegaconf.base.parse = _parsed

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self.files = [File(str(default.config_path), default.package or "") for default in defaults]
        fresh: Any = Fresh(repo)
        parts = [repo.load_config(file.path) for file in self.files]
        schemas = repo.get_schema_source()
        for file, part in zip(self.files, parts, strict=True):
            if part and not part.is_schema_source and schemas.is_config(file.path):  # which has a say in it
                return super()._compose_config_from_defaults_list(defaults, fresh)
        key = (*self.files, *map(id, parts))
        if key not in self.merged:
            self.merged[key] = parts, super()._compose_config_from_defaults_list(defaults, fresh)
            if len(self.merged) > MERGED:
                self.merged.popitem(last=False)
        self.merged.move_to_end(key)
        return copy.deepcopy(self.merged[key][1])


_parsed = functools.lru_cache(maxsize=256)(grammar_parser.parse)  # `${…}`, which OmegaConf parses wherever it goes

_all_choices, _no_choices = trees._create_interpolation_map, OmegaConf.create()


def _choices(overrides: Any, defaults_list: list[InputDefault], self_added: bool) -> DictConfig:
    """What `${…}` in a defaults list looks into: Hydra makes it for every file, and hardly any has such a list."""
    asked = any(default.is_interpolation() for default in defaults_list)
    return _all_choices(overrides, defaults_list, self_added) if asked else _no_choices
