"""What a shell offers on TAB: verbs with their options, and choices; other keys are Hydra's to complete."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

from rlrun.commands.table import VERBS, found
from rlrun.errors import RlrunError


def query() -> int:
    """Answer a shell, which put the line in COMP_LINE. There is never an error to see: it would land in the prompt."""
    with contextlib.suppress(RlrunError, OSError), contextlib.redirect_stderr(io.StringIO()):
        if "COMP_LINE" not in os.environ:
            return 0
        line = os.environ["COMP_LINE"][: int(os.environ.get("COMP_POINT") or len(os.environ["COMP_LINE"]))]
        _, *words = line.split(" ")
        given, partial = [word for word in words[:-1] if word], (words or [""])[-1]
        offered = set(candidates(given, partial))
        print(" ".join(sorted(word for word in offered if word.startswith(partial))))
    return 0


def candidates(given: list[str], partial: str) -> Iterator[str]:
    """What may stand where `partial` is, behind the words before it. Where there is nothing, shells offer files."""
    if given and given[0] in VERBS:
        yield from _of_verb(given[0], given[1:])
        return
    group, equals, _ = partial.partition("=")
    if group in found("config.folders.GROUPS") and equals:
        yield from (f"{group}={name}" for name in found("config.folders.options")(group))
        return
    if not given:
        yield from VERBS
    yield from (f"{name}=" for name in found("config.folders.GROUPS"))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        found("commands.sweep.ask_hydra")(["-sc", "query=bash"], [])
    yield from said.getvalue().split()


def _of_verb(verb: str, given: list[str]) -> Iterator[str]:
    """A verb's options, and what it is about if that is not named yet."""
    if verb == "list":
        groups = found("config.folders.GROUPS")
        named = [word for word in given if word in groups]
        yield from found("config.folders.options")(named[-1]) if named else groups
    elif verb != "check" and not given:
        yield "last"
    yield from (f"{key}=" for key in found("commands.help.keys_of")(verb, given))
