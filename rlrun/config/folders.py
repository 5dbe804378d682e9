"""What there is to choose from: folders of YAML files, and the options of each config group in them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from rlrun import registry
from rlrun.config import plugins, sources
from rlrun.config.schema import KINDS
from rlrun.errors import ConfigError
from rlrun.files import of_user

ROOT = "config"  # conf/config.yaml
FAMILIES = ("value", "policy", "continuous", "actor_learner", "tabular", "bandits", "contextual", "baselines")
GROUPS = (*KINDS, "tuned", "experiment", "smoke")


class SearchPath(SearchPathPlugin):
    """Our folder, those of users and plug-ins, then what registered components bring."""

    folders: tuple[Path, ...] = ()  # of users and plug-ins
    modules: tuple[str, ...] = ()  # of `imports=[...]`

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for element in search_path.get_path():
            if element.provider == "main":
                element.path = f"yaml://{conf_dir()}"
        for folder in self.folders:
            search_path.append("rlrun", f"yaml://{folder}")
        search_path.append("rlrun", f"components://{','.join(self.modules)}")


def conf_dir() -> Path:
    """The folder of our YAML files: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).parent.parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if (folder / f"{ROOT}.yaml").is_file())


def add_folders(given: Sequence[str], installed: Sequence[Path], modules: Sequence[str]) -> None:
    """Tell Hydra which folders to search after ours, and what else registers components.

    Args:
        given: with `--config-dir`; those in the environment variable `RLRUN_CONF` come after them.
        installed: by plug-ins.
        modules: of `imports=[...]`.

    Raises:
        ConfigError: a folder does not exist.
    """
    named = [("--config-dir", folder) for folder in given]
    named += [("RLRUN_CONF", folder) for folder in os.environ.get("RLRUN_CONF", "").split(os.pathsep) if folder]
    for source, folder in named:
        if not (folder and of_user(folder).is_dir()):
            raise ConfigError(source, f"there is no folder {folder or repr(folder)}")
    SearchPath.folders = (*(of_user(folder).absolute() for _, folder in named), *installed)
    SearchPath.modules = tuple(modules)
    for plugin in (SearchPath, sources.Folder, sources.Components):
        Plugins.instance().register(plugin)


def files(group: str) -> dict[str, Path]:
    """The YAML files of a group by option, as Hydra finds them; in subfolders an option is `folder/name`."""
    found: dict[str, Path] = {}
    for root in (folder / group for folder in (conf_dir(), *SearchPath.folders)):
        for file in (path for path in root.rglob("*.yaml") if path.is_file()):
            found.setdefault(str(file.relative_to(root).with_suffix("")), file)
    return found


def options(group: str) -> list[str]:
    """All options of a group, sorted: those of its files, and of registered components that have none."""
    return sorted({*files(group), *registry.foreign(group)})


def described(group: str) -> Iterator[tuple[str, str]]:
    """The options of a group with a sentence each: the first of their file, or of their component's docstring."""
    found = files(group)
    for name in options(group):
        yield name, _first_sentence(found[name]) if name in found else registry.get(group, name).summary


def families() -> dict[str, list[str]]:
    """The algorithms by family, the best known first; what others bring comes last."""
    found: dict[str, list[str]] = {}
    algorithms = files("algo")
    for name in options("algo"):
        found.setdefault(_family(name, algorithms.get(name)), []).append(name)
    return {family: found[family] for family in sorted(found, key=lambda family: (_place(family), family))}


def _place(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def _family(option: str, file: Path | None) -> str:
    """That of the component which a choice stands for."""
    text = file.read_text(errors="replace") if file else ""
    if target := re.search(r"^_target_: *(\w+)", text, re.MULTILINE):
        return target[1]
    return plugins.family(_component("algo", text) or option)


def standing_for(group: str, components: Collection[str]) -> list[str]:
    """The options of a group that choose one of these registered components."""
    found = files(group)
    texts = {name: found[name].read_text(errors="replace") if name in found else "" for name in options(group)}
    return [name for name, text in texts.items() if (_component(group, text) or name) in components]


def _component(group: str, text: str) -> str:
    """The registered component that a YAML file of a group is for, by its defaults; "" if they name none."""
    component = re.search(rf"/schema/{group}@(?:_here_|{group}): *(\w+)", text)
    return component[1] if component else ""


def _first_sentence(file: Path) -> str:
    """Of the comment that a YAML file begins with, `# @package` aside."""
    lines = [line.strip() for line in file.read_text(errors="replace").splitlines()]
    while lines and (not lines[0] or lines[0].startswith("# @package")):
        del lines[0]
    comment = " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=[.!?]) (?=[A-Z])", comment)[0]
