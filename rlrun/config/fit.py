"""Whether the parts of a run go together, by what they declare."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from rlrun import registry
from rlrun.config import folders
from rlrun.config.schema import RunConfig
from rlrun.errors import ConfigError
from rlrun.registry import Entry
from rlrun.types import EnvSpec


def check_network(algo: str, network: str | None) -> None:
    """An algorithm that takes a network has one, without memory unless it learns from sequences."""
    entry = registry.get("algo", algo)
    names = registry.names("network")
    fitting = [name for name in names if entry.needs.recurrent or not registry.get("network", name).remembers]
    choices = ", ".join(folders.standing_for("network", fitting))
    if network is None and entry.network is not None:
        raise ConfigError("network", f"{algo} needs one", f"choose one of: {choices}")
    if network is not None and network not in fitting:
        able = ", ".join(name for name in registry.names("algo") if registry.get("algo", name).needs.recurrent)
        problem = f"{algo} cannot learn with {network}, whose memory takes sequences of steps; {able} can"
        raise ConfigError("network", problem, f"these fit: {choices}")


def check_statistics(algo: str, network: Any) -> None:
    """An algorithm gathers the running statistics that its network goes by; without them they would stay as they are.

    Args:
        network: its config object.
    """
    for key, what in (("batch_norm", "batch"), ("normalize_obs", "obs")):
        asked = getattr(network, key, None)
        if asked in (None, False, "none") or what in registry.get("algo", algo).needs.statistics:
            continue
        able = [name for name in registry.names("algo") if what in registry.get("algo", name).needs.statistics]
        off = "none" if what == "batch" else "false"
        instead = ", and perhaps env.normalize.obs=true" if what == "obs" else ""
        problem = f"{algo} gathers no statistics of {'batches' if what == 'batch' else 'observations'} for its network"
        raise ConfigError(f"network.{key}", f"{problem}; {', '.join(able)} do", f"write network.{key}={off}{instead}")


def check_unused(algo: str, network: str | None) -> None:
    """No network is asked for that nobody would build. Another's algorithm may build one and not have declared it."""
    entry = registry.get("algo", algo)
    if network is not None and entry.network is None and entry.ours:
        raise ConfigError("network", f"{algo} builds none, {network} would not be used", "leave it out")


def check_buffer(algo: str, buffer: str | None) -> None:
    """There is a replay if the algorithm learns from one."""
    entry = registry.get("algo", algo)
    needs = entry.needs.memory
    if buffer and not needs:
        raise ConfigError("buffer", f"{algo} keeps no experience: a buffer would stay empty", "write buffer=null")
    if needs and not buffer:
        choices = ", ".join(registry.names("buffer"))
        raise ConfigError("buffer", f"{algo} learns from replay, and there is none", f"choose one of: {choices}")
    if needs and entry.config is not None and "gamma" not in {field.name for field in fields(entry.config)}:
        problem = f"{algo} learns from replay, whose transitions are discounted, and its config has no gamma"
        raise ConfigError("algo.gamma", problem, "add a field: gamma: float = 0.99  # discount factor per step")


def check_hindsight(config: RunConfig) -> None:
    """Goals are given to single steps; a network that remembers learns from sequences."""
    name = config.network and config.network.name
    if getattr(config.buffer, "hindsight", "none") != "none" and name and registry.get("network", name).remembers:
        problem = f"gives goals to single steps, and {name} learns from sequences of them"
        raise ConfigError("buffer.hindsight", problem, "write network=mlp, or buffer=uniform")


def check_epsilon(key: str, epsilon: float | None, env: EnvSpec) -> None:
    """Random actions in evaluation need some to draw from."""
    if epsilon is not None and env.action_space.kind != "discrete":
        kind = env.action_space.kind
        raise ConfigError(key, f"draws from discrete actions, {env.id} has {kind} ones", f"write {key}=null")


def check_spaces(config: RunConfig, env: EnvSpec) -> None:
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
    needs = algo.needs
    for role, able, kind in (
        ("action", needs.action, env.action_space.kind),
        ("obs", needs.obs, env.obs_space.unmasked.kind),
    ):
        if kind not in able:
            return f"handles {' and '.join(sorted(able))} {role} spaces, {env.id} has a {kind} one"
    if needs.model and env.model is None:
        return f"plans on the environment's model, {env.id} does not tell it"
    if needs.one_step and env.max_episode_steps != 1:
        return "is for bandits, whose episodes are one step (max_episode_steps=1)"
    return ""
