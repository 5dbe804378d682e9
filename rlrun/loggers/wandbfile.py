"""What a run that W&B tracked offline has on the disk: what a killed process had told it last is not there yet.

Its files are logs in the format of LevelDB: blocks of 32 KiB, in which a record stands in one piece or several, each
behind a header of 7 bytes (checksum, length, kind). A file begins with 7 bytes of its own. Records are protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7
WHOLE, LAST = 1, 4  # kinds of pieces that end a record


def records(run_dir: Path, run_id: str) -> Iterator[Any]:
    """All records of a run, those of its earlier attempts first."""
    from wandb.proto import wandb_internal_pb2

    for file in sorted(run_dir.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")):
        for content in _split(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            yield record


def last_step(run_dir: Path, run_id: str) -> int:
    """The last step of which there are metrics; -1 if there are none."""
    return max(
        (record.history.step.num for record in records(run_dir, run_id) if record.HasField("history")), default=-1
    )


def _split(data: bytes) -> Iterator[bytes]:
    """The whole records of a file."""
    at, record = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if left < HEADER or not kind:  # the rest of a block is empty
            at += left
            continue
        if at + HEADER + length > len(data):
            return
        record += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""
