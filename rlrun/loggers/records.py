"""A file of whole records, one after the other: appended to while a run goes on, cut back when it resumes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

Split = Callable[[bytes], Iterator[bytes]]  # a file's content -> its whole records


class RecordFile:
    """Appends records unbuffered: a killed process loses at most the one it is writing.

    The file is not touched before the first record. What an earlier process left there beyond `count` records is cut.

    Args:
        path: the file; its directory is made if needed.
        split: tells records apart and leaves out a last one that is half written.
    """

    def __init__(self, path: Path, split: Split):
        self.count = 0  # records that belong to this run
        self._path, self._split = path, split
        self._file: BinaryIO | None = None

    def append(self, record: bytes) -> None:
        if self._file is None:
            self.cut(self.count)
        self._file.write(record)  # type: ignore[union-attr]
        self.count += 1

    def cut(self, count: int) -> None:
        """Keep the first `count` records; in place, so that a viewer that has the file open can go on."""
        kept = self.first(count)
        self._open(kept).truncate(sum(map(len, kept)))

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Replace the content in one go, so that nobody ever sees it half written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        with temporary.open("wb") as file:
            file.writelines(records)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._open(records)

    def first(self, count: int) -> list[bytes]:
        """The first `count` records, or as many as there are, with a warning."""
        records = list(self._split(self._path.read_bytes()))[:count] if self._path.exists() else []
        if len(records) < count:
            log.warning("%s: %d of its first %d records are lost", self._path, count - len(records), count)
        return records

    def _open(self, records: Sequence[bytes]) -> BinaryIO:
        """Append from now on, behind these records."""
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab", buffering=0)
        self.count = len(records)
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def lines(content: bytes) -> Iterator[bytes]:
    """Split at newlines; a last line without one is not whole."""
    return (line for line in content.splitlines(keepends=True) if line.endswith(b"\n"))
