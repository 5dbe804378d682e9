"""`tb/`: the same rows for TensorBoard; its x axis is env steps."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rlrun.loggers.records import RecordFile
from rlrun.types import StateDict

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

HEADER, FOOTER = 12, 4  # bytes around a record's payload: its length and a checksum, another checksum


class TensorBoardLogger:
    """One event per row, in one event file that goes on after a resume.

    It is written here and not by TensorBoard's own writer, which begins another file at every start and cannot take
    back events. TensorBoard is imported at the first row.
    """

    def __init__(self, directory: Path):
        self._file = RecordFile(directory / "events.out.tfevents.rlrun", records)

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if not self._file.count:
            self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
        event = Event(wall_time=time.time(), step=env_steps)
        for name, value in metrics.items():
            event.summary.value.add(tag=name, simple_value=value)
        self._append(event)

    def _append(self, event: Event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.append(record.getvalue())

    def close(self) -> None:
        self._file.close()

    def state_dict(self) -> StateDict:
        return {"events": self._file.count}

    def load_state_dict(self, state: StateDict) -> None:
        """Cut the file back to the events it had when the state was taken."""
        self._file.cut(state["events"])


def records(content: bytes) -> Iterator[bytes]:
    """Split a TFRecord file: a payload's length in 8 bytes, little-endian, 4 bytes of checksum, payload, checksum."""
    start = 0
    while start + HEADER <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + HEADER + length + FOOTER
        if end > len(content):
            return
        yield content[start:end]
        start = end
