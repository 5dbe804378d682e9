"""Figures of a run's metrics over env steps: the rows come from `metrics.jsonl`, the picture goes to `figures/`."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlrun import files
from rlrun.rundir.layout import RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

Row = Mapping[str, Any]  # a row of metrics.jsonl, with `env_steps`; None where a value is not a finite number


def save(run_dir: RunDir, name: str, draw: Callable[[Sequence[Row]], Figure]) -> None:
    """Put what `draw` makes of a run's rows into `figures/NAME.png`; say why where there can be none."""
    try:
        lines = files.read(run_dir.metrics_jsonl, root=run_dir.path).decode().splitlines()
        picture = painted(draw([json.loads(line) for line in lines]))
    except ImportError:
        log.info("no figure: matplotlib is not installed; get it with `pip install 'rlrun[plot]'`")
    except FileNotFoundError:
        log.info("no figure: it is drawn from metrics.jsonl, which logger.jsonl=true writes")
    else:
        path = run_dir.path / "figures" / f"{name}.png"
        files.make_directory(path.parent, root=run_dir.path)
        files.replace(path, picture, root=run_dir.path)


def painted(figure: Figure) -> bytes:
    """A figure as PNG."""
    picture = io.BytesIO()
    figure.savefig(picture)
    return picture.getvalue()
