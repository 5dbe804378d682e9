"""`run.log`: everything a run says, with the time, and the same on the console as far as it is wanted there."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from rlrun import files
from rlrun.errors import printable
from rlrun.loggers.console import ROWS
from rlrun.talk import unfailing

log = logging.getLogger(__name__)
PACKAGE = logging.getLogger("rlrun")
UNSAID = logging.getLogger("rlrun.unsaid")  # for run.log alone: the console hears of it in other words
speaker: ContextVar[Path | None] = ContextVar("speaker", default=None)  # the log of the run that is at work
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def run_log(path: Path, console: str = "plain") -> Iterator[None]:
    """While this is open, messages of the package and warnings of all libraries go to a file and to the console.

    The file is appended to, so it tells the story of all attempts. Warnings go to stderr, the rest to stdout. Where
    several runs are at work in one process, each is told what is said while it is the `speaker`.

    Args:
        path: the file.
        console: `plain` shows everything, `rich` all but the rows, which the live panel shows, `off` only warnings.
    """
    file = LogFile(path, encoding="utf-8", delay=True)
    file.setFormatter(Plain("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root, handlers = logging.getLogger(), (file, ConsoleHandler(console))
    level, before = PACKAGE.level, speaker.get()
    PACKAGE.setLevel(logging.INFO)
    speaker.set(path)
    for handler in handlers:
        handler.addFilter(lambda record: speaker.get() in (None, path) and _is_told(record))
        root.addHandler(handler)
    with unfailing(), warnings.catch_warnings():
        warnings.showwarning = log_warning
        try:
            yield
        finally:
            speaker.set(before)
            PACKAGE.setLevel(level)
            for handler in handlers:
                root.removeHandler(handler)
                handler.close()


def _is_told(record: logging.LogRecord) -> bool:
    """Whatever level a library may have given to the root logger: of others than us only warnings count."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == PACKAGE.name


class LogFile(logging.FileHandler):
    """A file that need not be writable: on a full or read-only disk the run goes on without what it would say there."""

    _warned = False

    def _open(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(os.fdopen(files.open_to_append(Path(self.baseFilename)), "ab"), encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it cannot be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._warned:
            self._warned = True
            log.warning("%s: cannot be written: %s", self.baseFilename, error)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class Plain(logging.Formatter):
    """Takes out the colours that some libraries put into their messages, and whatever else would steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(printable(line) for line in COLOUR.sub("", super().format(record)).split("\n"))


class ConsoleHandler(logging.Handler):
    """Prints messages to whatever stdout and stderr are at that moment: a live panel puts itself in their place."""

    def __init__(self, console: str):
        super().__init__()
        self._console = console
        self.setFormatter(Plain())

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.name == UNSAID.name:
            return
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
