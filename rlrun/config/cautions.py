"""Options that a run takes and that will not do what they say: a line each at its start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlrun import registry
from rlrun.config.schema import RunConfig
from rlrun.schedules import ScheduleConfig
from rlrun.types import EnvSpec


def cautions(cfg: RunConfig, env: EnvSpec) -> Iterator[str]:
    """What the user may not have meant.

    Args:
        env: the run's environment.
    """
    total = cfg.total_timesteps
    starts = getattr(cfg.algo, "learning_starts", 0)
    if starts >= total:
        yield f"algo.learning_starts: {starts:,} is not before the end at {total:,} env steps, nothing will be learned"
    random_steps = getattr(cfg.algo, "random_steps", 0)
    if random_steps >= total:
        yield f"algo.random_steps: {random_steps:,} is not before the end at {total:,} env steps, all is random"
    remembers = cfg.network is not None and registry.get("network", cfg.network.name).remembers
    if getattr(cfg.algo, "burn_in", 0) and not remembers:
        yield f"algo.burn_in: network={cfg.network.name} has no memory that could be brought up to date"
    if remembers and cfg.device.compile == "true":
        yield f"device.compile: updates of network={cfg.network.name} are not compiled, as sequences vary in length"
    noisy, epsilon = getattr(cfg.network, "noisy", "none"), getattr(cfg.algo, "epsilon", None)
    random = isinstance(epsilon, ScheduleConfig) and bool(epsilon.start or epsilon.end)
    if noisy != "none" and random and epsilon != type(cfg.algo)().epsilon:
        yield f"algo.epsilon: random actions are taken beside the noise of network.noisy={noisy}"
    greedy = cfg.network is not None and isinstance(epsilon, ScheduleConfig) and not random and noisy == "none"
    if greedy and not registry.get("algo", cfg.algo.name).needs.one_step:  # for bandits: they play every arm first
        yield "algo.epsilon: is 0 all along, and the weights have no noise: nothing is explored"
    if noisy != "none" and getattr(cfg.algo, "ent_coef", 0):
        yield f"algo.ent_coef: a bonus for entropy beside the noise of network.noisy={noisy}, which explores already"
    for key in ("alpha_init", "target_entropy"):
        if getattr(cfg.algo, "alpha", None) != "auto" and _changed(cfg.algo, key):
            yield f"algo.{key}: is for alpha=auto, and alpha stays at {cfg.algo.alpha}"
    rollout = getattr(cfg.algo, "n_steps", 0) * cfg.env.num_envs
    batch = getattr(cfg.algo, "batch_size", 0)
    if 0 < rollout < batch:
        yield f"algo.batch_size: {batch:,} is more than a rollout's {rollout:,} transitions, which are one minibatch"
    yield from _unread(cfg.network, env)
    boxes = any(part.kind == "box" for part in (env.action_space, *env.action_space.fields.values()))
    for key in ("log_std", "log_std_init", "squash"):
        if not boxes and _changed(cfg.algo, key):
            yield f"algo.{key}: {env.id} has {env.action_space.kind} actions, it is for continuous ones"
    if getattr(cfg.env, "rescale_action", None) is not None and not boxes:
        yield f"env.rescale_action: {env.id} has {env.action_space.kind} actions, nothing is rescaled"
    normalize = getattr(cfg.env, "normalize", None)
    if cfg.buffer is not None and normalize is not None and (normalize.obs or normalize.reward):
        what = "obs" if normalize.obs else "reward"
        instead = "; network.normalize_obs=true goes by what is known when they are drawn" if normalize.obs else ""
        yield f"env.normalize.{what}: the replay keeps them as they were normalised when they were seen{instead}"


def _unread(network: Any, env: EnvSpec) -> Iterator[str]:
    """Of a network's options on observations those that find nothing which they are about."""
    seen = env.obs_space.unmasked
    parts = [*seen.fields.values()] or [seen]
    for key, found, kind in (
        ("normalize_obs", any(part.kind == "box" and part.dtype.kind == "f" for part in parts), "no floats"),
        ("scale", any(part.dtype == "uint8" for part in parts), "no uint8"),
        ("features", bool(seen.fields), "no Dict"),
    ):
        if not found and _changed(network, key):
            yield f"network.{key}: the observations of {env.id} are {kind}, it has nothing to do"


def _changed(config: Any, key: str) -> bool:
    """Whether a part of the config has an option, and another value of it than by default."""
    return getattr(config, key, None) != getattr(type(config)(), key, None)
