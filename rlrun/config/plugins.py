"""Where components come from: this package's own modules, installed plug-ins, and modules the user names.

Importing a module registers what it holds (see registry.py); nothing else tells ours and theirs apart.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from rlrun import algos, registry
from rlrun.custom import import_module, locate, one_line
from rlrun.errors import ConfigError
from rlrun.lazy import deferred
from rlrun.registry import Entry

# The modules that register our components, in the order in which they are tried; algorithms have one each.
MODULES = {
    "network": ["networks.builder", "networks.recurrent", "networks.simba"],
    "buffer": ["buffers.replay"],
    "env": ["envs.entries", "envs.bandits.arms", "envs.bandits.tables"],
    "device": ["compute.device"],
    "experience": ["experience.rollouts", *(f"experience.actors.{name}" for name in ("serial", "processes", "on_ray"))],
    "logger": ["loggers"],
    "eval": ["run.callbacks.evaluate"],
    "checkpoint": ["run.callbacks.checkpoint"],
}
ENTRY_POINTS = "rlrun.plugins"
ADOPTED = ("needs", "network", "footprint", "weights")  # attributes of a class named by `_target_`


@functools.cache
def load_installed() -> tuple[Path, ...]:
    """Import every installed plug-in, once; our own components are imported when they are asked for.

    Returns:
        The `conf` folders that plug-in packages bring along.
    """
    for kind in ("algo", *MODULES):
        registry.on_demand(kind, functools.partial(load_ours, kind))
    folders = (_load_entry_point(point) for point in entry_points(group=ENTRY_POINTS))
    return tuple(folder for folder in folders if folder is not None)


@functools.cache
def load_ours(kind: str, name: str | None) -> None:
    """Import the module of a component of ours, or of all of its kind. The module of an algorithm is named like it."""
    modules = MODULES.get(kind, ())
    if kind == "algo":
        modules = [path for path in _algorithms() if name in (None, path.rpartition(".")[2])]
    with deferred("torch", "numpy"):
        for module in modules:
            importlib.import_module(f"rlrun.{module}")
            if name is not None and registry.knows(kind, name):
                return


@functools.cache
def _algorithms() -> tuple[str, ...]:
    """The modules in the folders of `algos`, one folder a family."""
    folders = [
        (family.name, os.path.join(folder, family.name))
        for folder in algos.__path__
        for family in pkgutil.iter_modules([folder])
        if family.ispkg
    ]
    return tuple(f"algos.{family}.{module.name}" for family, path in folders for module in pkgutil.iter_modules([path]))


def family(name: str) -> str:
    """Where an algorithm belongs: ours to the folder of its module, others to their package; "" if there is none."""
    if name in registry.foreign("algo"):
        return registry.get("algo", name).factory.__module__.partition(".")[0]
    return next((module.split(".")[1] for module in _algorithms() if module.endswith(f".{name}")), "")


def load_named(modules: Sequence[str]) -> None:
    """Import the modules of `imports=[...]`, from the current directory too; ConfigError names one that fails."""
    for name in modules:
        try:
            import_module(name)
        except Exception as error:
            raise ConfigError("imports", f"{name} cannot be imported", one_line(error)) from error


def entry_of(kind: str, node: dict[str, Any]) -> Entry:
    """The component that a config node describes: by its registered `name`, or by `_target_: module.Class`.

    A class that is not registered needs an attribute `config`, a dataclass with a field `name`; what it would declare
    at its registration may stand beside it.

    Raises:
        ConfigError: there is no such component.
    """
    path = node.get("_target_")
    if path is None:
        return registry.get(kind, node.get("name", ""))
    factory = locate(f"{kind}._target_", path)
    known = (registry.get(kind, name) for name in registry.names(kind))
    return next((entry for entry in known if entry.factory is factory), None) or _adopt(kind, path, factory)


def _adopt(kind: str, path: str, factory: Any) -> Entry:
    """Register a class by the config that it carries."""
    config = getattr(factory, "config", None)
    name = getattr(config, "name", None)
    if not (isinstance(config, type) and is_dataclass(config) and isinstance(name, str)):
        hint = f'decorate it with @register("{kind}", ItsConfig); its config has a field `name`'
        raise ConfigError(f"{kind}._target_", f"{path} is not a component", hint)
    declared = {key: getattr(factory, key) for key in ADOPTED if hasattr(factory, key)}
    registry.register(kind, config, **declared)(factory)
    return registry.get(kind, name)


def _load_entry_point(point: EntryPoint) -> Path | None:
    """A broken plug-in costs a line, not the runs that do not need it."""
    try:
        loaded = point.load()
    except Exception as error:
        owner = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
        print(f"plug-in {point.name!r}{owner} cannot be imported: {one_line(error)}", file=sys.stderr)
        return None
    folder = Path(getattr(loaded, "__file__", None) or os.devnull).parent / "conf"
    return folder if hasattr(loaded, "__path__") and folder.is_dir() else None
