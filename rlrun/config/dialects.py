"""What people type who come from other libraries, and which of our keys they mean."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from rlrun import registry
from rlrun.errors import ConfigError, UnknownName
from rlrun.rundir import older

# Their word -> ours: a key, or the end of one.
DIALECT = {
    "anneal_lr": "learning_rate_schedule",
    "backtrack_coeff": "line_search_shrinking_factor",
    "backtrack_iters": "line_search_max_iter",
    "buffer_size": "buffer.capacity",
    "cg_iters": "cg_max_steps",
    "checkpoint_freq": "checkpoint.freq",
    "checkpoint_interval": "checkpoint.freq",
    "clip_coef": "clip_range",
    "clip_epsilon": "clip_range",
    "clip_param": "clip_range",
    "clip_ratio": "clip_range",
    "clip_vloss": "clip_range_vf",
    "critic_loss": "critics.loss",
    "cuda": "device.accelerator",
    "damping_coeff": "cg_damping",
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
    "expl_noise": "noise.std",
    "exploration_final_eps": "epsilon.end",
    "exploration_fraction": "epsilon.fraction",
    "exploration_initial_eps": "epsilon.start",
    "exploration_noise": "noise.std",
    "gae_lam": "gae_lambda",
    "goal_selection_strategy": "buffer.hindsight",
    "hidden_sizes": "network.hidden",
    "lam": "gae_lambda",
    "lambda": "trace_decay",
    "lmbda": "trace_decay",
    "log_freq": "logger.freq",
    "log_interval": "logger.freq",
    "lr": "learning_rate",
    "lr_policy": "learning_rate",
    "lr_value": "value_learning_rate",
    "max_episode_steps": "env.time_limit",
    "max_kl": "target_kl",
    "n_critics": "critics.count",
    "n_envs": "env.num_envs",
    "n_eval_episodes": "eval.episodes",
    "n_quantiles": "quantiles",
    "n_sampled_goal": "buffer.k",
    "n_timesteps": "total_timesteps",
    "net_arch": "network.hidden",
    "norm_adv": "normalize_advantage",
    "num_critics": "critics.count",
    "num_env": "env.num_envs",
    "num_epochs": "n_epochs",
    "num_minibatches": "batch_size",
    "num_steps": "n_steps",
    "num_workers": "env.num_envs",
    "pi_lr": "learning_rate",
    "policy_freq": "policy_delay",
    "policy_frequency": "policy_delay",
    "policy_lr": "actor_learning_rate",
    "policy_noise": "target_noise",
    "polyak": "tau",
    "ppo_epochs": "n_epochs",
    "q_lr": "learning_rate",
    "replay_size": "buffer.capacity",
    "rollout_length": "n_steps",
    "rollout_size": "n_steps",
    "save_freq": "checkpoint.freq",
    "save_interval": "checkpoint.freq",
    "start_e": "epsilon.start",
    "start_timesteps": "learning_starts",
    "target_network_frequency": "target_update_interval",
    "target_noise_clip": "noise_clip",
    "target_policy_noise": "target_noise",
    "target_update_freq": "target_update_interval",
    "top_quantiles_to_drop_per_net": "critics.dropped",
    "torch_deterministic": "device.deterministic",
    "total_frames": "total_timesteps",
    "total_steps": "total_timesteps",
    "train_frequency": "train_freq",
    "train_v_iters": "n_critic_updates",
    "update_epochs": "n_epochs",
    "value_coef": "vf_coef",
    "value_coeff": "vf_coef",
    "value_loss_coef": "vf_coef",
    "vf_coeff": "vf_coef",
    "vf_lr": "value_learning_rate",
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
    "buffer=her": "buffer=hindsight",
    "buffer=replay": "buffer=uniform",
    **older.CHOICES,
}

TORCHRUN = ("nproc", "nnodes", "node_rank", "rdzv", "standalone", "max_restarts")  # flags of its own begin so

# Options of Hydra's that come with a package of their own, hydra-NAME-KIND.
PACKAGED = {"launcher": {"joblib", "submitit", "ray"}, "sweeper": {"optuna", "ax", "nevergrad"}}


def unknown_key(key: str, known: Collection[str], owners: bool = True) -> ConfigError:
    """The error for a key that does not exist here, with the nearest one that does.

    Args:
        key: dotted key as the user wrote it.
        known: all dotted keys that there are, nodes included.
        owners: whether other components might have it.
    """
    others = [other for other in known if other != key]
    hint = _translated(key.rpartition(".")[2], others, owners) or _nearest(key, others, owners)
    return ConfigError(key, "there is no such key", hint)


def unknown_option(group: str, name: str, options: Iterable[str]) -> UnknownName:
    """The error for `group=name` where the group has no such option."""
    kind, package = group.removeprefix("hydra/"), name.partition("_")[0]  # submitit_local and _slurm are of one
    if package in PACKAGED.get(kind, ()):
        return UnknownName(group, f"{name} is not installed", f"pip install hydra-{package}-{kind}")
    meant = OPTIONS.get(f"{group}={name}") or (f"env.id={name}" if group == "env" and "-v" in name else "")
    hint = f"write {meant}" if meant else registry.did_you_mean(name, options)
    return UnknownName(group, f"there is no {group} named {name!r}", hint)


def unknown_flag(
    flag: str, following: str, known: Collection[str], flags: Iterable[str], otherwise: str
) -> ConfigError:
    """The error for `--lr 3e-4`, which was meant to be `algo.learning_rate=3e-4`.

    Args:
        flag: as it was typed.
        following: the word after it.
        known: all dotted keys that are possible here.
        flags: those that there are.
        otherwise: what to say if no key comes near.
    """
    name, equals, value = flag.partition("=")
    value = value if equals else "" if "=" in following else following
    word = name.strip("-").replace("-", "_")
    problem = "options are written key=value, without dashes"
    if word.startswith(TORCHRUN):
        return ConfigError(name, "is an option of torchrun", "write torchrun --nproc-per-node=N -m rlrun ...")
    if near := difflib.get_close_matches(name, (other for other in flags if other != name), n=1, cutoff=0.8):
        return ConfigError(name, "there is no such flag", f"did you mean {near[0]}?")
    key = locate(word, known)
    if not key:
        return ConfigError(name, problem, otherwise)
    conversion = f" ({CONVERSION[word]})" if word in CONVERSION else ""
    return ConfigError(name, problem, f"did you mean {_with_key(key, known)}={value or 'VALUE'}?{conversion}")


def locate(word: str, known: Collection[str]) -> str:
    """Our full key for a word in anybody's dialect; empty if it is nobody's."""
    for name in (word, *_ours(word)):
        if found := _ending_with(name, known):
            return found[0]
    return next(iter(_similar(word, known)), "") if len(word) > 2 else ""


def _ours(word: str) -> tuple[str, ...]:
    """A word of another library in our words: the end of a key, and for the options of a verb its last part."""
    return (DIALECT[word], DIALECT[word].rpartition(".")[2]) if word in DIALECT else ()


def _translated(leaf: str, known: Collection[str], owners: bool) -> str:
    """'rlrun calls it X' for a word of another library."""
    found = [key for name in _ours(leaf) for key in _ending_with(name, known)]
    if found:
        conversion = f" ({CONVERSION[leaf]})" if leaf in CONVERSION else ""
        return f"rlrun calls it {_with_key(found[0], known)}{conversion}"
    ours = DIALECT.get(leaf, "")
    if ours and owners and (having := _owners(ours)):
        key = f"{having[0].partition('=')[0]}.{ours.rpartition('.')[2]}"
        return f"rlrun calls it {key}, which this run does not have{_named(having)}"
    return ""


def _nearest(key: str, known: Collection[str], owners: bool) -> str:
    """The same name elsewhere, in components that were not chosen, a similar name, or what there is."""
    parent, _, leaf = key.rpartition(".")
    settable = [k for k in known if k.rpartition(".")[2] != "name"]  # that of a component is set by choosing it
    siblings = [k for k in settable if k.rpartition(".")[0] == parent]
    if parent in known:
        settable = [k for k in settable if not _apart(parent, k.rpartition(".")[0])]
    if "." in parent and parent in known and not siblings:
        return f"write {parent}=VALUE"
    if same := _ending_with(leaf, settable):
        nearest = max(same, key=lambda k: difflib.SequenceMatcher(None, key, k).ratio())
        return f"did you mean {_with_key(nearest, known)}?"
    if owners and leaf != "name" and (having := _owners(leaf)):
        return f"the components of this run do not have it{_named(having)}"
    near = siblings if "." in parent and siblings else settable
    if similar := _similar(key, siblings) or _similar(key, near):
        return f"did you mean {_with_key(similar[0], known)}?"
    if not owners:
        return f"the options are {', '.join(sorted(settable))}"
    names = sorted(k.rpartition(".")[2] for k in siblings)
    return f"{parent or 'the top level'} has {', '.join(names)}" if names else "rlrun --help lists all keys"


def _apart(one: str, other: str) -> bool:
    """Whether two nodes are different parts of one component, such as `algo.noise` and `algo.critics`."""
    return one != other and "." in one and one.rpartition(".")[0] == other.rpartition(".")[0]


def _with_key(key: str, known: Collection[str]) -> str:
    """A key that can be given a value: of a node, one of its own."""
    inside = sorted(other[len(key) + 1 :] for other in known if other.startswith(f"{key}."))
    is_choice = "name" in inside or f"{key}.name" in known
    return key if not inside or is_choice else f"{key}.{min(inside, key=lambda leaf: (leaf != 'start', leaf))}"


def _ending_with(name: str, known: Collection[str]) -> list[str]:
    return sorted((k for k in known if k == name or k.endswith(f".{name}")), key=lambda k: (k.count("."), k))


def _similar(key: str, keys: Iterable[str]) -> list[str]:
    """Keys whose last part is close to that of `key`."""
    leaf = key.rpartition(".")[2]
    by_leaf = {k.rpartition(".")[2]: k for k in sorted(keys, reverse=True)}
    return [by_leaf[name] for name in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.7)]


def _owners(name: str) -> list[str]:
    """Which registered components have a field, as `kind=name`."""
    leaf = name.rpartition(".")[2]
    return [
        f"{kind}={entry.name}"
        for kind in registry.kinds()
        for entry in (registry.get(kind, n) for n in registry.names(kind))
        if leaf in getattr(entry.config, "__dataclass_fields__", {})
    ]


def _named(owners: Sequence[str]) -> str:
    """' (ppo has it)'."""
    names = [owner.partition("=")[2] for owner in owners]
    return f" ({', '.join(names)} {'has' if len(names) == 1 else 'have'} it)"
