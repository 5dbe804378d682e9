"""Claiming a directory for a new run: whoever is killed on the way, nothing is there yet or a run that can be resumed.

A new directory is filled under a hidden name beside it and gets its name in one step; of several processes that try,
one succeeds. A directory that exists, where the user stands or a disk is mounted, is filled from a hidden one inside
it: `status.json` is the claim, which only one process can make, and the config comes last, which makes it a run. What
a killed process left behind is taken away by the next that claims beside it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlrun import files
from rlrun.rundir import processes

STATUS, CONFIG = "status.json", "config.yaml"
STALE_SECONDS = 3600.0  # a claim whose process cannot be asked after is given up

_HIDDEN = re.compile(r"\.claim-([0-9a-f]+)-(\d+)-(\d+)-[a-z]+")  # machine, number and start of the process, letters


class Taken(Exception):
    """Another process has the directory, or it holds what is not ours; `what` is a file that says so."""

    def __init__(self, what: str):
        self.what = what
        super().__init__(what)


def claim(target: Path, content: Mapping[str, str]) -> None:
    """Make a directory that holds these files, or take an existing one that is empty but for `.hydra/` and `*.log`.

    Args:
        content: text by name, `.hydra/config.yaml` for one in a directory; `status.json` is among them.

    Raises:
        Taken: the directory holds a run or something else, or another process is about to make one of it.
        OSError: it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        with _locked(target):
            _fill_in(target, content)
        return
    clear_leftovers(target.parent)
    with _staged(target.parent, content) as staged:
        try:
            os.rename(staged, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Taken(STATUS) from error
            raise
    files.sync_directory(target.parent)


def check(target: Path) -> None:
    """Raise Taken or OSError where `claim` would, without making anything."""
    place = next(path for path in (target.absolute(), *target.absolute().parents) if path.exists())
    names = set(os.listdir(place))  # NotADirectoryError, where a file is in the way
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
    if place == target.absolute():
        if CONFIG in names or (STATUS in names and _is_at_work(target)):
            raise Taken(STATUS)
        if STATUS not in names and (others := sorted(n for n in names if n != ".hydra" and not n.endswith(".log"))):
            raise Taken(others[0])


def clear_leftovers(folder: Path) -> None:
    """Take away what killed processes left half claimed in a folder."""
    paths: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that cannot be listed can be written into
        paths += folder.iterdir()
    for path in paths:
        if name := _HIDDEN.fullmatch(path.name):
            if name[1] == processes.machine():
                at_work = processes.exists({"pid": int(name[2]), "pid_started": int(name[3]) or None})
            else:
                at_work = files.age(path) < STALE_SECONDS
            if not at_work:
                files.remove(path)


def _fill_in(target: Path, content: Mapping[str, str]) -> None:
    clear_leftovers(target)
    names = set(os.listdir(target))
    if CONFIG in names or (STATUS in names and _is_at_work(target)):
        raise Taken(STATUS)
    allowed = {name.partition("/")[0] for name in content} if STATUS in names else set()  # of a claim that was killed
    if others := sorted(name for name in names - allowed if name != ".hydra" and not name.endswith(".log")):
        raise Taken(others[0])
    with _staged(target, content) as staged:
        if STATUS in names:
            os.rename(target / STATUS, staged / f"{STATUS}.left")
        try:
            files.move_new(staged / STATUS, target / STATUS)
        except FileExistsError as error:
            raise Taken(STATUS) from error
        for name in sorted(content.keys() - {STATUS}, key=lambda name: name == CONFIG):
            if "/" in name:
                files.make_directory((target / name).parent, root=target)
            os.replace(staged / name, target / name)
        files.sync_directory(target)


@contextlib.contextmanager
def _staged(folder: Path, content: Mapping[str, str]) -> Iterator[Path]:
    """A complete, hidden directory; what is left of it in the end is taken away."""
    pid = os.getpid()
    staged = folder / f".claim-{processes.machine()}-{pid}-{processes.process_start(pid) or 0}-{files.letters()}"
    staged.mkdir()
    try:
        for name, text in content.items():
            if "/" in name:
                files.make_directory((staged / name).parent, root=staged)
            files.replace(staged / name, text, root=staged)
        yield staged
    finally:
        files.remove(staged)


def _is_at_work(path: Path) -> bool:
    """Whether the process that has its status here may still be filling the directory."""
    try:
        status: Any = json.loads(files.read(path / STATUS, limit=2**16))
        if processes.is_here(status):
            return processes.exists(status)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # damaged
    return files.age(path) < STALE_SECONDS


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep two processes of one machine from filling a directory at the same instant, where there are locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
