"""The config of a run: its schema, and the one place where it is checked.

`validate` turns plain nested data, composed (compose.py) or read from a run directory, into a `RunConfig` whose nodes
are the components' own dataclass objects. Whatever is wrong with a key, a value or a combination is said here, in one
readable line, before anything is built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from rlrun import custom, registry
from rlrun.config import memory, plugins
from rlrun.config.fit import (
    check_buffer,
    check_epsilon,
    check_hindsight,
    check_network,
    check_spaces,
    check_statistics,
    check_unused,
)
from rlrun.config.schema import KINDS, OPTIONAL, RunConfig
from rlrun.config.values import _load_components, flat, typed
from rlrun.errors import ConfigError
from rlrun.types import EnvSpec


def validate(data: Mapping[str, Any], new: bool = False) -> RunConfig:
    """Check a config as a whole and return it as objects. Whether it fits the environment is seen when one is opened.

    Args:
        data: nested plain data with the keys of RunConfig; each node has its component's `name` or a `_target_`.
        new: of a run that is to begin, in which nothing may be in vain; older ones are as they are.

    Raises:
        ConfigError: the first thing that is wrong, with the nearest valid choice.
    """
    config = parsed(data)
    for item in config.callbacks:
        callback_factory(item)
    check_network(config.algo.name, config.network and config.network.name)
    check_statistics(config.algo.name, config.network)
    if new:
        check_unused(config.algo.name, config.network and config.network.name)
    check_buffer(config.algo.name, config.buffer and config.buffer.name)
    check_hindsight(config)
    memory.check(config, memory.of_environments(config), share=0.5)  # before one is opened; more will be needed
    return config


def check_fit(config: RunConfig, spec: EnvSpec, learns: bool = True) -> None:
    """A config goes with the environment that it names, and what that takes fits into memory; ConfigError if not.

    Args:
        learns: whether there must be memory for what only learning fills, such as a replay.
    """
    check_spaces(config, spec)
    memory.check(config, memory.of_run(config, spec, learns))
    check_epsilon("eval.epsilon", getattr(config.eval, "epsilon", None), spec)


def parsed(data: Mapping[str, Any]) -> RunConfig:
    """A config as objects, every part of it checked by itself; ConfigError as for `validate`."""
    _load_components(data)
    plain = {key: value for key, value in data.items() if key not in KINDS}
    config = typed(RunConfig, plain, known=flat(data))
    for kind in KINDS:
        setattr(config, kind, component(kind, data.get(kind)))
    return config


def callback_factory(item: Any) -> Callable[[], Any]:
    """What makes one of `callbacks`: a class by its dotted path, or by the name it is registered under.

    Raises:
        ConfigError: it cannot be imported, is no callback, or its arguments do not fit.
    """
    own = custom.entry("callbacks", item)
    known = registry.names("callback")
    if "." not in own.path and own.path not in known:
        hint = f"these are: {', '.join(known)}" if known else '@register("callback", name="its_name") does that'
        raise ConfigError("callbacks", f"{own.path} is not registered; a dotted path needs no registration", hint)
    factory = registry.get("callback", own.path).factory if own.path in known else own.factory()
    if isinstance(factory, type) and not hasattr(factory, "on_chunk"):
        raise ConfigError("callbacks", f"{own.path} is no callback", "derive it from rlrun.Callback")
    own.check(factory)
    return functools.partial(factory, **own.arguments)


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
