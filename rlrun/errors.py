"""What can go wrong in a way that a user can mend: one class per exit code, one to five readable lines each."""

from __future__ import annotations

import signal
import traceback

LONGEST, LINES = 2000, 20  # characters and lines of a message


class RlrunError(Exception):
    """A mistake the user can mend; `str(error)` is the whole message, without a traceback."""

    exit_code = 2
    state = "failed"  # of the run that it ends


class ConfigError(RlrunError):
    """A key or value that cannot be: names the key, then what would fit. A long value is quoted in part.

    Args:
        key: dotted config key, such as `algo.learning_rate`.
        problem: what is wrong with it, in one line.
        hint: the nearest valid choice or the next thing to do.
    """

    def __init__(self, key: str, problem: str, hint: str = ""):
        self.key, self.problem, self.hint = key, problem, hint
        lines = [f"{_in_short(key, 80)}: {_in_short(problem, 240)}", *hint.splitlines()]
        super().__init__("\n".join(_in_short(line, 600) for line in lines))


def _in_short(text: str, length: int) -> str:
    """One line of text, with its middle left out if it is long."""
    cut = text if len(text) <= length else f"{text[: length * 2 // 3]} … {text[-length // 3 :]}"
    return printable(cut.replace("\n", "\\n"))


class UnknownName(ConfigError):
    """A name that no component is registered under."""


class CheckpointError(RlrunError):
    """A checkpoint that is missing, damaged, foreign or hostile; nothing of it was used."""


class EnvError(RlrunError):
    """An environment that failed: names the environment, its index and what it said."""

    exit_code = 1


class CallbackError(RlrunError):
    """A callback of the user's that failed: names it, the hook, and what it said."""

    exit_code = 1


class Diverged(RlrunError):
    """A number that should be finite is not."""

    exit_code = 3
    state = "diverged"


class RanksLost(RlrunError):
    """Another rank of the run is gone, and has not said why."""

    exit_code = 1

    def __init__(self, who: str = "another rank") -> None:
        super().__init__(f"{who} ended without a word (killed, or out of memory)")


class RankFailed(RlrunError):
    """Another rank of the run failed: names it, and says what it said.

    Args:
        rank, text: which, and what.
        exit_code, state: as of its own error.
    """

    def __init__(self, rank: int, text: str, exit_code: int, state: str):
        self.exit_code, self.state = exit_code, state
        super().__init__(f"rank {rank}: {text}")


class Interrupted(RlrunError):
    """A signal asked the run to stop; raised where the state is whole and can be saved.

    Exit code 130 for Ctrl-C, 75 (EX_TEMPFAIL, "try again") for anything a scheduler sends.

    Args:
        signum: which signal.
        where: more about it, if the run was stopped elsewhere.
    """

    state = "preempted"

    def __init__(self, signum: int, where: str = ""):
        self.signum = signum
        self.exit_code = 130 if signum == signal.SIGINT else 75
        super().__init__(f"stopped by {signal.Signals(signum).name} {where}".rstrip())


class Abandoned(BaseException):
    """A signal was not answered in time: raised wherever the main thread is, whose state is not whole.

    No Exception, so that nobody takes it for a failure of what was called; whoever catches more than that lets it pass.
    """


class Escaped(RlrunError):
    """Code that rlrun called wanted to end the process: SystemExit, KeyboardInterrupt, GeneratorExit and the like."""

    exit_code = 1

    def __init__(self, error: BaseException):
        where = [
            f" in {frame.f_code.co_filename}, line {line}" for frame, line in traceback.walk_tb(error.__traceback__)
        ]
        super().__init__(f"{described(error)} was raised{where[-1] if where else ''}")


def described(error: BaseException) -> str:
    """The kind of an exception and what it says."""
    try:
        text = str(error)
    except BaseException as another:  # foreign, like all of it
        text = f"(its text cannot be had: {type(another).__name__})"
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def printable(text: str) -> str:
    """A message as a terminal should see it: without what would steer it, and not without end."""
    lines = text[:LONGEST].split("\n")
    kept = "\n".join(
        "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line) for line in lines[:LINES]
    )
    return kept + (f"… ({len(text):,} characters)" if len(text) > LONGEST or len(lines) > LINES else "")
