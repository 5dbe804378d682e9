"""Runs and sweeps under a folder: which there are, and which of them a word on the command line means.

A word means, in this order:

    a path          of a run, its checkpoints/, one checkpoint in there, or a sweep, from here or from outputs/;
                    any characters, `~` for home
    last            the run under outputs/ that was started last, jobs of sweeps included
    3               job 3 of the sweep in the current directory, else of the newest sweep under outputs/
    SWEEP/3         job 3 of a sweep that is given by its path or its name
    abcd            the end of a name under outputs/: its four letters, or more of it, or all

The number of a job is the one in the sweep's record or, in sweeps of 0.1.0, the one its directory's name begins with.
Hidden directories are not looked into.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from rlrun.errors import ConfigError, RlrunError
from rlrun.files import of_user
from rlrun.rundir.layout import RunDir
from rlrun.rundir.sweep import RECORD, Sweep

OUTPUTS = Path("outputs")
LAST = "last"
HYDRAS_RECORD = "multirun.yaml"  # of a sweep, beside its jobs
DEPTH = 8  # folders looked into, one in another
SHOWN = 3  # candidates that an error lists

_JOB = re.compile(r"([0-9]+)(?:[^0-9].*)?")


def open_run(word: str) -> RunDir:
    """The run that a word means.

    Raises:
        RlrunError: there is none, there are several, or it is a sweep; says which could be meant.
    """
    path = find(word)
    if is_sweep(path):
        named = [str(run.path) for _, run in jobs(path)]
        raise RlrunError("\n".join([f"{word} is a sweep, not a run; its jobs are", *_few(named)]))
    try:
        return RunDir.open(path)
    except RlrunError as error:
        if RunDir.at(path).exists:  # the right one, with something wrong in it
            raise
        raise RlrunError(f"{error}\n{_nearest(path)}") from error


def open_checkpoint(word: str, which: str, usual: str) -> tuple[RunDir, str]:
    """The run that a word means, and which of its checkpoints: the one that the word is a path of, else `which`.

    Args:
        which: best, last or a number of env steps, as an option says it.
        usual: what the option says where nobody gives it.

    Raises:
        RlrunError: as `open_run`; or the word is the path of one checkpoint, and the option names another.
    """
    run, path = open_run(word), find(word)
    if path.parent.name != "checkpoints" or path == run.path:
        return run, which
    named = path.name.removeprefix("step_").lstrip("0") or "0"
    if which not in (named, usual):
        raise ConfigError("ckpt", f"{which} is another checkpoint than {path.name}", "name one of them")
    return run, named


def find(word: str) -> Path:
    """The directory of the run or the sweep that a word means; the word as a path if it is none of the names.

    Raises:
        RlrunError: it means several, or a job that its sweep does not have.
    """
    path, name = of_user(word), word.rstrip("/")
    for place in (path, OUTPUTS / path):  # the second is how `rlrun runs` calls it
        if is_sweep(place) or RunDir.at(place).exists:
            return place
    if name == LAST and (started := under(OUTPUTS)):
        return started[-1].path
    sweep, slash, number = name.rpartition("/")
    if number.isascii() and number.isdigit():
        folder = _sweep(sweep) if slash else _current_sweep()
        if folder is not None:
            return _job(folder, int(number))
    return _only(word, _ending_in(name)) or path


def under(folder: Path) -> list[RunDir]:
    """All runs in a folder and the folders in it; the one that was started last comes last."""
    return sorted((RunDir(path) for path in _scan(folder) if not is_sweep(path)), key=_started)


def jobs(sweep: Path) -> list[tuple[int, RunDir]]:
    """The runs of a sweep, by number."""
    with suppress(RlrunError):
        record = Sweep.read(sweep)
        return [(job.number, run) for job in record.jobs if (run := record.run(job)).exists]
    runs = [(_JOB.fullmatch(path.name), RunDir(path)) for path in _scan(sweep) if path != sweep]
    return sorted(((int(name[1]), run) for name, run in runs if name), key=lambda job: (job[0], job[1].path))


def is_sweep(path: Path) -> bool:
    return any((path / name).is_file() for name in (RECORD, HYDRAS_RECORD))


def _sweep(word: str) -> Path | None:
    """The sweep that a path or the end of a name means."""
    path = of_user(word)
    return path if is_sweep(path) else _only(word, filter(is_sweep, _ending_in(word)))


def _current_sweep() -> Path | None:
    """The sweep that the user stands in, else the one whose jobs were started last."""
    if is_sweep(Path()):
        return Path()
    parents = (parent for run in reversed(under(OUTPUTS)) for parent in run.path.parents)
    return next(filter(is_sweep, parents), None)


def _job(sweep: Path, number: int) -> Path:
    numbered = jobs(sweep)
    if found := _only(f"{sweep}/{number}", (run.path for n, run in numbered if n == number)):
        return found
    there = f"there are {', '.join(_few([str(n) for n, _ in numbered]))}" if numbered else "none has been started"
    raise RlrunError(f"{number}: the sweep {sweep} has no such job\n{there}")


def _ending_in(name: str) -> Iterator[Path]:
    """The runs and sweeps under outputs/ whose name is this, or ends in it behind a `_`."""
    return (path for path in _scan(OUTPUTS) if name and (path.name == name or path.name.endswith(f"_{name}")))


def _only(word: str, paths: Iterable[Path]) -> Path | None:
    found = [str(path) for path in paths]
    if len(found) > 1:
        raise RlrunError("\n".join([f"{word}: there are {len(found)} of that name", *_few(found)]))
    return Path(found[0]) if found else None


def _few(words: list[str]) -> list[str]:
    return words if len(words) <= SHOWN else [*words[:SHOWN], f"… and {len(words) - SHOWN} more"]


def _scan(folder: Path) -> list[Path]:
    """The runs and sweeps in a folder, itself included, in the order of their names."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()  # a link may lead back
    waiting = [(folder, 0)]
    while waiting:
        path, depth = waiting.pop()
        with suppress(OSError):  # what may not be looked into holds no runs for us
            here = path.stat()
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            if RunDir(path).exists:
                found.append(path)
                if os.path.lexists(RunDir(path).status):  # a config.yaml alone may be anybody's
                    continue
            if is_sweep(path):
                found.append(path)
            inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")] if depth < DEPTH else []
            waiting += [(entry, depth + 1) for entry in inside if _is_directory(entry)]
    return sorted(found)


def _is_directory(path: Path) -> bool:
    """Whether a path leads to a directory; not if that cannot be told."""
    with suppress(OSError):
        return path.is_dir()
    return False


def _started(run: RunDir) -> tuple[float, int, str]:
    """When a run was started, for sorting; jobs of the same second by number."""
    try:
        started = datetime.fromisoformat(run.read_status()["started"]).timestamp()
    except (RlrunError, KeyError, ValueError, OverflowError, OSError):
        started = run.path.stat().st_mtime
    number = _JOB.fullmatch(run.path.name)
    return started, int(number[1]) if number else -1, run.path.name


def _nearest(path: Path) -> str:
    """A hint at runs at or beside a path, or under `outputs/` where the path leads nowhere."""
    base = next((place for place in (path, path.parent) if place.is_dir() and place != Path()), OUTPUTS)
    found = under(base)
    if near := difflib.get_close_matches(path.name, [run.path.name for run in found], n=1):
        return f"did you mean {next(run.path for run in found if run.path.name == near[0])}?"
    if found:
        return f"the newest run under {base} is {found[-1].path}"
    return "give the directory of a run, or start one: `rlrun algo=dqn env=cartpole`"
