"""From words on the command line to one plain, resolved config: all that Hydra does for a single run.

Nothing is written to disk.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun import choices, explain, hints, plugins, registry
from rlrun.choices import GROUPS, ROOT, conf_dir
from rlrun.config import KINDS, OPTIONAL, RunConfig, flat
from rlrun.errors import ConfigError
from rlrun.rundir import letters

COMMAND_LINE = "command line"

# What a smoke run puts in place of a component's own values, where the component has the key.
SMOKE = {
    "algo": {"learning_starts": 64, "random_steps": 64, "batch_size": 32, "n_steps": 32, "n_epochs": 2},
    "buffer": {"capacity": 1000},
}


@dataclass(frozen=True)
class Composed:
    """A config that Hydra put together; nothing of it is checked against the components yet."""

    data: dict[str, Any]  # resolved, with the keys of RunConfig
    written: str  # the same as YAML, before interpolations are resolved
    hydra: DictConfig  # Hydra's own node
    overrides: list[str]  # as Hydra saw them
    dir: Path  # where the run belongs
    loader: ConfigLoader

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Dotted key -> YAML file or "command line", for all values that are not defaults."""
        return _provenance([*map(str, self.hydra.overrides.hydra), *self.overrides], self.loader)


def set_up(words: Sequence[str], config_dirs: Sequence[str] = ()) -> None:
    """Make known to Hydra what it composes from: components, their schemas and folders of YAML files.

    Args:
        words: the overrides; `imports=[...]` among them is obeyed.
        config_dirs: folders given with `--config-dir`; `RLRUN_CONF` adds more.

    Raises:
        ConfigError: a module cannot be imported or a folder does not exist.
    """
    installed = plugins.load_installed()
    plugins.load_named(_imports(words))
    choices.add_folders(config_dirs, installed)
    _store_schemas()
    OmegaConf.register_new_resolver("rlrun.env", env_label, replace=True)
    OmegaConf.register_new_resolver("rlrun.job", job_label, replace=True)
    OmegaConf.register_new_resolver("rlrun.letters", letters, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("rlrun.now", _now, replace=True, use_cache=True)


def compose(words: Sequence[str]) -> Composed:
    """Compose one run. Call `set_up` first.

    Raises:
        ConfigError: a word is not an override, or names a key, an option or a value that cannot be.
    """
    with session() as loader:
        words = fitting(complete(words), loader)
        explain.check_tuned(words, loader)
        try:
            cfg = hydra_compose(ROOT, words, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
            plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
            return composed(plain, cfg.hydra, Path(cfg.hydra.run.dir), loader)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain.failure(words, error, loader) from error


def unknown_flag(flag: str, following: str) -> ConfigError:
    """The error for `--lr 3e-4`, which was meant to be `algo.learning_rate=3e-4`."""
    name, equals, value = flag.partition("=")
    value = value if equals else following or "VALUE"
    word = name.strip("-").replace("-", "_")
    key = word if word in KINDS else hints.locate(word, flat(compose([]).data))
    return ConfigError(name, "options are written key=value, without dashes", f"did you mean {key}={value}?")


@contextlib.contextmanager
def session() -> Iterator[ConfigLoader]:
    """Hydra at work on our folders."""
    with initialize_config_dir(str(conf_dir()), job_name="rlrun", version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def composed(cfg: DictConfig, hydra: DictConfig, folder: Path, loader: ConfigLoader) -> Composed:
    """What Hydra composed, taken over as plain data.

    Args:
        cfg: the run's config, without Hydra's node.
        hydra: Hydra's node.
        folder: where the run belongs.
    """
    data: Any = OmegaConf.to_container(cfg, resolve=True)
    overrides = [str(word) for word in hydra.overrides.task]
    return Composed(data, OmegaConf.to_yaml(cfg), hydra, overrides, folder, loader)


def complete(words: Sequence[str]) -> list[str]:
    """The overrides as Hydra needs them.

    An environment given by its id alone gets the general YAML, not CartPole's. `1e5` is a whole number, arguments in
    `kwargs` need no plus sign, and `group=null` leaves a group out.

    Raises:
        ConfigError: a word that Hydra would take, and do something else than it says.
    """
    given = {word.lstrip("+").partition("=")[0] for word in words}
    added = ["env=gym"] if "env.id" in given and "env" not in given else []
    return [_normal(word) for word in [*added, *words]]


def fitting(words: Sequence[str], loader: ConfigLoader) -> list[str]:
    """Tuned values were found with certain components: another network or buffer than that leaves them out."""
    replaced = {word.partition("=")[0] for word in words} & OPTIONAL
    if not replaced or any(word.lstrip("~").partition("=")[0] == "tuned" for word in words):
        return list(words)
    choices_made = [word for word in words if word.partition("=")[0] in GROUPS]
    usual = [word for word in choices_made if word.partition("=")[0] not in replaced]
    try:
        given, meant = (loader.load_configuration(ROOT, [*w, "~tuned"], RunMode.RUN) for w in (choices_made, usual))
    except (HydraException, OmegaConfBaseException):
        return list(words)  # what is wrong comes to light, and is explained, when all of it is composed
    same = all(_component(given, kind) == _component(meant, kind) for kind in replaced)
    return list(words) if same else [*words, "~tuned"]


def _component(cfg: DictConfig, kind: str) -> tuple[str | None, str | None]:
    node = cfg[kind] or {}
    return node.get("name"), node.get("_target_")


def _normal(word: str) -> str:
    key, equals, value = word.partition("=")
    group, _, leaf = key.partition(".")
    if group in KINDS and leaf == "name":
        raise ConfigError(key, "is set by choosing another component", f"write {group}={value}")
    if group.lstrip("+") in GROUPS and not leaf and value.lower() in ("true", "false"):
        raise ConfigError(
            group.lstrip("+"), f"{value} is no option of it", f"{group}=on? `rlrun --help` lists them all"
        )
    if value == "null" and group in GROUPS and not leaf:
        return f"~{group}"
    value = re.sub(r"(?<![\w.'\"])\d+(\.\d+)?[eE]\+?\d+(?![\w.'\"])", _whole, value)
    return ("++" if leaf.partition(".")[0] == "kwargs" else "") + key + equals + value


def _whole(number: re.Match[str]) -> str:
    value = float(number[0])
    return str(int(value)) if value.is_integer() else number[0]


def constant_keys(words: Sequence[str], loader: ConfigLoader) -> list[str]:
    """The keys that a sweep does not vary."""
    overrides = (explain.parse(word, loader) for word in words)
    return [o.key_or_group for o in overrides if not (o.is_sweep_override() or o.is_hydra_override())]


def postponed(words: Sequence[str], loader: ConfigLoader) -> list[str]:
    """The words of a sweep, ready for Hydra.

    Hydra tries the values that a sweep does not vary on the default components, which need not be those swept over:
    `env=a,b env.key=1` would be refused. A choice of one is left to the jobs.
    """
    overrides = [explain.parse(word, loader) for word in words]
    if not any(o.is_sweep_override() and o.key_or_group in GROUPS for o in overrides):
        return list(words)
    return [
        f"{o.key_or_group}=choice({o.get_value_element_as_str()})"
        if o.key_or_group.split(".")[0] in KINDS
        and "." in o.key_or_group
        and not (o.is_sweep_override() or o.is_delete())
        else word
        for o, word in zip(overrides, words, strict=True)
    ]


def env_label(env_id: str) -> str:
    """An environment in a path: `CartPole-v1` is cartpole, `module:My-v0` my, `bandit/bernoulli` bandit-bernoulli."""
    return _path_part(re.sub(r"-v\d+$", "", str(env_id).rpartition(":")[2])).lower()


def job_label(number: int, overrides: str) -> str:
    """A job of a sweep in a path: its number, and what it has of its own."""
    return _path_part(f"{number}_{overrides.replace('+', '')}")[:80].strip("_")


def _path_part(text: str) -> str:
    return re.sub(r"[^\w.=,-]+", "-", text).strip("-")


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H%M%S")


def _imports(words: Sequence[str]) -> list[str]:
    """The modules of `imports=[...]`, which must be known before Hydra composes."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key == "imports":
            modules = yaml.safe_load(value)
            return [modules] if isinstance(modules, str) else list(modules or ())
    return []


def _store_schemas() -> None:
    """Give every component's dataclass to Hydra as `schema/<kind>/<name>`, apart from the choices that users see."""
    ConfigStore.instance().store(group="schema", name="run", node=RunConfig, package="_global_")
    for kind in KINDS:
        files = choices.files(kind)
        for entry in (registry.get(kind, name) for name in registry.names(kind)):
            if entry.config is None:
                continue
            try:
                _store(f"schema/{kind}/{entry.name}", entry.config)
            except OmegaConfBaseException as error:
                problem = f"{entry.config.__qualname__} is no config dataclass: {str(error).splitlines()[0]}"
                raise ConfigError(f"{kind}={entry.name}", problem) from error
            shrunk = {f.name: SMOKE[kind][f.name] for f in fields(entry.config) if f.name in SMOKE.get(kind, ())}
            _store(f"smoke/{kind}/on-{entry.name}", shrunk)
            if not entry.factory.__module__.startswith("rlrun.") and entry.name not in files:
                _store(f"{kind}/{entry.name}", {"defaults": [{f"/schema/{kind}@_here_": entry.name}, "_self_"]})


def _store(path: str, node: Any) -> None:
    group, _, name = path.rpartition("/")
    ConfigStore.instance().store(group=group, name=name, node=node)


def _provenance(words: Sequence[str], loader: ConfigLoader) -> dict[str, str]:
    """Which file or word every value that is not a default comes from; the last one wins, as in Hydra."""
    found: dict[str, str] = {}
    for default in loader.compute_defaults_list(ROOT, list(words), RunMode.RUN).defaults:
        path, package = default.config_path, default.package
        if path.startswith("schema/") or package.split(".")[0] == "hydra":
            continue
        source = next(s for s in loader.get_sources() if s.is_config(path))
        values = flat(OmegaConf.to_container(source.load_config(path).config, resolve=False), package)
        leaves = [key for key, value in values.items() if not isinstance(value, dict)]
        found |= {key: f"{path}.yaml" for key in leaves if "defaults" not in key.split(".") and key[:6] != "hydra."}
    for override in (explain.parse(word, loader) for word in words):
        if not override.is_hydra_override():
            found[override.key_or_group] = COMMAND_LINE
    return found
