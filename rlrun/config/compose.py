"""From words on the command line to one plain, resolved config: all that Hydra does for a single run.

Nothing is written to disk.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun.config import folders, launcher, plugins, refusals, settings, tuned
from rlrun.config.folders import GROUPS, ROOT, conf_dir
from rlrun.config.loader import File, Loader
from rlrun.config.schema import KINDS
from rlrun.config.unresolved import for_the_record
from rlrun.config.values import flat, in_types, module_names, to_yaml
from rlrun.config.words import assigned, parse, readable
from rlrun.errors import ConfigError
from rlrun.files import letters, of_user

COMMAND_LINE = "command line"
INTERNAL = {"schema", "smoke"}  # groups that the YAML files are made of
QUOTES = "'\""


@dataclass(frozen=True)
class Composed:
    """A config that Hydra put together; nothing of it is checked against the components yet."""

    data: dict[str, Any]  # resolved, with the keys of RunConfig
    cfg: DictConfig  # the same before interpolations are resolved
    hydra: DictConfig  # Hydra's own node
    overrides: list[str]  # as they were typed, Hydra's own settings aside
    dir: Path  # where the run belongs
    files: Sequence[File]  # what it was put together from, in this order
    loader: Loader

    @cached_property
    def written(self) -> str:
        """The config as YAML, before interpolations are resolved."""
        written: Any = OmegaConf.to_container(self.cfg, resolve=False)
        return to_yaml(in_types(written))

    @cached_property
    def record(self) -> dict[str, Any]:
        """`data`, but for what comes from the environment, which stays as it was written."""
        return in_types(for_the_record(self.cfg))

    @property
    def algo(self) -> str:
        """The algorithm as it was asked for, and what it is registered as, if that is another name."""
        chosen = str(self.hydra.runtime.choices.algo)
        return f"{chosen} ({self.component})" if self.component else chosen

    @property
    def component(self) -> str:
        """What the algorithm is registered as, if it was asked for by another name; "" if not."""
        name: str | None = self.data["algo"].get("name")
        return name if name and name != self.hydra.runtime.choices.algo else ""

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Dotted key -> YAML file or "command line", for all values that are not defaults."""
        overrides: Any = OmegaConf.to_container(self.hydra.overrides, resolve=False)
        return _provenance(self.files, [*overrides["hydra"], *overrides["task"]], self.loader)

    def tuned(self, argv: Sequence[str]) -> str:
        """A line on the tuned values of the run: those that it has, or why it has none; `argv` is what was typed."""
        return tuned.line(self.hydra, self.data["env"], self.provenance, argv)


def set_up(words: Sequence[str], config_dirs: Sequence[str] = ()) -> None:
    """Make known to Hydra what it composes from: components, their schemas and folders of YAML files.

    Args:
        words: the overrides; `imports=[...]` among them is obeyed.
        config_dirs: folders given with `--config-dir`; `RLRUN_CONF` adds more.

    Raises:
        ConfigError: a module cannot be imported or a folder does not exist.
    """
    installed = plugins.load_installed()
    modules = _imports(words)
    plugins.load_named(modules)
    folders.add_folders(config_dirs, installed, modules)
    launcher.register()
    OmegaConf.register_new_resolver("rlrun.env", env_label, replace=True)
    OmegaConf.register_new_resolver("rlrun.letters", letters, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("rlrun.now", _now, replace=True, use_cache=True)


def compose(words: Sequence[str]) -> Composed:
    """Compose one run. Call `set_up` first.

    Raises:
        ConfigError: a word is not an override, or names a key, an option or a value that cannot be.
    """
    with session() as loader:
        typed, given = words, complete(words)
        refusals.check_choices(given, loader)
        words = tuned.fitting(given, loader)
        try:
            cfg = hydra_compose(ROOT, words, return_hydra_config=True)
            if (matching := tuned.matching(words, cfg)) != words:
                words = matching
                cfg = hydra_compose(ROOT, words, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
            run = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("hydra", "sweep")])
            data: Any = OmegaConf.to_container(run, resolve=True)  # first: its errors name their key
            folder = of_user(str(Path(cfg.hydra.run.dir)))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise refusals.failure(words, error, loader) from error
    settings.check(cfg.hydra)
    own = [word for word in typed if not _key(word).startswith(("hydra.", "hydra/"))]
    overrides = [*own, *words[len(given) :]]
    return Composed(in_types(data), run, cfg.hydra, overrides, folder, loader.files, loader)


def is_sweep(words: Sequence[str]) -> bool:
    """Whether the words ask for a sweep by `hydra.mode`, themselves or by what an experiment says."""
    if mode := [word.partition("=")[2] for word in words if _key(word) == "hydra.mode"]:
        return mode[-1] == RunMode.MULTIRUN.name
    if not any(_key(word) == "experiment" for word in words):
        return False
    with session() as loader, contextlib.suppress(HydraException, OmegaConfBaseException):  # said when it is composed
        ready = postponed(complete(words, sweep=True), loader)
        asked = loader.load_configuration(ROOT, ready, RunMode.MULTIRUN, validate_sweep_overrides=False)
        return bool(asked.hydra.mode == RunMode.MULTIRUN)
    return False


