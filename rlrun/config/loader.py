"""Hydra's loader of configs, which remembers what it put together and leaves out work that nothing comes of."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from hydra._internal import defaults_list as trees
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import InputDefault, ResultDefault
from omegaconf import DictConfig, OmegaConf


class File(NamedTuple):
    """One of the files and schemas that a config is merged from."""

    path: str  # group/option
    package: str  # where in the config its keys belong


class Repository(ConfigRepository):
    """All sources of configs. Its copies share them: Hydra copies it, and all that is stored, for every config."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Repository:
        return copy.copy(self)


class Loader(ConfigLoaderImpl):
    """Keeps which files its last config was merged from: to ask Hydra for them costs as much as to compose it."""

    files: Sequence[File] = ()  # the last one counts

    def __init__(self, search_path: ConfigSearchPath):
        super().__init__(search_path)
        self.repository = Repository(search_path)
        trees._create_interpolation_map = _choices

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: Any) -> DictConfig:
        self.files = [File(str(default.config_path), default.package or "") for default in defaults]
        return super()._compose_config_from_defaults_list(defaults, repo)


_all_choices = trees._create_interpolation_map


def _choices(overrides: Any, defaults_list: list[InputDefault], self_added: bool) -> DictConfig:
    """What `${…}` in a defaults list looks into: Hydra makes it for every file, and hardly any has such a list."""
    asked = any(default.is_interpolation() for default in defaults_list)
    return _all_choices(overrides, defaults_list, self_added) if asked else OmegaConf.create()
