"""`tb/`: the same rows for TensorBoard, whose x axis is env steps, behind the config as text and as hyperparameters."""

from __future__ import annotations

import io
import struct
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rlrun.loggers.records import RecordFile
from rlrun.types import StateDict

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

WATCHING = ("logger", "eval", "checkpoint", "callbacks", "imports")  # groups of the config that no result depends on
HEADER, FOOTER = 12, 4  # bytes around a record's payload: its length and a checksum, another checksum


class TensorBoardLogger:
    """One event per row, in one event file that goes on after a resume.

    It is written here and not by TensorBoard's own writer, which begins another file at every start and cannot take
    back events. TensorBoard is imported at the first row.

    Args:
        config: the run's config.yaml, shown under TEXT and, apart from what only says how a run is watched, under
            HPARAMS.
    """

    def __init__(self, directory: Path, config: str = ""):
        self._file = RecordFile(directory / "events.out.tfevents.rlrun", records, env_steps, root=directory.parent)
        self._config = config

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if not self._file.count:
            self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
            if self._config:
                self._describe()
        event = Event(wall_time=time.time(), step=env_steps)
        for name, value in metrics.items():
            event.summary.value.add(tag=name, simple_value=value)
        self._append(event)

    def _describe(self) -> None:
        """The config as TensorBoard's text and HParams plug-ins read it."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.plugins.text.summary_v2 import text_pb

        text = text_pb("config", textwrap.indent(self._config, "    "))  # Markdown's way to say: as it is
        for summary in (text, hparams_pb(hyperparameters(self._config))):
            self._append(Event(wall_time=time.time(), summary=summary))

    def _append(self, event: Event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.append(record.getvalue())

    def close(self) -> None:
        self._file.close()

    def state_dict(self) -> StateDict:
        return {"events": self._file.count, "env_steps": self._file.last}

    def load_state_dict(self, state: StateDict) -> None:
        """Cut the file back to the events it had when the state was taken."""
        self._file.go_on(state["events"], state.get("env_steps"))
        self._file.cut()


def hyperparameters(config: str) -> dict[str, Any]:
    """The values of a config.yaml by dotted key, without those that say how a run is watched; lists become text."""
    nodes = {key: value for key, value in yaml.safe_load(config).items() if key not in WATCHING}

    def leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for name, value in node.items():
                yield from leaves(value, f"{key}.{name}" if key else str(name))
        else:
            yield key, "null" if node is None else node if isinstance(node, bool | int | float) else str(node)

    return dict(leaves(nodes, ""))


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


def env_steps(record: bytes) -> int:
    """The step of an event, which stands behind its time in protobuf: tag 0x10, then seven bits a byte; 0 is left out.

    An event that is not ours in form counts as one of the beginning: TensorBoard passes it over, too.
    """
    payload = record[HEADER:-FOOTER]
    if payload[:1] != b"\x09" or payload[9:10] != b"\x10":
        return 0
    step, shift = 0, 0
    for byte in payload[10:20]:
        step |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return step