def of_first_job(words: Sequence[str]) -> list[str]:
    """The words of a sweep with the first of the values of each."""
    ready = [readable(word, sweep=True) for word in words]
    with session() as loader:
        found = [(word, parse(word, loader)) for word in ready]
        return [f"{o.key_or_group}={next(o.sweep_string_iterator())}" if o.is_discrete_sweep() else w for w, o in found]


def refuse_options_of_sweeps(words: Sequence[str]) -> None:
    """Raise ConfigError for options of a sweep that are given to a single run."""
    for key in map(_key, words):
        if key.startswith("sweep."):
            raise ConfigError(key, "is for sweeps", "add -m to run one")


def _key(word: str) -> str:
    """The key or the group that a word is about."""
    return word.lstrip("+~").partition("=")[0]


@contextlib.contextmanager
def session() -> Iterator[Loader]:
    """Hydra at work on our folders."""
    with initialize_config_dir(str(conf_dir()), job_name="rlrun", version_base="1.3"):
        app: Any = GlobalHydra.instance().hydra
        app.config_loader = Loader(app.config_loader.get_search_path())
        yield app.config_loader


def complete(words: Sequence[str], sweep: bool = False) -> list[str]:
    """The overrides as Hydra needs them.

    An environment given by its id alone gets the YAML that has this id, or else the experiment's if that has none, such
    as Atari's, or the general one, not CartPole's. A plus sign is never needed and never wrong, and `group=null` leaves
    a group out.

    Args:
        sweep: whether commas part the values of a sweep.

    Raises:
        ConfigError: a word that Hydra would take, and do something else than it says.
    """
    given = {key.strip().lstrip("+"): value.strip() for key, _, value in (word.partition("=") for word in words)}
    added = []
    if "env.id" in given and "env" not in given:
        entry = tuned.entry_of(given["env.id"].strip(QUOTES))
        added = [f"env={entry or 'gym'}"] if entry or not tuned.kind_of(given.get("experiment", "")) else []
    return [word for given_word in [*added, *words] for word in _normal(readable(given_word, sweep))]


def _normal(word: str) -> Iterator[str]:
    """The word as Hydra needs it; none for a smoke run that is switched off."""
    key, equals, value = word.partition("=")
    name = key.lstrip("+~")
    group, _, leaf = name.partition(".")
    if "@" in key or name == "" or (group.split("/")[0] in INTERNAL and group != "smoke"):
        raise ConfigError(key or word, "there is no such key", "options are written key=value")
    if name == "hydra":
        raise ConfigError(key, "is a group of settings", "write hydra.KEY=VALUE, for instance hydra.run.dir=DIR")
    if group in KINDS and leaf == "name" and equals:
        raise ConfigError(name, "is set by choosing another component", f"write {group}={value}")
    if name in GROUPS and equals and value == "null":
        yield from () if name == "smoke" else [f"~{name}"]
    elif name == "env" and re.search(r"-v\d+$", value):
        yield f"env={','.join(tuned.entry_of(env_id) or env_id for env_id in value.split(','))}"
    elif name in GROUPS and key[0] != "~":
        yield f"{'+' if name == 'smoke' else ''}{name}={value}"
    elif key[0] == "+" and group != "hydra" and "/" not in group:
        yield f"++{name}={value}"
    else:
        yield word


def postponed(words: Sequence[str], loader: ConfigLoader) -> list[str]:
    """The words of a sweep, ready for Hydra.

    Hydra tries the values that a sweep does not vary on the default components, which need not be those swept over:
    `env=a,b env.key=1` would be refused. A choice of one is left to the jobs.
    """
    overrides = [parse(word, loader) for word in words]
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


def env_label(env_id: str, option: str = "") -> str:
    """An environment in a path: `CartPole-v1` is cartpole, `module:My-v0` my, `rlrun/Maze-v0` maze.

    An option of a group in the group `env` goes by its own name: `bandit/gaussian` is bandit-gaussian.
    """
    name = option if "/" in option else re.sub(r"-v\d+$", "", str(env_id).rpartition(":")[2])
    return _path_part(name.removeprefix("rlrun/")).lower()


def _path_part(text: str) -> str:
    return re.sub(r"[^\w.=,-]+", "-", text).strip("-")


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H%M%S")


def _imports(words: Sequence[str]) -> list[str]:
    """The modules of `imports=[...]`, which must be known before Hydra composes."""
    given = [word for word in words if word.lstrip("+").partition("=")[0].strip() == "imports"]
    return module_names(assigned(given[-1:]).get("imports"))


def _provenance(files: Iterable[File], words: Iterable[str], loader: Loader) -> dict[str, str]:
    """Which file or word every value that is not a default comes from; the last one wins, as in Hydra."""
    found: dict[str, str] = {}
    for path, package in files:
        if path.startswith("schema/") or package.split(".")[0] == "hydra":
            continue
        loaded = loader.repository.load_config(path)
        values = flat(OmegaConf.to_container(loaded.config, resolve=False), package) if loaded else {}
        leaves = [key for key, value in values.items() if not isinstance(value, dict)]
        found |= {key: f"{path}.yaml" for key in leaves if "defaults" not in key.split(".") and key[:6] != "hydra."}
    for override in (parse(word, loader) for word in words):
        if not override.is_hydra_override():
            found[override.key_or_group] = COMMAND_LINE
    return found
