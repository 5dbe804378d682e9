"""The command line: sorting its words, handing them to a command, and saying what went wrong.

A first word without `=` is a verb; without one the words are overrides, and a run is trained.
"""

from __future__ import annotations

import os

# Before numpy is imported: its threads would only compete with torch's, which device.threads governs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlrun import __version__, ranks
from rlrun.errors import ConfigError, Escaped, Interrupted, RlrunError, described, printable
from rlrun.lazy import deferred
from rlrun.talk import is_lost, unfailing

SHORT = {"-h": "--help", "-m": "--multirun", "-cd": "--config-dir", "-c": "--cfg", "-p": "--package", "-i": "--info"}
HYDRA_FLAGS = {"--cfg", "--package", "--resolve", "--info", "--hydra-help", "--shell-completion", "-sc"}
LAG = 5.0  # seconds that rank 0 has to say what went wrong: torchrun ends it as soon as another rank has failed
WITH_VALUE = {"--config-dir", "--cfg", "--package"}
FLAGS = sorted({"--help", "--version", "--multirun", "--check", "--config-dir", *HYDRA_FLAGS})


@dataclass
class CommandLine:
    """The words of the command, sorted."""

    words: list[str] = field(default_factory=list)  # verb, paths and overrides in the order given
    config_dirs: list[str] = field(default_factory=list)  # folders given with --config-dir
    hydra: list[str] = field(default_factory=list)  # flags that Hydra answers, with their values
    flags: dict[str, str] = field(default_factory=dict)  # other flags, each with the word after it
    help: bool = False
    version: bool = False
    multirun: bool = False
    check: bool = False  # find out whether it would work, and do nothing


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        0 finished, 1 failed, 2 usage or config, 3 diverged, 75 preempted and resumable, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with _speaking(), unfailing() as stdout:
        try:
            code = dispatch(take_apart(argv), argv)
        except KeyboardInterrupt:  # nobody was there yet, or any more, to whom it could be said better
            code = say(Interrupted(signal.SIGINT))
        except BaseException as error:
            if os.environ.get("RLRUN_DEBUG") == "1":
                raise
            code = say(error if isinstance(error, Exception) else Escaped(error))
        stdout.flush()
        if code not in (0, 75, 130) and not ranks.leads():
            time.sleep(LAG)
        if is_lost(stdout) and not trains(argv):  # what it said was all it was for
            print(f"rlrun: stdout: {stdout.error}", file=sys.stderr)
            return code or 1
        return code


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    """Of several ranks the first speaks for all; of the others it is told what it has to know."""
    if ranks.leads():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def say(error: Exception) -> int:
    """Print an error without its traceback and return the exit code."""
    known = isinstance(error, RlrunError)
    text = str(error) if known else f"{described(error)}\nRLRUN_DEBUG=1 shows the traceback"
    print(f"rlrun: {printable(text)}", file=sys.stderr)
    return error.exit_code if isinstance(error, RlrunError) else 1


