"""Files in a run directory: the one way to open, replace and make them.

A run directory may come from anybody. Below it a link, a pipe, a socket or a device is refused, not followed or waited
for; what stands above it is the user's own. A file is replaced whole (temporary file, fsync, rename, fsync of its
directory), so no reader and no power cut ever meets half of one. What a file system cannot do, such as hard links or
the fsync of a directory, is done without.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import stat
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rlrun.errors import RlrunError

# What a file system answers to a thing that it does not know.
UNKNOWN = {errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EMLINK}
HINTS = {
    errno.ENOSPC: "the disk is full: make room, then go on with `rlrun resume`",
    errno.EDQUOT: "your share of the disk is used up: make room, then go on with `rlrun resume`",
    errno.EROFS: "the disk is read-only here",
    errno.EACCES: "you may not write there",
}
FULL = {errno.ENOSPC, errno.EDQUOT}
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a plain file",
}


def of_user(word: str) -> Path:
    """A path as a user writes it, `~` for home; unchanged where there is no such home."""
    return Path(os.path.expanduser(word))


class DiskError(RlrunError, OSError):
    """A file that cannot be written: says which, why, and what to do."""

    exit_code = 1

    def __init__(self, path: Path, error: OSError):
        OSError.__init__(self, error.errno, error.strerror)
        hint = HINTS.get(error.errno or 0, "")
        self.message = f"{path}: cannot be written: {error.strerror or error}" + (f"\n{hint}" if hint else "")

    def __str__(self) -> str:
        return self.message


class NotPlain(RlrunError):
    """Something in a run directory that is not the plain file or the directory that belongs there."""

    def __init__(self, path: Path, mode: int):
        kind = KINDS.get(stat.S_IFMT(mode), "a device")
        super().__init__(f"{path}: is {kind}, which does not belong in a run directory\nlook at it, and take it away")


def open_plain(path: Path, flags: int, root: Path | None = None) -> int:
    """A descriptor of a plain file, as from `os.open`.

    Args:
        flags: as for `os.open`.
        root: the run directory; no component below it may be a link. By default the file's own directory.

    Raises:
        NotPlain: the file, or a directory on the way, is something else.
        OSError: as from `os.open`.
    """
    with _directory(path.parent, root) as folder:
        _refuse_special(path, folder)
        descriptor = os.open(path.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=folder)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):  # it has become something else since
        os.close(descriptor)
        raise NotPlain(path, mode)
    return descriptor


def open_to_append(path: Path, root: Path | None = None) -> int:
    """A descriptor that writes behind what a plain file holds; the file is made if it is not there.

    A file that has a second name (a hard link) gets content of its own first: what is written must not appear there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with writing(path):
        descriptor = open_plain(path, flags, root)
        if os.fstat(descriptor).st_nlink > 1:
            os.close(descriptor)
            replace(path, read(path, root=root), root)
            descriptor = open_plain(path, flags, root)
        return descriptor


def read(path: Path, limit: int | None = None, root: Path | None = None) -> bytes:
    """The content of a plain file; RlrunError if it is longer than `limit` bytes."""
    with open(open_plain(path, os.O_RDONLY, root), "rb") as file:
        content = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:
        raise RlrunError(f"{path}: has more than {limit:,} bytes, which no such file of a run has")
    return content


def replace(path: Path, content: str | bytes, root: Path | None = None) -> None:
    """Put a whole file at `path`, in place of another if there is one.

    Raises:
        DiskError: it cannot be written; what was there is as it was.
    """
    with writing(path), _directory(path.parent, root) as folder:
        _refuse_special(path, folder)
        temporary = _write(path.name, content, folder)
        try:
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise
        sync(folder)


def overwrite(path: Path, content: str, root: Path | None = None) -> None:
    """Write a small file where it lies, on a disk that has no room for a second one; not whole at every moment.

    Raises:
        DiskError: it cannot be written, or has a second name where the content must not appear.
    """
    with writing(path):
        descriptor = open_plain(path, os.O_WRONLY, root)
        try:
            if os.fstat(descriptor).st_nlink > 1:
                raise OSError(errno.EMLINK, "it has a second name")
            os.ftruncate(descriptor, os.pwrite(descriptor, content.encode(), 0))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def move_new(source: Path, path: Path) -> None:
    """Move a file to where there is none; FileExistsError if there is one. Of several processes one succeeds."""
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        os.replace(source, path)
    else:
        os.unlink(source)


def require(path: Path, is_kind: Callable[[int], bool]) -> None:
    """NotPlain if there is something at `path` that is not of a kind, such as `stat.S_ISREG`; a link never is."""
    with contextlib.suppress(FileNotFoundError):
        if not is_kind(mode := path.lstat().st_mode):
            raise NotPlain(path, mode)


def make_directory(path: Path, root: Path | None = None) -> None:
    """Make a directory if it is not there yet; DiskError if it cannot be made."""
    with writing(path), _directory(path.parent, root) as folder:
        try:
            os.mkdir(path.name, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(mode := os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise NotPlain(path, mode) from None


def remove(path: Path) -> None:
    """Take away whatever is there, as far as that goes; of a directory all that is in it."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:  # not for rmtree, which would open a pipe and wait
            path.unlink()


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut, where the file system can."""
    with _directory(path) as folder:
        sync(folder)


def age(path: Path) -> float:
    """Seconds since a file or directory was changed, by the clock of its file system, not of this machine."""
    changed = path.lstat().st_mtime
    probe = path.parent / f".clock.{os.getpid()}-{letters()}"
    try:
        probe.touch(exist_ok=False)
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:  # it cannot be asked
        now = time.time()
    return now - changed


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes a file: a failure of the disk is a DiskError."""
    try:
        yield
    except (DiskError, FileExistsError):
        raise
    except OSError as error:
        raise DiskError(path, error) from error


def letters() -> str:
    """Four random lowercase letters, from the operating system: runs started in the same instant get different ones."""
    return "".join(random.SystemRandom().choices(string.ascii_lowercase, k=4))


@contextlib.contextmanager
def _directory(path: Path, root: Path | None = None) -> Iterator[int]:
    """A descriptor of a directory, in which names are looked up as it was found."""
    here = path if root is None else root
    inside = path.relative_to(here).parts
    descriptor = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in inside:
            here = here / part
            mode = os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode):
                raise NotPlain(here, mode)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_special(path: Path, folder: int) -> None:
    """Looked at before it is opened: to open a device may do something already."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(mode := os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise NotPlain(path, mode)


def _write(name: str, content: str | bytes, folder: int) -> str:
    """A complete, synced file of a hidden name; nothing is left behind if that fails."""
    temporary = f".{name}.{os.getpid()}-{letters()}"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            sync(file.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    return temporary


def sync(descriptor: int) -> None:
    """`os.fsync`, where the file system knows it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
