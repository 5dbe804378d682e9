"""The config of a run: its schema, and the one place where it is checked.

`validate` turns plain nested data, composed (compose.py) or read from a run directory, into a `RunConfig` whose nodes
are the components' own dataclass objects. Whatever is wrong with a key, a value or a combination is said here, in one
readable line, before anything is built.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun import custom, hints, memory, plugins, registry
from rlrun.checks import countable, within
from rlrun.errors import ConfigError
from rlrun.registry import Entry
from rlrun.seeding import SeedTree
from rlrun.types import EnvSpec
from rlrun.words import assigned

C = TypeVar("C")
MISSING = "???"
TRUTH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


@dataclass
class StopConfig:
    """When to stop before total_timesteps."""

    mean_return: float | None = None  # stop once the mean return of the last `window` training episodes reaches this
    window: int = 100  # episodes averaged

    def __post_init__(self) -> None:
        within("window", self.window, 1, 10**7)


@dataclass
class SweepConfig:
    """How the jobs of a sweep (`rlrun -m`) are run; it makes no difference to what one of them computes."""

    jobs: int = 1  # jobs at a time, each in a process of its own; several GPUs are dealt out among them
    time_limit: float | None = (
        None  # seconds after which a job is ended and counts as failed; null = as long as it takes
    )

    def __post_init__(self) -> None:
        within("jobs", self.jobs, 1, 1024)
        within("time_limit", self.time_limit, 1, 1e9)


@dataclass
class RunConfig:
    """One run. The nodes are config groups; `validate` replaces them by their components' dataclasses."""

    seed: int = field(default=0, metadata={"largest": 2**63 - 1})  # all random streams of the run grow from it
    seed_tree: int = 2  # how they grow; a run keeps its own: 1 had seeds of 32 bits, 2 has 31, which all libraries take
    total_timesteps: int = 50_000  # env steps to train for, summed over all environments
    algo: Any = None  # what learns
    network: Any = None  # what it learns with; null if it needs none
    buffer: Any = None  # what it learns from; null if it needs none
    env: Any = None  # where it learns
    device: Any = None  # hardware and numerics
    experience: Any = None  # how environments are stepped
    logger: Any = None  # where metrics go
    eval: Any = None  # evaluation while training and at the end
    checkpoint: Any = None  # what is saved, and when
    stop: StopConfig = field(default_factory=StopConfig)  # early stopping
    init_from: str | None = None  # start with the weights of this run: RUN, RUN@best or RUN@STEPS
    callbacks: list[Any] = field(default_factory=list)  # callbacks of yours, in order: [my.module.Class, {_target_: …}]
    sweep: SweepConfig = field(default_factory=SweepConfig)  # of `rlrun -m`, not part of a run
    imports: list[str] = field(default_factory=list)  # modules to import first; they register components of yours

    def __post_init__(self) -> None:
        within("seed", self.seed, 0)
        within("seed_tree", self.seed_tree, 1, 2)
        within("total_timesteps", self.total_timesteps, 1)

    @functools.cached_property
    def environments(self) -> Any:
        """The factory of the run's environments: one per config, which reads their spec once."""
        entry = registry.get("env", self.env.name)
        gamma = getattr(self.algo, "gamma", 1.0)
        made = entry.factory(self.env, seeds(self), vector=self.experience.name, gamma=gamma)
        if keys := getattr(self.logger, "info_keys", ()):
            if not hasattr(made, "recipe"):
                problem = f"{self.env.name} has no info to read"
                raise ConfigError("logger.info_keys", problem, "write logger.info_keys=[]")
            made.recipe = dataclasses.replace(made.recipe, info_keys=tuple(keys))
        return made


KINDS = ("algo", "network", "buffer", "env", "device", "experience", "logger", "eval", "checkpoint")
OPTIONAL = {"network", "buffer"}


def validate(data: Mapping[str, Any], learns: bool = True) -> RunConfig:
    """Check a config as a whole and return it as objects.

    Args:
        data: nested plain data with the keys of RunConfig; each node has its component's `name` or a `_target_`.
        learns: whether there must be memory for what only learning fills, such as a replay.

    Raises:
        ConfigError: the first thing that is wrong, with the nearest valid choice.
    """
    config = parsed(data)
    for item in config.callbacks:
        callback_factory(item)
    check_network(config.algo.name, config.network and config.network.name)
    check_buffer(config.algo.name, config.buffer and config.buffer.name)
    memory.check(config, memory.of_environments(config), share=0.5)  # before one is opened; more will be needed
    spec: EnvSpec = config.environments.spec(config.env.num_envs)
    _check_spaces(config, spec)
    memory.check(config, memory.of_run(config, spec, learns))
    check_epsilon("eval.epsilon", getattr(config.eval, "epsilon", None), spec)
    return config


