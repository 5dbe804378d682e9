"""A replay whose observations lie in a file of the run directory."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_frames import Films, pictures
from test_frames import must_hold as must_show
from test_ring import must_hold
from transitions import RECORD, Stream, spec

from rlrun import cli
from rlrun.buffers import cells
from rlrun.buffers import ring as rings
from rlrun.buffers.ring import Ring
from rlrun.rundir.codec import decode, encode

GAMMA = 0.9
KINDS: dict[str, Any] = {
    "vectors": (spec(2), Stream, must_hold),
    "records": (spec(2, RECORD), Stream, must_hold),
    "pictures": (pictures(2), Films, must_show),
}


def opened(path: Path, env: Any, ahead: int = 12) -> Ring:
    ring = Ring(22, env, gamma=GAMMA, in_file=True)
    ring.lie_in(path, ahead)
    return ring


def copied(ring: Ring) -> Any:
    return copy.deepcopy(decode(*encode(ring.state_dict())))


@pytest.mark.parametrize("block", [200, 10**6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_that_of_its_time_although_the_file_went_on(
    kind: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By no more than was promised; then it is refused, and the newest can be put back all the same."""
    monkeypatch.setattr(rings, "BLOCK_BYTES", block)
    env, kind_of_stream, must_hold = KINDS[kind]
    path = tmp_path / "replay.bin"
    ring, stream = opened(path, env), kind_of_stream(env, 1, anew=0.2)
    for steps in (3, 5, 9, 4, 13, 2, 6):
        state, then = copied(ring) if ring.added else None, copy.copy(stream)
        then.transitions = list(stream.transitions)
        ring.add(stream.rollout(steps))
        must_hold(ring, stream)
        other = opened(Path(shutil.copy(path, tmp_path / "older.bin")), env)
        if state is None:
            continue
        oldest, overwritten = max(0, state["stored"] // 2 - 11), ring.added // 2 - ring.cells.rows
        assert overwritten < oldest or steps > 6
        if overwritten >= oldest:
            with pytest.raises(ValueError, match=r"replay\.bin has gone on too far"):
                other.load_state_dict(state)
        else:
            other.load_state_dict(state)
            must_hold(other, then)
        again = opened(path, env)
        again.load_state_dict(copied(ring))
        must_hold(again, stream)
        ring = again


def test_what_is_saved_of_observations_is_a_checksum(tmp_path: Path) -> None:
    env = spec(1)
    ring = opened(tmp_path / "replay.bin", env)
    ring.add(Stream(env, 0, ends=0).rollout(20))
    (block,) = ring.state_dict()["blocks"]
    assert "obs" not in block.contents() and isinstance(block.contents()["checksum"], int)
    assert (tmp_path / "replay.bin").stat().st_size >= 20 * 12
    state = copied(ring)
    with pytest.raises(ValueError, match=r"replay\.bin has gone on"):
        opened(tmp_path / "another.bin", env).load_state_dict(state)
    with pytest.raises(ValueError, match=r"replay\.bin has gone on"):
        Ring(22, env, gamma=GAMMA).load_state_dict(state)


def test_the_size_of_the_file_is_the_one_that_the_run_began_with(tmp_path: Path) -> None:
    env = spec(1)
    ring, stream = opened(tmp_path / "replay.bin", env, ahead=12), Stream(env, 0)
    ring.add(stream.rollout(30))
    other = opened(tmp_path / "replay.bin", env, ahead=500)
    other.load_state_dict(copied(ring))
    must_hold(other, stream)
    assert other.cells.rows == ring.cells.rows == 22 + 12 + 1


def test_a_file_without_a_name_serves_where_there_is_no_run() -> None:
    env = pictures(1)
    ring, stream = Ring(9, env, gamma=GAMMA, in_file=True), Films(env, 0, "any", ends=0.9)
    for _ in range(20):
        ring.add(stream.rollout(4))
        must_show(ring, stream)
    other = Ring(9, env, gamma=GAMMA, in_file=True)
    other.load_state_dict(copied(ring))
    must_show(other, stream)


def test_a_run_in_a_file_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte, whole and resumed."""
    monkeypatch.chdir(tmp_path)
    words = ["algo=dqn", "env=cartpole", "buffer=prioritized", "+smoke=on", "buffer.capacity=200", "buffer.n_step=3"]
    words += ["buffer.beta.fraction=null", "buffer.beta.steps=500", "algo.epsilon.fraction=null"]
    words += ["algo.epsilon.steps=200", "logger.console=off"]
    assert cli.main([*words, "hydra.run.dir=ram"]) == 0
    assert cli.main([*words, "buffer.storage=memmap", "total_timesteps=300", "hydra.run.dir=file"]) == 0
    assert cli.main(["resume", "file", "total_timesteps=500"]) == 0
    ram, file = (Path(run, "checkpoints/last/algo.safetensors").read_bytes() for run in ("ram", "file"))
    assert ram == file
    assert Path("file/replay.bin").stat().st_size > 0 and not Path("ram/replay.bin").exists()


def test_a_disk_that_is_too_small_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(cells.shutil, "disk_usage", lambda _: usage)
    words = ["algo=dqn", "env=cartpole", "+smoke=on", "buffer.storage=memmap", "buffer.capacity=1000000"]
    assert cli.main([*words, "hydra.run.dir=run"]) == 2
    said = capsys.readouterr().err
    assert "buffer.capacity: a replay file of 15.3 MiB would not fit: 1.0 MiB of disk are free" in said
    assert not Path("run/replay.bin").exists()
