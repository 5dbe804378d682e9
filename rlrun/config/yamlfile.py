"""YAML files that configs are composed from. Whatever is wrong with one is said with its name and the line."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import yaml
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun.errors import ConfigError


def read(file: Path) -> tuple[DictConfig, str | None]:
    """What a file holds, and the package that it names at its top with `# @package NAME`.

    Raises:
        ConfigError: it is no mapping in YAML and UTF-8, or what it says of defaults or package cannot be.
    """
    config, package = parsed(file)
    return copy.deepcopy(config), package  # Hydra writes into what it is given


def parsed(file: Path) -> tuple[DictConfig, str | None]:
    """The same for reading only, and the same object as long as the file holds the same."""
    return _parsed(file, file.read_bytes())


@functools.lru_cache(maxsize=512)
def _parsed(file: Path, data: bytes) -> tuple[DictConfig, str | None]:
    try:
        text = data.decode("utf-8-sig")
        config: Any = OmegaConf.create(text) if text.strip() else OmegaConf.create({})
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown(file)}:{line}", "is not UTF-8", "save it in that encoding") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{shown(file)}:{line}", f"is not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{shown(file)}:{line}", f"is not YAML: {error.reason}") from error
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(shown(file), f"cannot be read: {problem[:200]}") from error
    if not isinstance(config, DictConfig) or _is_bare_text(config, text):
        raise ConfigError(shown(file), "holds no keys", "write key: value in every line")
    check_defaults(file, text, config)
    return config, _package(file, text)


def _package(file: Path, text: str) -> str | None:
    try:
        return ConfigSource._get_header_dict(text)["package"]
    except ValueError as error:
        raise ConfigError(
            shown(file), "has a line that begins with # @", "write # @package NAME, or # alone"
        ) from error


def check_defaults(file: Path, text: str, config: DictConfig) -> None:
    """Raise ConfigError if a `defaults` list is none: Hydra would say so without naming the file."""
    defaults: Any = OmegaConf.to_container(config, resolve=False).get("defaults", [])  # type: ignore[union-attr]
    wrong = defaults
    if isinstance(defaults, list):
        wrong = next((item for item in defaults if not _is_default(item)), None)
        if wrong is None:
            return
    raise ConfigError(
        f"{shown(file)}:{line_of(text, 'defaults')}",
        f"{str(wrong)[:60]!r} cannot be in a defaults list",
        "its lines are like `- override /network: mlp` and `- _self_`",
    )


def shown(file: Path) -> str:
    """A file's path, from here if it lies below."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def line_of(text: str, word: str) -> int:
    """The first line that has a word; 1 if there is none."""
    lines = enumerate(text.splitlines(), start=1)
    return next((number for number, line in lines if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line)), 1)


def _is_default(item: Any) -> bool:
    """Whether Hydra takes it as an entry of a defaults list: `option`, or `group: option`, `group: [options]`."""
    if isinstance(item, dict) and len(item) == 1:
        ((group, option),) = item.items()
        names = option if isinstance(option, list) else [option]
        return isinstance(group, str) and all(name is None or isinstance(name, str) for name in names)
    return isinstance(item, str)


def _is_bare_text(config: DictConfig, text: str) -> bool:
    """Whether the file is one piece of text, which OmegaConf takes for a key."""
    alone: Any = list(OmegaConf.to_container(config, resolve=False).values()) == [None]  # type: ignore[union-attr]
    return alone and isinstance(yaml.compose(text, Loader=yaml.SafeLoader), yaml.ScalarNode)
