"""The command line: sorting its words, handing them to a command, and saying what went wrong.

A first word without `=` is a verb; without one the words are overrides, and a run is trained.
"""

from __future__ import annotations

import os

# Before numpy is imported: its threads would only compete with torch's, which device.threads governs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlrun import __version__
from rlrun.errors import ConfigError, RlrunError
from rlrun.lazy import deferred

INTERRUPTED = 128 + signal.SIGINT
SHORT = {"-h": "--help", "-m": "--multirun", "-cd": "--config-dir", "-c": "--cfg", "-p": "--package", "-i": "--info"}
HYDRA_FLAGS = {"--cfg", "--package", "--resolve", "--info", "--hydra-help", "--shell-completion", "-sc"}
WITH_VALUE = {"--config-dir", "--cfg", "--package"}


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


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        0 finished, 1 failed, 2 usage or config, 3 diverged, 75 preempted and resumable, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(take_apart(argv), argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of `rlrun list | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("RLRUN_DEBUG") == "1":
            raise
        return say(error)


def say(error: Exception) -> int:
    """Print an error without its traceback and return the exit code."""
    known = isinstance(error, RlrunError)
    text = str(error) if known else f"{type(error).__name__}: {error}\nRLRUN_DEBUG=1 shows the traceback"
    print(f"rlrun: {text}", file=sys.stderr)
    return error.exit_code if isinstance(error, RlrunError) else 1


def dispatch(line: CommandLine, argv: Sequence[str]) -> int:
    """Hand the words of `argv` to the command that they name."""
    if line.version:
        print(f"rlrun {__version__}")
        return 0
    with deferred("torch"):
        from rlrun import compose, help, launch, sweep, verbs

    verb = line.words[0] if line.words and is_verb(line.words[0]) else ""
    known = verbs.VERBS.get(verb, verbs.TRAIN).flags
    if strange := next((flag for flag in line.flags if flag not in known), None):
        compose.set_up([], line.config_dirs)
        raise compose.unknown_flag(strange, line.flags[strange])
    if verb and verb not in verbs.VERBS:
        raise verbs.unknown(verb)
    if verb:
        return verbs.show(verb) if line.help else verbs.call(verb, line.words[1:], line.flags)
    compose.set_up(line.words, line.config_dirs)
    if line.hydra:
        return sweep.ask_hydra(line.hydra, line.words)
    if line.help:
        return help.show_help(verbs.usage(), line.words)
    if line.multirun or "hydra.mode=MULTIRUN" in line.words:
        return sweep.sweep(line.words)
    return launch.train(line.words, argv)


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


def is_verb(word: str) -> bool:
    """Whether a word is not an override such as `algo=ppo`, `+smoke=on` or `~tuned`."""
    return "=" not in word and not word.startswith("~")
