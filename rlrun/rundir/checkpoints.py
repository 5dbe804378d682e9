"""Checkpoints: a nested state dict as a directory that is either whole or not there.

    checkpoints/
        step_000050000/
            manifest.json       format, env_steps, and size and sha256 of every other file
            state.json          plain data of all parts; arrays appear as references
            algo.safetensors    the arrays of one part (a top-level key of the state)
            buffer.0007.safetensors     a block: a piece of a large part that seldom changes
        last -> step_000050000
        best -> step_000030000

A checkpoint is written under a hidden name, synced, and renamed. A block that is as it was in an earlier one is not
written again, but linked from there: one file under two names, of which either can be deleted.

Reading executes nothing (JSON and safetensors, no pickle) and starts with the manifest: a file that is not listed is
not looked at, and one that differs from its hash is not parsed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

from rlrun import __version__, files
from rlrun.blocks import Block
from rlrun.errors import CheckpointError, RlrunError
from rlrun.files import letters, sync_directory
from rlrun.rundir import older
from rlrun.rundir.codec import decode, encode
from rlrun.rundir.processes import is_running
from rlrun.types import Array, StateDict

FORMAT = 2  # with blocks; without it is 1
MANIFEST, STATE = "manifest.json", "state.json"
STALE_SECONDS = 3600.0
LINKED_FROM = 4  # how many of the newest checkpoints are looked through for a block
ATTEMPTS = 3  # at a checkpoint that another process may be replacing

_PART = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PART_FILE = re.compile(_PART.pattern + r"(\.\d{4,})?\.safetensors")  # a part, or a block of it
_STEP = re.compile(r"step_(\d{9,})(?:\.new)?")
_HIDDEN = re.compile(r"\.(?:tmp|trash)-(\d+)-[a-z]+")


class SaveError(RlrunError):
    """A checkpoint that could not be written, for want of space or rights; the earlier ones are as they were."""

    exit_code = 1


# Saving.


def save(root: Path, state: StateDict, env_steps: int, *, best: bool = False, keep_last: int = 3) -> Path:
    """Write a checkpoint, point `last` at it, and delete the ones no longer wanted.

    If the process is killed, at any moment, each `step_*` directory is whole, and this state or the one before it can
    be loaded. A checkpoint of the same step is replaced. Those of later steps are of a continuation that was given up:
    they are deleted.

    Args:
        root: the directory of the run's checkpoints; made if missing.
        state: parts by name, such as "algo" or "progress"; a part can be loaded without the others.
        env_steps: the step the state was taken at.
        best: point `best` at it, too. What `best` points at is never deleted.
        keep_last: how many of the newest stay; 0 keeps all.

    Returns:
        The directory of the checkpoint.

    Raises:
        TypeError: the state holds something that cannot be saved.
        SaveError: it could not be written; the earlier ones can still be loaded.
    """
    blocks: dict[str, Block] = {}
    encoded = {part: encode(tree, part, blocks) for part, tree in state.items()}
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        files.make_directory(root)
        _clear_leftovers(root)
        directory = _publish(_write(root, encoded, blocks, env_steps), root / f"step_{env_steps:09d}")
        if best:  # first: the state says that this is done, so nobody would do it again
            _link(root / "best", directory)
        _link(root / "last", directory)
        sync_directory(root)  # before anything older is deleted
        prune(root, env_steps, keep_last)
    except (OSError, SafetensorError) as error:
        raise SaveError(f"{root}: the checkpoint of step {env_steps} was not saved: {_reason(error)}") from error
    return directory


def _write(
    root: Path, encoded: dict[str, tuple[Any, dict[str, Array]]], blocks: dict[str, Block], env_steps: int
) -> Path:
    """A complete, synced checkpoint under a hidden name; nothing is left behind if that fails."""
    from safetensors.numpy import save_file  # imports NumPy

    directory = _hidden(root, "tmp")
    directory.mkdir()
    try:
        for part, (_, arrays) in encoded.items():
            if not _PART.fullmatch(part):
                raise ValueError(f"{part!r} cannot name a part of a checkpoint: use letters, digits and _")
            if arrays:
                save_file(arrays, directory / f"{part}.safetensors")
        linked = _link_blocks(root, directory, {f"{name}.safetensors": block.seal for name, block in blocks.items()})
        for name, block in blocks.items():
            if f"{name}.safetensors" not in linked:
                plain, arrays = encode(dict(block.contents()), "block")
                save_file(arrays, directory / f"{name}.safetensors", {STATE: json.dumps(plain, allow_nan=False)})
        _write_json(directory / STATE, {part: plain for part, (plain, _) in encoded.items()})
        sealed = {file.name: linked.get(file.name) or _seal(file) for file in sorted(directory.iterdir())}
        version = FORMAT if blocks else 1
        manifest = {"format": version, "rlrun": __version__, "env_steps": env_steps, "files": sealed}
        _write_json(directory / MANIFEST, manifest)
        _seal(directory / MANIFEST)
        sync_directory(directory)
    except BaseException:
        files.remove(directory)
        raise
    for name, block in blocks.items():
        block.seal = sealed[f"{name}.safetensors"]
    return directory


def _link_blocks(root: Path, directory: Path, seals: dict[str, Any]) -> dict[str, Any]:
    """Link into a new checkpoint the files that an earlier one has already; returns their entries in its manifest.

    Args:
        seals: what the files should be like, by name; None where that is not known.
    """
    wanted = {name: seal for name, seal in seals.items() if seal is not None}
    linked: dict[str, Any] = {}
    for earlier in itertools.islice(_newest_first(root), LINKED_FROM):
        if wanted.keys() == linked.keys():
            break
        with suppress(OSError, ValueError, RlrunError):
            listed, written = _read_manifest(earlier), (earlier / MANIFEST).stat().st_mtime_ns
            for name in wanted.keys() - linked.keys():
                same = listed.get(name) == wanted[name]
                if same and _link_block(earlier / name, directory / name, wanted[name]["bytes"], written):
                    linked[name] = wanted[name]
    return linked


def _link_block(file: Path, link: Path, size: int, written: int) -> bool:
    """Give a file a second name, where there are links, and if it was not touched after its checkpoint was written."""
    try:
        os.link(file, link, follow_symlinks=False)
    except OSError:
        return False
    found = link.lstat()
    if stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_mtime_ns <= written:
        return True
    link.unlink()
    return False


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")


def _seal(path: Path) -> dict[str, Any]:
    """Sync a file and say what it must be like when it is read."""
    with open(path, "rb") as file:
        with suppress(OSError):  # safetensors leaves its files private; a file system may know no modes
            os.fchmod(file.fileno(), path.parent.stat().st_mode & 0o666)
        files.sync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _publish(written: Path, directory: Path) -> Path:
    """Give a written checkpoint its name. If the name is taken, there is a `.new` to load while they change places."""
    if os.path.lexists(directory):
        written.rename(directory.with_suffix(".new"))
        sync_directory(directory.parent)
        _finish_replacing(directory)
    else:
        written.rename(directory)
    return directory


def _finish_replacing(directory: Path) -> None:
    if os.path.lexists(directory):
        _discard(directory)
    directory.with_suffix(".new").rename(directory)


def _link(link: Path, directory: Path) -> None:
    """Point a link at a checkpoint beside it, in one step."""
    if link.is_dir() and not link.is_symlink():  # a copied run may have directories in place of links
        _discard(link)
    temporary = _hidden(link.parent, "tmp")
    try:
        temporary.symlink_to(directory.name)
        temporary.replace(link)
    except OSError as error:
        if error.errno not in files.UNKNOWN:
            raise
        temporary.unlink(missing_ok=True)
        files.replace(temporary, directory.name + "\n")  # where there are no links, a small file says it
        temporary.replace(link)


def prune(root: Path, env_steps: int, keep_last: int) -> None:
    """Delete what is not wanted any more beside the checkpoint of this step, as `save` does."""
    steps = _steps(root)
    kept = sorted(step for step in steps if step <= env_steps)[-keep_last:]
    best = _target(root / "best")
    for step, directory in steps.items():
        if step not in kept and directory != best:
            _discard(directory)


def _discard(directory: Path) -> None:
    """Delete a checkpoint; renamed first, so that a half-deleted one never passes for a damaged one."""
    trash = _hidden(directory.parent, "trash")
    directory.rename(trash)
    files.remove(trash)  # what is left goes with the next save


def _clear_leftovers(root: Path) -> None:
    """Complete or remove what a killed process left behind."""
    for path in list(root.iterdir()):
        if path.suffix == ".new" and _STEP.fullmatch(path.name):
            _finish_replacing(path.with_suffix(""))
        elif (hidden := _HIDDEN.fullmatch(path.name)) and _is_stale(path, int(hidden[1])):
            files.remove(path)


def _is_stale(path: Path, pid: int) -> bool:
    """Whether nobody is writing here any more. This process writes one checkpoint at a time, so not it either."""
    return pid == os.getpid() or not is_running(pid) or time.time() - path.lstat().st_mtime > STALE_SECONDS


def _hidden(root: Path, purpose: str) -> Path:
    return root / f".{purpose}-{os.getpid()}-{letters()}"


# Finding and loading.


def find(root: Path, which: str | int = "last") -> Path:
    """The directory of a checkpoint: "last", "best", or the one of a step.

    Raises:
        CheckpointError: there is none; says which there are.
    """
    steps = _steps(root)
    if isinstance(which, int):
        found = steps.get(which)
    else:
        found = _target(root / which)
        if found is None and which == "last" and steps:
            found = steps[max(steps)]
    if found is None:
        there = f"there are steps {', '.join(map(str, sorted(steps)))}" if steps else "there are none yet"
        raise CheckpointError(f"{root}: no checkpoint {which!r}; {there}")
    return found


def load(path: Path, parts: Iterable[str] | None = None) -> StateDict:
    """Read a checkpoint, after checking it against its manifest. Tensors come back on the CPU.

    Args:
        path: the directory of one checkpoint.
        parts: which parts to read; None reads all. The arrays of other parts are checked for their size only.

    Raises:
        CheckpointError: it is missing, damaged, foreign or hostile; one line that says how.
    """
    try:
        return _load(path, parts)
    except Exception as error:  # there is no end to what a reader may trip over in a foreign file
        raise CheckpointError(f"{path}: {_reason(error)}") from error


def export(path: Path, into: Path, without: Collection[str] = ()) -> None:
    """Copy a checkpoint into a new directory, as it is or without some of its parts: then it can be played.

    Raises:
        CheckpointError: it is damaged.
        OSError: it cannot be written.
    """
    try:
        listed, manifest = _read_manifest(path), _read_json(path / MANIFEST)
    except Exception as error:
        raise CheckpointError(f"{path}: {_reason(error)}") from error
    manifest["files"] = {name: seal for name, seal in listed.items() if name.partition(".")[0] not in without}
    into.mkdir(parents=True)
    for name in manifest["files"]:
        with open(files.open_plain(path / name, os.O_RDONLY), "rb") as source, open(into / name, "xb") as copy:
            shutil.copyfileobj(source, copy)
    (into / MANIFEST).write_text(json.dumps(manifest))


@contextmanager
def must_fit(path: Path) -> Iterator[None]:
    """Around the loading of state into a run's parts: what does not fit them is a CheckpointError of one line."""
    try:
        yield
    except RlrunError:
        raise
    except RuntimeError as error:  # torch lists every parameter; the first says it
        lines = [line.strip() for line in str(error).splitlines()] or [""]
        raise CheckpointError(f"{path}: not a state of this run's config: {lines[min(1, len(lines) - 1)]}") from error
    except Exception as error:  # there is no end to what a part may trip over
        raise CheckpointError(f"{path}: not a state of this run's config: {_reason(error)}") from error