def parsed(data: Mapping[str, Any]) -> RunConfig:
    """A config as objects, every part of it checked by itself; ConfigError as for `validate`."""
    _load_components(data)
    plain = {key: value for key, value in data.items() if key not in KINDS}
    config = typed(RunConfig, plain, known=flat(data))
    for kind in KINDS:
        setattr(config, kind, component(kind, data.get(kind)))
    return config


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
        merged = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(schema), read))
    except OmegaConfBaseException as error:
        key = re.sub(r"\[\d+\].*", "", (error.full_key or "").removeprefix("."))
        raise wrong_type(schema, key, flat(data).get(key), prefix) from error
    return _construct(schema, merged, prefix)


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


def _declared(schema: type | None, prefix: str = "") -> set[str]:
    return set(flat(OmegaConf.to_container(OmegaConf.structured(schema)), prefix)) if schema else set()


def is_free(key: str) -> bool:
    """Whether a key stands in a mapping that takes any name, as an environment's arguments do."""
    kind, *inside = key.split(".")
    return any(
        _stands_in_mapping(registry.get(kind, name).config, inside) for name in registry.names(kind) if kind in KINDS
    )


def _stands_in_mapping(schema: Any, path: Sequence[str]) -> bool:
    if not is_dataclass(schema) or len(path) < 2:
        return False
    hint = get_type_hints(schema).get(path[0])
    return get_origin(hint) is dict or _stands_in_mapping(hint, path[1:])


def as_declared(hint: Any, value: Any) -> Any:
    """A value as its type reads it, or unchanged if it does not fit."""
    if is_dataclass(hint) and isinstance(value, Mapping):
        types = get_type_hints(hint)
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
    types = get_type_hints(hint) if is_dataclass(hint) else {}
    bounds = {f.name: f.metadata.get("largest") for f in fields(hint)} if is_dataclass(hint) else {}
    for name, item in value.items():
        _check_values(types.get(name, object), item, _join(key, str(name)), bounds.get(name))


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
    """Plain data as YAML that reads back the same."""
    return OmegaConf.to_yaml(data if OmegaConf.is_config(data) else OmegaConf.create(data))


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
            raise hints.unknown_key(key, known, owners=False)
    return typed(schema, merged({}, words))


def seeds(config: RunConfig) -> SeedTree:
    """All seeds of a run."""
    return SeedTree(config.seed, config.seed_tree)


def callback_factory(item: Any) -> Callable[[], Any]:
    """What makes one of `callbacks`: a class by its dotted path, or by the name it is registered under.

    Raises:
        ConfigError: it cannot be imported, is no callback, or its arguments do not fit.
    """
    own = custom.entry("callbacks", item)
    known = registry.names("callback")
    if "." not in own.path and own.path not in known:
        hint = f"these are: {', '.join(known)}" if known else '@register("callback", "its_name") does that'
        raise ConfigError("callbacks", f"{own.path} is not registered; a dotted path needs no registration", hint)
    factory = registry.get("callback", own.path).factory if own.path in known else own.factory()
    if isinstance(factory, type) and not hasattr(factory, "on_chunk"):
        raise ConfigError("callbacks", f"{own.path} is no callback", "derive it from rlrun.callbacks.Callback")
    own.check(factory)
    return functools.partial(factory, **own.arguments)


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
        schema = get_type_hints(schema).get(part) if is_dataclass(schema) else None
    wanted = f"{_join(prefix, name)}.KEY=VALUE" if is_dataclass(schema) else ""
    problem = f"{quoted(value)} is not {_describe(schema)}"
    return ConfigError(_join(prefix, name), problem, wanted and f"write {wanted}")


def needs_value(key: str) -> ConfigError:
    """The error for a value that only the user can know."""
    return ConfigError(key, "needs a value", f"write {key}=VALUE")


def component(kind: str, node: Mapping[str, Any] | None) -> Any:
    """A node as its component's config object; its factory is `registry.get(kind, node.name)`."""
    if node is None and kind in OPTIONAL:
        return None
    if not isinstance(node, Mapping) or not node.keys() & {"name", "_target_"}:
        raise ConfigError(kind, "must be chosen", f"choose one of: {', '.join(registry.names(kind))}")
    entry = plugins.entry_of(kind, dict(node))
    if entry.config is None:
        raise ConfigError(kind, f"{entry.name} is registered without a config dataclass")
    return typed(entry.config, {key: value for key, value in node.items() if key != "_target_"}, kind)


