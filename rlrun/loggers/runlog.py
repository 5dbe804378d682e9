"""`run.log`: everything a run says, with the time, and the same on the console as far as it is wanted there."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rlrun.loggers.console import ROWS

PACKAGE = logging.getLogger("rlrun")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def run_log(path: Path, console: str = "plain") -> Iterator[None]:
    """While this is open, messages of the package and warnings of all libraries go to a file and to the console.

    The file is appended to, so it tells the story of all attempts. Warnings go to stderr, the rest to stdout.

    Args:
        path: the file.
        console: `plain` shows everything, `rich` all but the rows, which the live panel shows, `off` only warnings.
    """
    file = logging.FileHandler(path, encoding="utf-8", delay=True)
    file.setFormatter(Plain("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root, handlers = logging.getLogger(), (file, ConsoleHandler(console))
    level = PACKAGE.level
    PACKAGE.setLevel(logging.INFO)
    for handler in handlers:
        root.addHandler(handler)
    with warnings.catch_warnings():
        warnings.showwarning = log_warning
        try:
            yield
        finally:
            PACKAGE.setLevel(level)
            for handler in handlers:
                root.removeHandler(handler)
                handler.close()


class Plain(logging.Formatter):
    """Takes out the colours that some libraries put into their messages."""

    def format(self, record: logging.LogRecord) -> str:
        return COLOUR.sub("", super().format(record))


class ConsoleHandler(logging.Handler):
    """Prints messages to whatever stdout and stderr are at that moment: a live panel puts itself in their place."""

    def __init__(self, console: str):
        super().__init__()
        self._console = console
        self.setFormatter(Plain())

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname.lower()}: {text}", file=sys.stderr, flush=True)
        elif self._console == "plain" or (self._console == "rich" and record.name != ROWS.name):
            print(text, flush=True)


def log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """`warnings.showwarning` that writes one line to the log."""
    PACKAGE.warning("%s (%s, %s:%d)", message, category.__name__, filename, lineno)
