"""What rlrun can do besides training: every verb with its usage, options, flags and function, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rlrun import help, inspection, launch, listing, review
from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean


@dataclass(frozen=True)
class Verb:
    """One thing that rlrun does.

    `run(words, **flags)` gets the words behind the verb and `name=True` for every flag `--name` that was given; a verb
    whose usage begins with RUN gets `run(path, words, **flags)`.
    """

    usage: str  # what follows the verb
    summary: str  # its line in --help
    run: Callable[..., int]  # returns the exit code
    options: type | None = None  # dataclass of its options, key=value
    flags: Mapping[str, str] = field(default_factory=dict)  # --flag -> help
    details: str = ""  # more on it, in its own --help


TRAIN = Verb("[option=value ...]", "train; alone: DQN on CartPole", launch.train)
VERBS = {
    "resume": Verb(
        "RUN [option=value ...]",
        "continue a run",
        launch.resume,
        details="Continue a run from its newest checkpoint. "
        "What can change: total_timesteps, logger.*, eval.*, checkpoint.*",
    ),
    "eval": Verb("RUN [option=value ...]", "evaluate a checkpoint of a run", review.evaluate, review.EvalOptions),
    "play": Verb("RUN [option=value ...]", "watch its agent, or film it", review.play, review.PlayOptions),
    "inspect": Verb(
        "RUN [option=value ...]",
        "show what a tabular run has learned",
        inspection.inspect,
        inspection.InspectOptions,
    ),
    "runs": Verb(
        "[DIR] [option=value ...]",
        "the runs under a folder, with state and score",
        listing.show,
        listing.RunsOptions,
    ),
    "list": Verb(
        "[KIND ...]",
        "what there is to choose from",
        help.show_list,
        details="List what there is to choose from: algo, network, buffer, env, device, ...",
    ),
}

NOTES = """\
  RUN: a directory; `last`; the four letters at its end; 3 (job 3 of the newest sweep) or SWEEP/3
  VERB --help, or --help behind options: theirs      --config-dir DIR: more YAML files (also RLRUN_CONF=DIR)
  --cfg job: the composed config                     --version
"""


def usage() -> str:
    """What stands at the top of --help."""
    lines = [
        (TRAIN.usage, TRAIN.summary),
        ("-m algo=dqn,ppo seed='range(5)'", "train every combination, each in a directory of its own"),
        *((f"{name} {verb.usage}", verb.summary) for name, verb in VERBS.items()),
    ]
    table = help.table([(f"rlrun {line}", summary) for line, summary in lines])
    return f"rlrun trains, evaluates, resumes and compares reinforcement-learning agents.\n\n{table}\n\n{NOTES}"


def show(name: str) -> int:
    """Usage of one verb, its options and its flags."""
    verb = VERBS[name]
    about = verb.details or (verb.options.__doc__ if verb.options else "") or ""
    print(f"rlrun {name} {verb.usage}", about, sep="\n\n")
    if verb.options:
        print(f"\n{help.table(help.rows(verb.options, asdict(verb.options())))}")
    if verb.flags:
        print(f"\n{help.table(verb.flags.items())}")
    return 0


def unknown(word: str) -> ConfigError:
    """The error for a first word that is neither a verb nor an option."""
    hint = "leave it out: rlrun algo=dqn env=cartpole" if word == "train" else did_you_mean(word, VERBS)
    return ConfigError(word, "is neither a verb nor an option=value", hint)


def call(name: str, words: Sequence[str], flags: Iterable[str]) -> int:
    """Do what a verb says; returns the exit code.

    Args:
        flags: as they were given, `--name`; the table knows them all.

    Raises:
        ConfigError: the run that it is about is not named.
    """
    verb, given = VERBS[name], {flag.strip("-").replace("-", "_"): True for flag in flags}
    if not verb.usage.startswith("RUN"):
        return verb.run(words, **given)
    path, *words = [*words, ""] if not words or "=" in words[0] else words
    if not path:
        raise ConfigError(name, "needs the directory of a run", f"rlrun {name} outputs/…")
    return verb.run(path, words, **given)