def dispatch(line: CommandLine, argv: Sequence[str]) -> int:
    """Hand the words of `argv` to the command that they name."""
    if line.version:
        print(f"rlrun {__version__}")
        return 0
    from rlrun.commands import table

    verb = line.words[0] if line.words and is_verb(line.words[0]) else ""
    if ranks.place() is not None:
        refuse_what_is_no_run(line, verb)
    refuse_spaces(line.words[2 if verb in table.VERBS else 0 :])
    known = table.VERBS.get(verb, table.TRAIN).flags
    strange = next((flag for flag in line.flags if flag not in known), None)
    if verb and not strange:
        if verb not in table.VERBS:
            raise table.found("commands.help.unknown_verb")(verb)
        refuse_flags_of_training(line, verb)
        if line.help:
            return table.show(verb)
        if line.config_dirs and not table.VERBS[verb].composes:
            raise ConfigError("--config-dir", f"has no say in {verb}", "a run has its config with it")
        if table.VERBS[verb].composes:
            table.found("config.compose.set_up")(line.words[1:], line.config_dirs)
        return table.call(verb, line.words[1:], line.flags)
    with deferred("torch", "numpy"):
        from rlrun.config import compose
    compose.set_up([] if strange else line.words, line.config_dirs)
    if strange:
        raise table.found("commands.help.unknown_flag")(strange, line.flags[strange], line.words, FLAGS)
    if line.hydra and line.hydra[0] in ("--package", "--resolve") and not {"--cfg", "--info"} & {*line.hydra}:
        raise ConfigError(line.hydra[0], "says how a config is shown", "add --cfg job")
    shown = compose.of_first_job(line.words) if line.multirun else line.words
    if "--cfg" in line.hydra:
        return int(table.found("commands.help.show_config")(line.hydra, shown))
    if line.hydra and "query=bash" in line.words:
        return int(table.found("commands.completion.query")())
    if line.hydra:
        return int(table.found("commands.sweep.ask_hydra")(line.hydra, line.words))
    if line.help:
        return int(table.found("commands.help.show_help")(table.usage(), shown))
    multirun = line.multirun or compose.is_sweep(line.words)
    if not multirun:
        compose.refuse_options_of_sweeps(line.words)
    if multirun:
        ranks.refuse("a sweep")
        flags = [word for folder in line.config_dirs for word in ("--config-dir", folder)]
        return int(table.found("commands.sweep.sweep")(line.words, flags, argv, line.check))
    if line.check:
        return int(table.found("commands.train.check")(line.words))
    return int(table.found("commands.train.train")(line.words, argv))


def take_apart(argv: Sequence[str]) -> CommandLine:
    """Sort flags from words.

    Raises:
        ConfigError: a flag that needs a value has none.
    """
    line, rest = CommandLine(), list(argv)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        flag = SHORT.get(flag, flag)
        if flag in WITH_VALUE and not equals:
            if not rest:
                raise ConfigError(flag, "needs a value")
            value = rest.pop(0)
        match flag:
            case "--help":
                line.help = True
            case "--version":
                line.version = True
            case "--multirun":
                line.multirun = True
            case "--check":
                line.check = True
            case "--config-dir":
                line.config_dirs.append(value)
            case "--info":
                line.hydra += [flag, rest.pop(0)] if rest and is_verb(rest[0]) else [flag]
            case _ if flag in HYDRA_FLAGS:
                line.hydra += [flag, value] if value else [flag]
            case _ if flag.startswith("-"):
                line.flags.setdefault(word, rest[0] if rest else "")
            case _:
                line.words.append(word)
    return line


def refuse_flags_of_training(line: CommandLine, verb: str) -> None:
    """Raise ConfigError for a flag that a verb would take no notice of."""
    given = ["--check"] * line.check + ["--multirun"] * line.multirun + line.hydra
    if given:
        raise ConfigError(given[0], f"has no say in {verb}", "it is for words that train")


def refuse_what_is_no_run(line: CommandLine, verb: str) -> None:
    """Raise ConfigError for what several ranks cannot do together."""
    flag = next((flag for flag, given in (("--help", line.help), ("--check", line.check)) if given), "")
    if (verb and verb != "resume") or flag or line.hydra:
        ranks.refuse(flag or (line.hydra[0] if line.hydra else verb))


def trains(argv: Sequence[str]) -> bool:
    """Whether a run is what the command is for, whatever it says meanwhile."""
    return not (argv and is_verb(argv[0])) or argv[0] == "resume"


def refuse_spaces(words: Sequence[str]) -> None:
    """Raise ConfigError for `seed = 3`, which a shell cuts into three words."""
    for i, word in enumerate(words):
        first = i - 1 if word.startswith("=") and i > 0 else i
        joined = "".join(words[first : i + 2 if word.endswith("=") else i + 1])
        if joined != word and joined.count("=") == 1 and "~" not in joined:
            raise ConfigError(joined.partition("=")[0], "has spaces around its =", f"write {shlex.quote(joined)}")


def is_verb(word: str) -> bool:
    """Whether a word is not an override such as `algo=ppo`, `+smoke=on` or `~tuned`."""
    return "=" not in word and not word.startswith("~")
