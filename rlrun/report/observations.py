"""What an agent sees of an episode, as a picture: frames side by side, numbers as curves or as a map over time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.types import MASK, Array, Space

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

CURVES = 12  # numbers of which each gets a curve; more become a map
PICTURES = 16  # pictures side by side; of a deeper stack the newest
RGB = (3, 4)  # channels that are a picture's colours


@dataclass(frozen=True)
class Seen:
    """Some steps of play as the agent saw them."""

    obs: Array  # [T+1, *obs]
    begins: tuple[int, ...]  # the steps at which an episode begins
    moments: tuple[int, ...]  # the steps that pictures are of
    drawn: Mapping[
        int, Array
    ]  # moment -> what a person sees of it [H, W, 3] uint8; {} if the environment draws nothing


def draw(title: str, seen: Seen, space: Space) -> bytes:
    """A PNG of what was seen: the environment's own pictures above, every part of the observations below.

    Raises:
        ImportError: matplotlib is missing.
    """
    from matplotlib.figure import Figure

    shown = list(parts(seen.obs, space))
    heights = [2.6] * bool(seen.drawn) + [height(obs[0], part) for _, obs, part in shown]
    figure = Figure(figsize=(10, sum(heights) + 0.6), layout="constrained")
    figure.suptitle(title)
    panels: list[Any] = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if seen.drawn:
        panel = panels.pop(0)
        panel.suptitle("what a person sees", fontsize="medium")
        tile(panel, [[(f"step {t}", picture, {}) for t, picture in seen.drawn.items()]])
    for panel, (name, obs, part) in zip(panels, shown, strict=True):
        panel.suptitle(name, fontsize="medium")
        if is_picture(part):
            tile(panel, [list(frames(t, obs[t], part)) for t in seen.moments])
        else:
            numbers(panel, obs.reshape(len(obs), -1), seen.begins)
    png = io.BytesIO()
    figure.savefig(png, dpi=100, format="png")
    return png.getvalue()


def parts(obs: Array, space: Space) -> Iterator[tuple[str, Array, Space]]:
    """Observations [T, *obs] by part: its name, [T, *part] and its space."""
    if not space.fields:
        yield "what an agent sees", obs, space
    for name, part in space.fields.items():
        yield "which actions can be taken" if name == MASK else name, obs[name], part


def is_picture(space: Space) -> bool:
    """Whether values are pictures rather than rows of numbers: they have two dimensions, or three, behind a stack."""
    return space.kind == "box" and len(space.shape) - bool(space.stack) in (2, 3)


def height(obs: Array, space: Space) -> float:
    """Inches that a part needs."""
    if not is_picture(space):
        return 0.5 + (0.75 * -(-obs.size // 2) if 1 < obs.size <= CURVES else 1.6)
    one = list(frames(0, obs, space))
    rows, columns = one[0][1].shape[:2]
    return 0.5 + 4 * min(2.4, 10 / len(one) * rows / columns)


def frames(t: int, obs: Array, space: Space) -> Iterator[tuple[str, Array, dict[str, Any]]]:
    """The pictures of one observation, oldest first: a label, the picture and how its numbers become grey."""
    low, high = float(np.min(space.low)), float(np.max(space.high))  # type: ignore[arg-type]
    if not np.isfinite([low, high]).all():
        low, high = float(obs.min()), float(obs.max())
    grey = {"cmap": "gray", "vmin": low, "vmax": high}
    stack = [*obs][-PICTURES:] if space.stack else [obs]
    for age, frame in zip(range(len(stack) - 1, -1, -1), stack, strict=True):
        label = f"step {t}" if not age else f"{age} before"
        if frame.ndim == 2:
            yield label, frame, grey
        elif frame.shape[-1] in (1, *RGB) or frame.shape[0] in (1, 3):
            last = frame if frame.shape[-1] in (1, *RGB) else np.moveaxis(frame, 0, -1)
            if last.shape[-1] == 1:
                yield label, last[..., 0], grey
            else:
                yield label, np.clip((last - low) / max(high - low, 1e-9), 0, 1).astype(np.float32), {}
        else:  # channels that are no colours, such as frames that the environment stacks by itself
            planes = frame if frame.shape[0] <= frame.shape[-1] else np.moveaxis(frame, -1, 0)
            for channel, plane in enumerate(planes[:PICTURES]):
                yield f"{label}, channel {channel}", plane, grey


def tile(panel: SubFigure, rows: list[list[tuple[str, Array, dict[str, Any]]]]) -> None:
    """Pictures in rows and columns, each with its label."""
    axes: Any = panel.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for row, pictures in zip(axes, rows, strict=True):
        for axis, (label, picture, how) in zip(row, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest", **how)
            axis.set_title(label, fontsize="small")
            axis.set(xticks=[], yticks=[])
        for axis in row[len(pictures) :]:
            axis.set_axis_off()


def numbers(panel: SubFigure, values: Array, begins: tuple[int, ...]) -> None:
    """Numbers [T, n] over the steps, a curve each or a map of many; a dotted line where an episode begins."""
    count = values.shape[1]
    if count > CURVES:
        axis: Any = panel.subplots()
        shown = values.T.astype(float)
        panel.colorbar(axis.imshow(shown, aspect="auto", interpolation="nearest"), ax=axis)
        axis.set(xlabel="step", ylabel="number")
        axes = [axis]
    else:
        columns = 2 if count > 1 else 1
        grid: Any = panel.subplots(-(-count // columns), columns, sharex=True, squeeze=False)
        axes = [*grid.flat]
        for axis in axes[count:]:
            axis.set_axis_off()
        for number, axis in enumerate(axes[:count]):
            axis.plot(values[:, number], drawstyle="default" if values.dtype.kind == "f" else "steps-post")
            axis.set_ylabel(f"[{number}]" if count > 1 else "value", rotation=0, ha="right", va="center")
        for axis in grid[-1]:
            axis.set_xlabel("step")
    for axis in axes[:count]:
        for t in begins:
            axis.axvline(t, color="0.5", linewidth=0.8, linestyle=":")
