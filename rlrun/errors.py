"""What can go wrong in a way that a user can mend: one class per exit code, one to five readable lines each."""

from __future__ import annotations

import signal


class RlrunError(Exception):
    """A mistake the user can mend; `str(error)` is the whole message, without a traceback."""

    exit_code = 2


class ConfigError(RlrunError):
    """A key or value that cannot be: names the key, then what would fit.

    Args:
        key: dotted config key, such as `algo.learning_rate`.
        problem: what is wrong with it, in one line.
        hint: the nearest valid choice or the next thing to do.
    """

    def __init__(self, key: str, problem: str, hint: str = ""):
        self.key, self.problem, self.hint = key, problem, hint
        super().__init__(f"{key}: {problem}" + (f"\n{hint}" if hint else ""))


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


class Interrupted(RlrunError):
    """A signal asked the run to stop; raised where the state is whole and can be saved.

    Exit code 130 for Ctrl-C, 75 (EX_TEMPFAIL, "try again") for anything a scheduler sends.
    """

    def __init__(self, signum: int):
        self.signum = signum
        self.exit_code = 130 if signum == signal.SIGINT else 75
        super().__init__(f"stopped by {signal.Signals(signum).name}")
