"""What others get of a run: its best checkpoint in a run directory that can be played, and nothing that is large."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rlrun import files
from rlrun.errors import CheckpointError
from rlrun.rundir import checkpoints
from rlrun.rundir.layout import RunDir

BESIDE = ("config.yaml", "overrides.yaml", "command.txt", "meta.json", "status.json", "summary.json")


@contextlib.contextmanager
def playable(run_dir: RunDir) -> Iterator[Path | None]:
    """A copy of a run that `rlrun eval` and `play` take, for as long as this is open; None if nothing was saved.

    It holds the best checkpoint, or the last where there is no best, without the replay.
    """
    with tempfile.TemporaryDirectory(prefix="rlrun-") as folder:
        yield _copied(run_dir, Path(folder) / "run")


def _copied(run_dir: RunDir, copy: Path) -> Path | None:
    for which in ("best", "last"):
        try:
            found = checkpoints.find(run_dir.checkpoints, which)
            checkpoints.export(found, copy / "checkpoints" / found.name, without=["buffer"])
        except CheckpointError:
            continue
        for name in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                (copy / name).write_bytes(files.read(run_dir.path / name))
        return copy
    return None