def _check_keys(schema: type, data: Mapping[str, Any], prefix: str, known: Any) -> None:
    types = get_type_hints(schema)
    for key, value in data.items():
        if key not in types:
            raise hints.unknown_key(_join(prefix, key), known, owners=bool(prefix) or schema is RunConfig)
        if is_dataclass(types[key]) and isinstance(value, Mapping):
            _check_keys(types[key], value, _join(prefix, key), known)


def _construct(schema: type[C], data: Any, prefix: str) -> C:
    """Bottom up, so that every refusal can be prefixed with the node it came from."""
    types = get_type_hints(schema)
    values = {}
    for name in (f.name for f in fields(schema)):  # type: ignore[arg-type]
        key, value = _join(prefix, name), data[name]
        if value == MISSING:
            raise needs_value(key)
        values[name] = _construct(types[name], value, key) if is_dataclass(types[name]) else value
    try:
        return schema(**values)
    except ConfigError as error:
        raise ConfigError(_join(prefix, error.key), error.problem, error.hint) from error


def check_network(algo: str, network: str | None) -> None:
    """An algorithm that takes a network has one."""
    taken = inspect.signature(registry.get("algo", algo).factory).parameters.get("network")
    if network is None and taken is not None and taken.default is taken.empty:
        raise ConfigError("network", f"{algo} needs one", f"choose one of: {', '.join(registry.names('network'))}")


def check_buffer(algo: str, buffer: str | None) -> None:
    """The algorithm and the buffer agree on how experience is kept."""
    needs = registry.get("algo", algo).capabilities.get("memory")
    has = buffer and registry.get("buffer", buffer).capabilities.get("memory")
    if needs == has:
        return
    if needs is None:
        raise ConfigError("buffer", f"{algo} keeps no experience, {buffer} would stay empty", "write buffer=null")
    fitting = [n for n in registry.names("buffer") if registry.get("buffer", n).capabilities.get("memory") == needs]
    raise ConfigError("buffer", f"{algo} needs a {needs} buffer, not {buffer}", f"these fit: {', '.join(fitting)}")


def check_epsilon(key: str, epsilon: float | None, env: EnvSpec) -> None:
    """Random actions in evaluation need some to draw from."""
    if epsilon is not None and env.action_space.kind != "discrete":
        kind = env.action_space.kind
        raise ConfigError(key, f"draws from discrete actions, {env.id} has {kind} ones", f"write {key}=null")


def _check_spaces(config: RunConfig, env: EnvSpec) -> None:
    """The algorithm can read the observations, take the actions, and knows the model if it plans on one."""
    if reason := _misfit(registry.get("algo", config.algo.name), env):
        wrong = misfits(env)
        fitting = ", ".join(name for name in registry.names("algo") if name not in wrong) or "none"
        raise ConfigError("algo", f"{config.algo.name} {reason}", f"for {env.id} these fit: {fitting}")


def misfits(env: EnvSpec) -> dict[str, str]:
    """The algorithms that do not fit an environment, by name, and why not: the rest of a sentence on them."""
    reasons = {name: _misfit(registry.get("algo", name), env) for name in registry.names("algo")}
    return {name: reason for name, reason in reasons.items() if reason}


def _misfit(algo: Entry, env: EnvSpec) -> str:
    """Why an algorithm does not fit an environment; "" if it does."""
    for role, kind in (("action", env.action_space.kind), ("obs", env.obs_space.kind)):
        if kind not in _able(algo, role):
            return f"handles {' and '.join(sorted(_able(algo, role)))} {role} spaces, {env.id} has a {kind} one"
    if algo.capabilities.get("model") and env.model is None:
        return f"plans on the environment's model, {env.id} does not tell it"
    if algo.capabilities.get("one_step") and env.max_episode_steps != 1:
        return "is for bandits, whose episodes are one step (max_episode_steps=1)"
    return ""


def _able(algo: Entry, role: str) -> set[str]:
    """Kinds of space an algorithm declares for a role; all if it declares none."""
    return set(algo.capabilities.get(role, ("discrete", "box")))


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}

EXAMPLES = {int: "[64,64]", float: "[0.1,0.2]", str: "[a,b]", Any: "[my.module.Name]"}


def _describe(hint: Any) -> str:
    """A type in words: `float | None` is 'a number or null'."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is dict:
        return "a mapping like {key: value}"
    if origin is list:
        return f"a list like {EXAMPLES.get(args[0], '[...]')}"
    return " or ".join(_describe(arg) for arg in args) if args else WORDS.get(hint, "a group of keys")


def _join(prefix: str, key: str) -> str:
    return ".".join(part for part in (prefix, str(key)) if part)
