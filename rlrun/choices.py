"""What there is to choose from: folders of YAML files, and the options of each config group in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from rlrun import registry
from rlrun.config import KINDS
from rlrun.errors import ConfigError

ROOT = "config"  # conf/config.yaml
GROUPS = (*KINDS, "tuned", "experiment", "smoke")


class MoreFolders(SearchPathPlugin):
    """Folders of users and plug-ins, searched after ours."""

    folders: tuple[Path, ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.append("rlrun", f"file://{folder}")


def conf_dir() -> Path:
    """The folder of our YAML files: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if (folder / f"{ROOT}.yaml").is_file())


def add_folders(given: Sequence[str], installed: Sequence[Path]) -> None:
    """Tell Hydra which folders to search after ours.

    Args:
        given: with `--config-dir`; those in the environment variable `RLRUN_CONF` come after them.
        installed: by plug-ins.

    Raises:
        ConfigError: a folder does not exist.
    """
    named = [("--config-dir", folder) for folder in given]
    named += [("RLRUN_CONF", folder) for folder in os.environ.get("RLRUN_CONF", "").split(os.pathsep) if folder]
    for source, folder in named:
        if not Path(folder).is_dir():
            raise ConfigError(source, f"there is no folder {folder}")
    MoreFolders.folders = (*(Path(folder).absolute() for _, folder in named), *installed)
    Plugins.instance().register(MoreFolders)


def files(group: str) -> dict[str, Path]:
    """The YAML files of a group by option, as Hydra finds them; in subfolders an option is `folder/name`."""
    found: dict[str, Path] = {}
    for root in (folder / group for folder in (conf_dir(), *MoreFolders.folders)):
        for file in root.rglob("*.yaml"):
            found.setdefault(str(file.relative_to(root).with_suffix("")), file)
    return found


def options(group: str) -> list[str]:
    """All options of a group, sorted: those of its files, and of registered components that have none."""
    stored = (name for name in ConfigStore.instance().repo.get(group, {}) if name.endswith(".yaml"))
    return sorted({*files(group), *(name.removesuffix(".yaml") for name in stored)})


def described(group: str) -> Iterator[tuple[str, str]]:
    """The options of a group with a line of help each: their file's first comment, or their component's docstring."""
    found = files(group)
    for name in options(group):
        yield name, _first_comment(found[name]) if name in found else registry.get(group, name).summary


def _first_comment(file: Path) -> str:
    lines = (line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#"))
    return next((line for line in lines if not line.startswith("@package")), "")
