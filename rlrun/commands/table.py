"""What rlrun can do besides training: every verb with its usage, options, flags and function, in one table.

Functions and options are named here, and imported when the verb is asked for.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rlrun.errors import ConfigError
from rlrun.lazy import deferred
from rlrun.text import paragraphs, table


@dataclass(frozen=True)
class Verb:
    """One thing that rlrun does.

    Its function is called `run(words, **flags)` with the words behind the verb and `name=True` for every flag `--name`
    that was given, a verb whose usage begins with RUN `run(path, words, **flags)`; it returns the exit code.
    """

    usage: str  # what follows the verb
    summary: str  # its line in --help
    run: str  # "room.module.function" of this package
    options: str = ""  # "room.module.Dataclass" of its options, key=value
    flags: Mapping[str, str] = field(default_factory=dict)  # --flag -> help
    details: str = ""  # more on it, in its own --help
    composes: bool = False  # whether it reads YAML files and components of the user's: --config-dir
    also: tuple[str, str] | None = None  # another usage, and the line on it; then all words go to the function


TRUST = {"--trust": "obey the config of a run from elsewhere this once, whatever it imports or fetches"}
TRAIN = Verb("[option=value ...]", "train; alone: DQN on CartPole", "commands.train.train")
VERBS = {
    "resume": Verb(
        "RUN [option=value ...]",
        "continue a run, or complete a sweep",
        "commands.sweep.resume_either",
        flags={**TRUST, "--force": "take it over from a process on another machine that seems to be at work"},
        details="Continue a run from its newest checkpoint. "
        "What can change: total_timesteps, logger.*, eval.*, checkpoint.*\n\n"
        "Of a sweep, finished jobs are kept, interrupted ones go on, missing ones start. Its options: retry=failed "
        "(failed and diverged jobs too), sweep.jobs=N, sweep.time_limit=SECONDS.",
    ),
    "eval": Verb(
        "RUN [option=value ...]",
        "evaluate a checkpoint of a run",
        "commands.evaluate.evaluate",
        "commands.evaluate.EvalOptions",
        TRUST,
    ),
    "play": Verb(
        "RUN [option=value ...]",
        "watch its agent, or film it",
        "commands.play.play",
        "commands.play.PlayOptions",
        TRUST,
    ),
    "inspect": Verb(
        "RUN [option=value ...]",
        "show what a tabular run has learned",
        "commands.inspect.inspect",
        "commands.inspect.InspectOptions",
        TRUST,
        composes=True,
        also=("env=ENV [option=value ...]", "draw what agents see of an environment"),
    ),
    "check": Verb(
        "env.id=ID [option=value ...]",
        "try an environment: what fits, exact resume or not",
        "commands.check.check",
        "commands.check.CheckOptions",
        composes=True,
    ),
    "runs": Verb(
        "[DIR] [option=value ...]",
        "the runs under a folder, with state and score",
        "commands.runs.show",
        "commands.runs.RunsOptions",
    ),
    "list": Verb(
        "[GROUP [CHOICE]] [json=true]",
        "what there is to choose from",
        "commands.list.show",
        "commands.list.ListOptions",
        composes=True,
    ),
}

NOTES = """\
  RUN: a directory; `last`; the four letters at its end; 3 (job 3 of the newest
       sweep) or SWEEP/3
  VERB --help             its options; --help behind options: theirs
  --config-dir DIR        more YAML files (also RLRUN_CONF=DIR)
  --check                 find out whether it would work; nothing is made
  --cfg job               the composed config
  torchrun --nproc-per-node=N -m rlrun ...
                          one run on N ranks, which share its environments"""


def usage() -> str:
    """What stands at the top of --help."""
    lines = [
        (TRAIN.usage, TRAIN.summary),
        ("-m algo=dqn,ppo seed='range(5)'", "train every combination, each in a directory of its own"),
        *((f"{name} {line}", summary) for name, verb in VERBS.items() for line, summary in usages(verb)),
    ]
    rows = table([(f"rlrun {line}", summary) for line, summary in lines], share=0.5)
    return f"rlrun trains, evaluates, resumes and compares reinforcement-learning agents.\n\n{rows}\n\n{NOTES}"


def usages(verb: Verb) -> list[tuple[str, str]]:
    """What may follow a verb, and what that does."""
    return [(verb.usage, verb.summary), *([verb.also] if verb.also else [])]


def show(name: str) -> int:
    """Usage of one verb, its options and its flags."""
    verb = VERBS[name]
    options = found(verb.options) if verb.options else None
    about = paragraphs(verb.details or inspect.cleandoc(str(options.__doc__)))
    print("\n".join(f"rlrun {name} {line}" for line, _ in usages(verb)), about, sep="\n\n")
    if options:
        print("", table(found("commands.help.rows")(options, asdict(options()))), sep="\n")
    if verb.flags:
        print("", table(verb.flags.items()), sep="\n")
    return 0


def call(name: str, words: Sequence[str], flags: Iterable[str]) -> int:
    """Do what a verb says; returns the exit code.

    Args:
        flags: as they were given, `--name`; the table knows them all.

    Raises:
        ConfigError: the run that it is about is not named.
    """
    verb, given = VERBS[name], {flag.strip("-").replace("-", "_"): True for flag in flags}
    run = found(verb.run)
    if verb.also or not verb.usage.startswith("RUN"):
        return int(run(words, **given))
    if not words or is_option(words[0]):
        raise ConfigError(name, "needs the directory of a run", f"rlrun {name} outputs/…")
    path, *words = words
    return int(run(path, words, **given))


def is_option(word: str) -> bool:
    """Whether a word where a run's directory belongs is none, although `=` may be part of a directory's name."""
    return re.match(r"[+~]*[a-z_][a-z_.]*=", word) is not None and not os.path.lexists(
        os.path.expanduser(word.rstrip("/"))
    )


def found(where: str) -> Any:
    """What "room.module.name" of this package is."""
    module, _, name = where.rpartition(".")
    with deferred("torch", "numpy"):
        return getattr(importlib.import_module(f"rlrun.{module}"), name)
