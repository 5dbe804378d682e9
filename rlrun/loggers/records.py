"""A file of whole records, one after the other: appended to while a run goes on, cut back when it resumes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rlrun import files

log = logging.getLogger(__name__)

Split = Callable[[bytes], Iterator[bytes]]  # a file's content -> its whole records
Step = Callable[[bytes], int | None]  # a record -> its env steps, 0 if it is a heading; None if it is damaged


class RecordFile:
    """Appends records unbuffered: a killed process loses at most the one it is writing.

    The file is not touched before the first record. What an earlier process left there beyond `count` records is cut.

    Args:
        path: the file.
        split: tells records apart and leaves out a last one that is half written.
        step: when a record was written.
        root: the run directory, in which the file's own directory is made if needed; None if that is the run directory.
    """

    def __init__(self, path: Path, split: Split, step: Step, root: Path | None = None):
        self.count = 0  # records that belong to this run
        self.last: int | None = None  # env steps of the last of them
        self._path, self._split, self._step, self._root = path, split, step, root
        self._file: BinaryIO | None = None

    def append(self, record: bytes) -> None:
        """DiskError if the disk does not take it."""
        if self._file is None:
            self.cut()
        with files.writing(self._path):
            rest = memoryview(record)
            while rest:
                rest = rest[self._file.write(rest) :]  # type: ignore[union-attr]
        self.count += 1
        self.last = self._step(record)

    def cut(self) -> None:
        """Keep the first `count` records; in place, so that a viewer that has the file open can go on."""
        found = self._records()
        kept = self._kept(found)
        if kept == found[: len(kept)]:
            self._open(kept).truncate(sum(map(len, kept)))
        else:
            self.rewrite(kept)

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Replace the content in one go, so that nobody ever sees it half written."""
        self._make_directory()
        files.replace(self._path, b"".join(records), self._root)
        self._open(records)

    def first(self) -> list[bytes]:
        """The first `count` records, or as many as there still are, with a warning."""
        return self._kept(self._records())

    def go_on(self, count: int, last: int | None) -> None:
        """From a saved state; what the file holds beyond it goes with `cut` or `rewrite`."""
        self.count, self.last = count, last

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _records(self) -> list[bytes]:
        try:
            return list(self._split(files.read(self._path, root=self._root)))
        except FileNotFoundError:
            return []

    def _kept(self, records: Sequence[bytes]) -> list[bytes]:
        """Those of the first `count` that are whole, and not of a time when this run had lost records already."""
        steps = [self._step(record) for record in records[: self.count]]
        end = self.last
        kept = [r for r, step in zip(records, steps, strict=False) if step is not None and (end is None or step <= end)]
        if lost := self.count - len(kept):
            log.warning("%s: %d of its first %d records are lost", self._path, lost, self.count)
        return kept

    def _open(self, records: Sequence[bytes]) -> BinaryIO:
        """Append from now on, behind these records."""
        self.close()
        self._make_directory()
        self._file = os.fdopen(files.open_to_append(self._path, self._root), "ab", buffering=0)
        self.count = len(records)
        return self._file

    def _make_directory(self) -> None:
        if self._root is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        else:
            self._root.mkdir(parents=True, exist_ok=True)
            files.make_directory(self._path.parent, self._root)


def lines(content: bytes) -> Iterator[bytes]:
    """Split at newlines; a last line without one is not whole."""
    return (line for line in content.splitlines(keepends=True) if line.endswith(b"\n"))