def must_resemble(state: Any, own: Any, path: str = "state") -> None:
    """Check a state against what the run itself would save, kind by kind, before anything of it is put in place.

    Sizes may differ, and what the run has not got yet (None, an empty list) says nothing.

    Raises:
        ValueError: an entry is of another kind; names the first.
    """
    if own is None or state is None:
        return
    if isinstance(own, Mapping):
        _must_be(isinstance(state, Mapping), path, state, own)
        for key in own.keys() & state.keys():
            must_resemble(state[key], own[key], f"{path}.{key}")
    elif isinstance(own, list | tuple):
        _must_be(isinstance(state, list | tuple), path, state, own)
        for i, (theirs, ours) in enumerate(zip(state, own, strict=False)):
            must_resemble(theirs, ours, f"{path}.{i}")
    elif hasattr(own, "dtype") and hasattr(own, "shape"):
        same = getattr(state, "dtype", None) == own.dtype and len(getattr(state, "shape", ())) == len(own.shape)
        _must_be(same, path, state, own)
    elif isinstance(own, int) and not isinstance(own, bool):
        count = isinstance(state, int) and not isinstance(state, bool)
        _must_be(count or (own == 0 and isinstance(state, float) and math.isfinite(state)), path, state, own)
    elif isinstance(own, float):
        _must_be(isinstance(state, int | float) and not isinstance(state, bool), path, state, own)
    else:
        _must_be(type(state) is type(own), path, state, own)


