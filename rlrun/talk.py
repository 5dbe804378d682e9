"""stdout and stderr that cannot fail: what is said may be lost, a run never is.

A reader that has gone (`| head -1`), a full disk, a closed descriptor, an encoding that lacks a character: whoever
prints here, rich, a library or an environment included, does not notice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any


class Unfailing:
    """A text stream in front of another, whose errors end here."""

    def __init__(self, stream: Any):
        self.stream = stream
        self.error: OSError | ValueError | None = None  # the first one

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            self.stream.write(text)
        except (OSError, ValueError) as error:
            self.error = self.error or error
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.error = self.error or error

    def settle(self) -> None:
        """Send what could not be written nowhere, or Python would try again at its exit and fail."""
        self.flush()
        if self.error is not None:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())
                self.stream.flush()


@contextlib.contextmanager
def unfailing() -> Iterator[Unfailing]:
    """Put unfailing streams in the place of stdout and stderr; yields stdout."""
    if isinstance(sys.stdout, Unfailing):
        yield sys.stdout
        return
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        streams = [Unfailing(stack.enter_context(_replacing(stream))) for stream in before]
        sys.stdout, sys.stderr = streams
        try:
            yield streams[0]
        finally:
            sys.stdout, sys.stderr = before
            for stream in streams:
                stream.settle()


def is_lost(stream: Unfailing) -> bool:
    """Whether something did not arrive that somebody waits for; a reader that has gone waits for nothing."""
    return stream.error is not None and getattr(stream.error, "errno", None) != errno.EPIPE


@contextlib.contextmanager
def _replacing(stream: Any) -> Iterator[Any]:
    """A stream that writes `?` for characters that its encoding lacks; the void for none."""
    if stream is None:
        with open(os.devnull, "w") as nowhere:
            yield nowhere
    elif hasattr(stream, "reconfigure"):
        errors = stream.errors
        with contextlib.suppress(OSError, ValueError):
            stream.reconfigure(errors="replace")
        yield stream
        with contextlib.suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)
    else:
        yield stream


def _occupy_descriptors() -> None:
    """Fill closed descriptors 0 to 2, or the first files that are opened would take the place of stdout."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
