"""What people type who come from other libraries, and which of our keys they mean."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from rlrun import registry
from rlrun.errors import ConfigError, UnknownName

# Their word -> ours: a key, or the end of one.
DIALECT = {
    "anneal_lr": "learning_rate_schedule",
    "buffer_size": "buffer.capacity",
    "checkpoint_freq": "checkpoint.freq",
    "checkpoint_interval": "checkpoint.freq",
    "clip_coef": "clip_range",
    "clip_epsilon": "clip_range",
    "clip_param": "clip_range",
    "clip_ratio": "clip_range",
    "clip_vloss": "clip_range_vf",
    "cuda": "device.accelerator",
    "discount": "gamma",
    "discount_factor": "gamma",
    "double_q": "double",
    "end_e": "epsilon.end",
    "entropy_coef": "ent_coef",
    "entropy_coeff": "ent_coef",
    "env_id": "env.id",
    "env_name": "env.id",
    "eps_end": "epsilon.end",
    "eps_start": "epsilon.start",
    "eval_episodes": "eval.episodes",
    "eval_freq": "eval.freq",
    "eval_interval": "eval.freq",
    "evaluation_interval": "eval.freq",
    "exploration_final_eps": "epsilon.end",
    "exploration_fraction": "epsilon.fraction",
    "exploration_initial_eps": "epsilon.start",
    "gae_lam": "gae_lambda",
    "hidden_sizes": "network.hidden",
    "lam": "gae_lambda",
    "lambda": "trace_decay",
    "lmbda": "trace_decay",
    "log_freq": "logger.freq",
    "log_interval": "logger.freq",
    "lr": "learning_rate",
    "memory_size": "buffer.capacity",
    "n_envs": "env.num_envs",
    "n_eval_episodes": "eval.episodes",
    "n_timesteps": "total_timesteps",
    "net_arch": "network.hidden",
    "norm_adv": "normalize_advantage",
    "num_env": "env.num_envs",
    "num_epochs": "n_epochs",
    "num_minibatches": "batch_size",
    "num_steps": "n_steps",
    "num_workers": "env.num_envs",
    "polyak": "tau",
    "ppo_epochs": "n_epochs",
    "replay_size": "buffer.capacity",
    "rollout_length": "n_steps",
    "save_freq": "checkpoint.freq",
    "save_interval": "checkpoint.freq",
    "start_e": "epsilon.start",
    "target_network_frequency": "target_update_interval",
    "target_update_freq": "target_update_interval",
    "torch_deterministic": "device.deterministic",
    "total_frames": "total_timesteps",
    "total_steps": "total_timesteps",
    "train_frequency": "train_freq",
    "update_epochs": "n_epochs",
    "value_coef": "vf_coef",
    "value_loss_coef": "vf_coef",
    "vf_coeff": "vf_coef",
    "warmup_steps": "learning_starts",
}

# Where the number changes with the name.
CONVERSION = {
    "cuda": "auto, cpu or cuda",
    "num_minibatches": "batch_size = n_steps * num_envs / num_minibatches",
    "polyak": "tau is the share of the new weights: tau = 1 - polyak",
}

# Options that exist elsewhere as a choice and here as something else.
OPTIONS = {
    "algo=double_dqn": "algo=dqn algo.double=true",
    "algo=ddqn": "algo=dqn algo.double=true",
    "algo=qlearning": "algo=q_learning",
    "device=gpu": "device=cuda",
    "buffer=replay": "buffer=uniform",
}

LAUNCHERS = {"joblib", "submitit", "ray"}  # each an extra of its own


def unknown_key(key: str, known: Collection[str]) -> ConfigError:
    """The error for a key that the config does not have, with the nearest one that it has.

    Args:
        key: dotted key as the user wrote it.
        known: all dotted keys of the composed config, nodes included.
    """
    others = [other for other in known if other != key]
    leaf = key.rpartition(".")[2]
    return ConfigError(key, "there is no such key", _translated(leaf, others) or _nearest(key, others))


def unknown_option(group: str, name: str, options: Iterable[str]) -> UnknownName:
    """The error for `group=name` where the group has no such option."""
    if group == "hydra/launcher" and name in LAUNCHERS:
        return UnknownName(group, f"{name} is not installed", f"pip install 'rlrun[{name}]'")
    meant = OPTIONS.get(f"{group}={name}") or (f"env.id={name}" if group == "env" and "-v" in name else "")
    hint = f"write {meant}" if meant else registry.did_you_mean(name, options)
    return UnknownName(group, f"there is no {group} named {name!r}", hint)


def locate(word: str, known: Collection[str]) -> str:
    """Our full key for a word in anybody's dialect; the word itself if nobody's."""
    name = DIALECT.get(word, word)
    return next(iter(_ending_with(name, known)), name)


def _translated(leaf: str, known: Collection[str]) -> str:
    """'rlrun calls it X' for a word of another library."""
    ours = DIALECT.get(leaf)
    if ours is None:
        return ""
    hint = f"rlrun calls it {locate(leaf, known)}"
    if leaf in CONVERSION:
        hint += f" ({CONVERSION[leaf]})"
    return hint if _ending_with(ours, known) else f"{hint}, which this algorithm does not have{_owners(ours)}"


def _nearest(key: str, known: Collection[str]) -> str:
    """The same name elsewhere, in components that were not chosen, a similar name, or what there is."""
    parent, _, leaf = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    if same := _ending_with(leaf, known):
        return f"did you mean {same[0]}?"
    if owners := _owners(leaf):
        return f"the components of this run do not have it{owners}"
    if similar := _similar(key, siblings) or _similar(key, known):
        return f"did you mean {similar[0]}?"
    names = sorted(k.rpartition(".")[2] for k in siblings)
    return f"{parent or 'the top level'} has {', '.join(names)}" if names else "rlrun --help lists all keys"


def _ending_with(name: str, known: Collection[str]) -> list[str]:
    return sorted((k for k in known if k == name or k.endswith(f".{name}")), key=lambda k: (k.count("."), k))


def _similar(key: str, keys: Iterable[str]) -> list[str]:
    """Keys whose last part is close to that of `key`."""
    leaf = key.rpartition(".")[2]
    by_leaf = {k.rpartition(".")[2]: k for k in sorted(keys, reverse=True)}
    return [by_leaf[name] for name in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.7)]


def _owners(name: str) -> str:
    """' (ppo has it)': which registered components do have a field."""
    leaf = name.rpartition(".")[2]
    owners = [
        entry.name
        for kind in registry.kinds()
        for entry in (registry.get(kind, n) for n in registry.names(kind))
        if leaf in getattr(entry.config, "__dataclass_fields__", {})
    ]
    return f" ({', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it)" if owners else ""
