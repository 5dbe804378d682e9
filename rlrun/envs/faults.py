"""What to tell the user when an environment does something wrong, whatever it is that it did.

An environment is foreign code: it may raise anything, `SystemExit` and `KeyboardInterrupt` included, with a text of any
length, and even the text may fail. Everything becomes an EnvError of a few printable lines; the traceback of the cause
stays with it for the log.
"""

from __future__ import annotations

import signal
import traceback

import numpy as np

from rlrun.errors import Abandoned, EnvError, RlrunError

MAX_TEXT, MAX_LINES = 400, 3  # of what an environment's exception says
MAX_VALUE = 80  # characters of an action or anything else that is shown


class Nonsense(Exception):
    """What an environment returned cannot be: the text says what, and needs no exception's name before it."""


class ChildError(Exception):
    """An exception in a child process: its text is the traceback there."""


def failure(env_id: str, env: int, when: str, call: str, error: BaseException) -> EnvError:
    """The error of one environment, with what it takes to see it again.

    Args:
        env: its index.
        when: seed, episode and step, from `moment`.
        call: what was asked of it, such as "reset()".
        error: what came of it.
    """
    return EnvError(f"{env_id}: environment {env} ({when}) failed in {call}\n{described(error)}")


def moment(seed: int, episode: int, step: int) -> str:
    """Where an environment stands: the seed it was reset with, episodes since then, steps in this episode."""
    parts = [f"seed {seed}", *([f"episode {episode}"] if episode else []), *([f"step {step}"] if step else [])]
    return ", ".join(parts)


def described(error: BaseException) -> str:
    """An exception by name and text: printable, a few lines, whatever its own text is or does."""
    try:
        text = str(error)
    except BaseException as another:
        text = f"(its text cannot be had: {type(another).__name__})"
    text = shortened(text)
    return (
        text
        if isinstance(error, Nonsense | RlrunError | ImportError)
        else f"{type(error).__name__}: {text}".removesuffix(": ")
    )


def shortened(text: str, length: int = MAX_TEXT, lines: int = MAX_LINES) -> str:
    """The beginning of a text, without anything that a terminal would obey."""
    kept = [line.rstrip() for line in text[: 2 * length].splitlines() if line.strip()][:lines]
    clean = "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in kept)
    return clean if clean == text.strip() else clean[:length].rstrip() + " ..."


def shown(value: object) -> str:
    """A value in one short line."""
    try:
        text = repr(value)
    except BaseException:
        text = f"a {type(value).__name__}"
    return shortened(" ".join(text.split()), MAX_VALUE, 1)


def whole(what: str, value: object) -> int:
    """A whole number, also as NumPy's; Nonsense names anything else."""
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "biu":
        raise Nonsense(f"{what} is {shown(value)}, not a whole number")
    return int(array)


def step_of(action: object) -> str:
    """How a call is written: "step(1)"."""
    return f"step({shortened(' '.join(str(action).split()), MAX_VALUE, 1)})"


def traced(error: BaseException) -> str:
    """The traceback of an exception as text, for another process to show; bounded."""
    lines = traceback.format_exception(error)
    return "".join(line if len(line) < 10 * MAX_TEXT else line[: 10 * MAX_TEXT] + " ...\n" for line in lines)


def is_ours(error: BaseException) -> bool:
    """Whether this passes through an environment without being its failure: a run given up, or a real Ctrl-C.

    While a run handles signals, a KeyboardInterrupt can only be the environment's own.
    """
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, Abandoned)
