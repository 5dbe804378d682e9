"""What an agent sees, drawn: which pictures of which observation, and a PNG of every kind of them."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Rlrun

from rlrun.report import observations
from rlrun.report.observations import Seen, frames, is_picture
from rlrun.types import Array, Space


def box(*shape: int, stack: int = 0, dtype: Any = np.uint8, high: float = 255) -> Space:
    return Space("box", shape, np.dtype(dtype), low=np.zeros(shape), high=np.full(shape, high), stack=stack)


def counted(*shape: int, dtype: Any = np.uint8) -> Array:
    return (np.arange(np.prod(shape)).reshape(shape) % 256).astype(dtype)


def test_a_stack_lies_side_by_side_oldest_first() -> None:
    obs = counted(3, 8, 9)
    found = list(frames(5, obs, box(3, 8, 9, stack=3)))
    assert [label for label, _, _ in found] == ["2 before", "1 before", "step 5"]
    assert all(np.array_equal(picture, frame) for (_, picture, _), frame in zip(found, obs, strict=True))
    assert found[0][2] == {"cmap": "gray", "vmin": 0.0, "vmax": 255.0}


@pytest.mark.parametrize(
    ("shape", "stack", "pictures"),
    [
        ((8, 9), 0, [(8, 9)]),
        ((8, 9, 1), 0, [(8, 9)]),
        ((8, 9, 3), 0, [(8, 9, 3)]),
        ((3, 8, 9), 0, [(8, 9, 3)]),
        ((4, 8, 9), 0, [(8, 9)] * 4),  # frames that the environment stacks by itself
        ((8, 9, 5), 0, [(8, 9)] * 5),
        ((2, 8, 9, 3), 2, [(8, 9, 3)] * 2),
        ((20, 8, 9), 20, [(8, 9)] * observations.PICTURES),
    ],
)
def test_pictures_by_shape(shape: tuple[int, ...], stack: int, pictures: list[tuple[int, ...]]) -> None:
    space = box(*shape, stack=stack)
    assert is_picture(space)
    assert [picture.shape for _, picture, _ in frames(0, counted(*shape), space)] == pictures


def test_colours_are_between_0_and_1_whatever_the_bounds() -> None:
    space = box(3, 8, 9, dtype=np.float32)._replace(low=np.full((3, 8, 9), -1.0), high=np.ones((3, 8, 9)))
    ((_, picture, _),) = frames(0, np.full((3, 8, 9), 0.5, np.float32), space)
    assert picture.dtype == np.float32 and np.allclose(picture, 0.75)
    unbounded = space._replace(low=np.full((3, 8, 9), -np.inf))
    ((_, picture, _),) = frames(0, counted(3, 8, 9, dtype=np.float32), unbounded)
    assert picture.min() == 0 and picture.max() == 1


@pytest.mark.parametrize("shape", [(4,), (2, 4), ()])
def test_rows_of_numbers_are_no_picture(shape: tuple[int, ...]) -> None:
    assert not is_picture(box(*shape, stack=len(shape) == 2 and 2, dtype=np.float32))


RECORD = np.dtype([("eye", np.uint8, (4, 8, 9)), ("far", np.float32, (20,)), ("action_mask", bool, (2,))])


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (Space("discrete", (), np.dtype(np.int64), n=5), np.arange(4)),
        (box(3, dtype=np.float32), np.full((4, 3), np.inf, np.float32)),
        (box(40, dtype=np.float32), counted(4, 40, dtype=np.float32)),
        (
            Space(
                "dict",
                (),
                RECORD,
                fields={
                    "eye": box(4, 8, 9, stack=4),
                    "far": box(20, dtype=np.float32),
                    "action_mask": Space("multi_binary", (2,), np.dtype(bool)),
                },
            ),
            np.zeros(4, RECORD),
        ),
    ],
    ids=["discrete", "infinite", "many", "dict"],
)
@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # these are of whatever is collected meanwhile
def test_every_kind_can_be_drawn(space: Space, obs: Array) -> None:
    image = pytest.importorskip("matplotlib.image")
    drawn = {} if space.kind == "box" else {0: np.zeros((6, 7, 3), np.uint8)}
    height, width, _ = image.imread(io.BytesIO(observations.draw("T", Seen(obs, (0, 2), (0, 3), drawn), space))).shape
    assert height > 150 and width == 1000


def test_the_command_draws_an_environment(rlrun: Rlrun) -> None:
    pytest.importorskip("matplotlib")
    said = rlrun("inspect", "env=cartpole", "env.frame_stack=2", "steps=30").stdout
    assert "float32 [2 x 4]" in said and "2 frames, the newest last" in said and "30 steps" in said
    assert said.splitlines()[-1] == "outputs/cartpole/seen.png" and max(map(len, said.splitlines())) <= 80
    assert Path("outputs/cartpole/seen.png").read_bytes()[1:4] == b"PNG"
    for file, found in {"here/it": "here/it.png", "here": "here/seen.png"}.items():
        said = rlrun("inspect", "env=recall", f"file={file}", "steps=3", "seed=4").stdout
        assert said.splitlines()[-1] == found and Path(found).is_file()


def test_the_command_sees_what_training_normalises(rlrun: Rlrun) -> None:
    """Frozen statistics of nothing would show the environment's own numbers."""
    said = [rlrun("inspect", "env=cartpole", f"env.normalize.obs={on}").stdout for on in ("true", "false")]
    spread = [float(text.split("seen")[1].split()[2].strip(",")) for text in said]
    assert said[0] != said[1] and all(0.5 < top < 10 for top in spread)


def test_what_cannot_be_inspected(rlrun: Rlrun, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    said = rlrun("inspect", code=2).stderr
    assert said == "rlrun: inspect: needs the directory of a run, or an environment\nrlrun inspect outputs/… or env=…\n"
    assert "needs the directory" in rlrun("inspect", "steps=3", code=2).stderr
    assert "ckpt: is of inspect RUN" in rlrun("inspect", "env=cartpole", "ckpt=3", code=2).stderr
    assert "file: is of inspect env=…" in rlrun("inspect", "run", "file=x", code=2).stderr
    assert "steps: must be in [1, 1000]" in rlrun("inspect", "env=cartpole", "steps=0", code=2).stderr
    assert "env.id" in rlrun("inspect", "env.id=Nothing-v0", code=2).stderr
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "float32 [4]" in rlrun("inspect", "env=cartpole", "steps=2", code=1).stdout
    assert caplog.messages[-1].startswith("no picture: matplotlib is not installed")