def _must_be(true: bool, path: str, state: Any, own: Any) -> None:
    if not true:
        raise ValueError(f"{path} is {_kind(state)}, not {_kind(own)}")


def _kind(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{len(value.shape)}-dimensional {value.dtype}"
    return f"{type(value).__name__}" + (f" {value!r:.20}" if isinstance(value, bool | int | float | str) else "")


def load_named(
    root: Path, which: str | int, parts: Iterable[str] | None, warn: Callable[[str], None]
) -> tuple[Path, StateDict]:
    """A checkpoint as `find` finds it, even while the run goes on and replaces it; the newest intact one for "last".

    Args:
        parts: which parts to read; None reads all.
        warn: is given one line for every damaged checkpoint that was passed over.

    Raises:
        CheckpointError: there is none, or it cannot be loaded.
    """
    path = find(root, which)
    if which == "last":
        return load_latest(root, warn, parts)
    for _ in range(ATTEMPTS):
        with suppress(CheckpointError):
            return path, load(path, parts)
        path = find(root, which)
    return path, load(path, parts)


def load_latest(root: Path, warn: Callable[[str], None], parts: Iterable[str] | None = None) -> tuple[Path, StateDict]:
    """The newest intact checkpoint: the one `last` points at, else the one before it, and so on.

    Args:
        root: the directory of the run's checkpoints.
        warn: is given one line for every damaged checkpoint that was passed over.
        parts: which parts to read; None reads all.

    Raises:
        CheckpointError: none can be loaded.
    """
    failures: dict[Path, int] = {}
    while path := next((path for path in _newest_first(root) if failures.get(path, 0) < ATTEMPTS), None):
        try:
            return path, load(path, parts)
        except CheckpointError as error:
            failures[path] = failures.get(path, 0) + 1
            if failures[path] == ATTEMPTS and path.exists():  # else the run that writes it has replaced it meanwhile
                warn(f"damaged checkpoint skipped: {error}")
    raise CheckpointError(f"{root}: there is no checkpoint that can be loaded")


def _newest_first(root: Path) -> list[Path]:
    """All checkpoints; those of later steps than `last` come at the end, they belong to a continuation given up."""
    steps, last = _steps(root), _target(root / "last")
    named = _STEP.fullmatch(last.name) if last else None
    now = int(named[1]) if named else math.inf
    paths = [steps[step] for step in sorted(steps, key=lambda step: (step <= now, step), reverse=True)]
    return list(dict.fromkeys([last, *paths] if last else paths))


def _steps(root: Path) -> dict[int, Path]:
    """The checkpoints in a directory by step; `.new` sorts after what it replaces."""
    paths = sorted(root.iterdir()) if root.is_dir() and not root.is_symlink() else []
    named = [(_STEP.fullmatch(path.name), path) for path in paths if path.is_dir() and not path.is_symlink()]
    return {int(match[1]): path for match, path in named if match}


def _target(link: Path) -> Path | None:
    """The checkpoint that a link points at; None if it is not one right beside the link."""
    try:
        mode = link.lstat().st_mode
        if stat.S_ISDIR(mode):
            return link
        name = os.readlink(link) if stat.S_ISLNK(mode) else files.read(link, limit=100).decode().strip()
    except (OSError, RlrunError, ValueError):
        return None
    step = _STEP.fullmatch(name)
    return _steps(link.parent).get(int(step[1])) if step else None


def _load(path: Path, parts: Iterable[str] | None) -> StateDict:
    target = _target(path)
    if target is None:
        raise ValueError("does not lead to a checkpoint beside it" if path.is_symlink() else "is no checkpoint")
    return _load_directory(target, None if parts is None else list(parts))


def _load_directory(path: Path, wanted: list[str] | None) -> StateDict:
    listed = _read_manifest(path)
    _verify(path / STATE, listed[STATE], contents=True)
    plain = _read_json(path / STATE)
    if not isinstance(plain, dict):
        raise ValueError(f"{STATE} holds no parts")
    parts = list(plain) if wanted is None else wanted
    moved = {part: place for part, place in older.PLACES.items() if part not in plain and place.part in plain}
    if unknown := [part for part in parts if part not in plain and part not in moved]:
        raise ValueError(f"has no part {unknown[0]!r}, only {', '.join(map(repr, plain))}")
    homes = {moved[part].part if part in moved else part for part in parts}
    for name, entry in listed.items():
        _verify(path / name, entry, contents=name.partition(".")[0] in homes)
    found = {home: _load_part(path, home, plain[home], listed) for home in homes}
    return {part: moved[part].take(found[moved[part].part]) if part in moved else found[part] for part in parts}


def _load_part(path: Path, part: str, plain: Any, listed: dict[str, Any]) -> Any:
    from safetensors.numpy import load_file  # imports NumPy

    name = f"{part}.safetensors"
    blocks = [file for file in listed if file.startswith(f"{part}.") and file != name]
    apart = {file.removesuffix(".safetensors"): _load_block(path / file, listed[file]) for file in blocks}
    return decode(plain, load_file(path / name) if name in listed else {}, apart)


def _load_block(path: Path, entry: Any) -> Block:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        plain = json.loads((file.metadata() or {})[STATE], parse_constant=_refuse)
        names = file.keys()
        contents = decode(plain, {name: file.get_tensor(name) for name in names})
    if not isinstance(contents, dict):
        raise ValueError(f"{path.name} is not a block")
    return Block(lambda: contents, entry)


def _read_manifest(path: Path) -> dict[str, Any]:
    """The files of a checkpoint by name, each name harmless."""
    match _read_json(path / MANIFEST):
        case {"format": int(version), "rlrun": str(rlrun)} if version > FORMAT:
            raise ValueError(f"written by a newer rlrun ({rlrun!r}, format {version}); this is {__version__}")
        case {"format": 1 | 2, "env_steps": int(env_steps), "files": {"state.json": _, **parts} as listed}:
            step = _STEP.fullmatch(path.resolve().name)
            if step and int(step[1]) != env_steps:
                raise ValueError(f"its manifest is that of step {env_steps}")
            for name in parts:
                if not _PART_FILE.fullmatch(str(name)):
                    raise ValueError(f"the manifest lists a file of the unexpected name {name!r}")
            return listed
    raise ValueError(f"{MANIFEST} is not the manifest of a checkpoint")


def _verify(path: Path, entry: Any, *, contents: bool) -> None:
    """Raise ValueError unless a file is what its entry in the manifest says."""
    match entry:
        case {"bytes": int(size), "sha256": str(sha256)}:
            found = path.lstat()
        case _:
            raise ValueError(f"the manifest does not say what {path.name} should be")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is not a regular file")
    if found.st_size != size:
        raise ValueError(f"{path.name} has {found.st_size} bytes where the manifest says {size}")
    if contents and _sha256(path) != sha256:
        raise ValueError(f"{path.name} differs from its hash in the manifest")


def _sha256(path: Path) -> str:
    with os.fdopen(files.open_plain(path, os.O_RDONLY), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> Any:
    return json.loads(files.read(path).decode(), parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{Path(error.filename).name} is missing"
    if isinstance(error, RecursionError):
        return "its data are nested too deeply"
    line = " ".join(str(error).split()) or type(error).__name__
    return "".join(filter(str.isprintable, line))[:300]  # it may quote a hostile file
