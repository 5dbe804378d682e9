"""The source of rollouts on environments whose stream is known."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlrun.envs.toy  # noqa: F401  registers the toys
from rlrun.envs.state import Proof
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import Interrupted
from rlrun.experience.rollouts import Rollouts
from rlrun.interrupt import Interrupt
from rlrun.rundir.codec import decode, encode
from rlrun.types import Chunk


class Always:
    """Takes the same action; records the env steps it was asked at."""

    def __init__(self, action: int = 1):
        self.action = action
        self.asked: list[int] = []

    def initial_memory(self, num_envs: int) -> None:
        return None

    def act(self, obs: np.ndarray, memory: Any, *, explore: bool, env_steps: int) -> Any:
        self.asked.append(env_steps)
        return np.full(len(obs), self.action), memory, {"seen": obs.reshape(len(obs), -1)[:, 0].astype(np.float32)}


def source(
    steps: int, envs: int, agent: Always | None = None, interrupt: Interrupt | None = None, total: int | None = None
) -> Rollouts:
    def make() -> gym.Env:
        return gym.make("rlrun/Toy-v0", disable_env_checker=True)

    vector = InProcess([make() for _ in range(envs)], make=make)
    vector.prove()
    return Rollouts(vector, agent or Always(), steps, list(range(envs)), interrupt, total)


def copied(chunk: Chunk) -> dict[str, Any]:
    data = chunk.data
    arrays = {key: np.array(getattr(data, key)) for key in ("obs", "action", "reward", "terminated", "truncated")}
    finals = {where: int(obs) for where, obs in data.final_obs.items()}
    return arrays | {"final_obs": finals, "seen": np.array(data.extras["seen"]), "episodes": list(chunk.episodes)}


def test_the_stream_of_the_toy() -> None:
    """10 steps an episode, observations 0 1 2 3 4 0 ...; chunks of 4 do not care where episodes end."""
    chunks = [copied(chunk) for chunk in itertools.islice(source(4, 2), 3)]
    assert [chunk["obs"][:, 0].tolist() for chunk in chunks] == [[0, 1, 2, 3, 4], [4, 0, 1, 2, 3], [3, 4, 0, 1, 2]]
    assert [chunk["final_obs"] for chunk in chunks] == [{}, {}, {(1, 0): 0, (1, 1): 0}]
    assert chunks[2]["terminated"].tolist() == [[False] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert not any(chunk["truncated"].any() for chunk in chunks)
    assert [[tuple(stat) for stat in chunk["episodes"]] for chunk in chunks] == [[], [], [(10.0, 10, 0), (10.0, 10, 1)]]


def test_the_agent_sees_reset_observations_and_the_global_clock() -> None:
    agent = Always()
    chunks = [copied(chunk) for chunk in itertools.islice(source(6, 2, agent), 2)]
    assert np.concatenate([chunk["seen"][:, 0] for chunk in chunks]).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert agent.asked == list(range(0, 24, 2))


def test_a_chunk_counts_the_steps_of_all_environments() -> None:
    assert next(iter(source(5, 3))).env_steps == 15


def test_the_last_chunk_is_cut_to_what_is_left() -> None:
    """21 of chunks of 8 from 2 environments: 8, 8 and the 6 that hold the last 5; the same stream as uncut."""
    chunks = [copied(chunk) for chunk in itertools.islice(source(4, 2, total=21), 3)]
    whole = [copied(chunk) for chunk in itertools.islice(source(4, 2), 3)]
    assert [chunk["reward"].shape for chunk in chunks] == [(4, 2), (4, 2), (3, 2)]
    for key in ("action", "reward", "terminated", "truncated", "seen"):
        assert np.array_equal(chunks[2][key], whole[2][key][:3])
    assert np.array_equal(chunks[2]["obs"], whole[2]["obs"][:4])
    assert chunks[2]["final_obs"] == whole[2]["final_obs"] != {}
    assert [chunk.env_steps for chunk in itertools.islice(source(5, 3, total=4), 1)] == [6]


def test_a_source_goes_on_behind_a_chunk_that_was_cut() -> None:
    """With a larger total the stream is that of one source."""
    whole = np.concatenate([copied(chunk)["obs"][:-1] for chunk in itertools.islice(source(4, 2), 5)])
    first = source(4, 2, total=10)
    chunks = [copied(chunk) for chunk in itertools.islice(first, 2)]
    second = source(4, 2, total=21)
    second.load_state_dict(decode(*encode(first.state_dict())))
    chunks += [copied(chunk) for chunk in itertools.islice(second, 2)]
    assert [len(chunk["reward"]) for chunk in chunks] == [4, 1, 4, 2]
    assert np.array_equal(np.concatenate([chunk["obs"][:-1] for chunk in chunks]), whole[:11])


def test_what_is_collected_beyond_a_smaller_total_is_handed_out() -> None:
    """Stopped with 3 sweeps of the second chunk done, continued to a total that the first of them reaches."""
    interrupt = Interrupt()

    class Fuse(Always):
        def act(self, *args: Any, **kwargs: Any) -> Any:
            if len(self.asked) == 6:
                interrupt.signum = signal.SIGTERM
            return super().act(*args, **kwargs)

    first = source(4, 2, Fuse(), interrupt)
    with pytest.raises(Interrupted):
        list(first)
    second = source(4, 2, total=10)
    second.load_state_dict(decode(*encode(first.state_dict())))
    assert next(iter(second)).env_steps == 6


@pytest.mark.parametrize("sweeps", [0, 1, 3, 4, 5, 10, 11])
def test_stopping_between_two_sweeps_loses_nothing(sweeps: int) -> None:
    """Wherever the signal comes, the restored source yields what the undisturbed one does."""
    expected = [copied(chunk) for chunk in itertools.islice(source(4, 2), 4)]
    interrupt = Interrupt()

    class Fuse(Always):
        def act(self, *args: Any, **kwargs: Any) -> Any:
            if len(self.asked) == sweeps:
                interrupt.signum = signal.SIGTERM
            return super().act(*args, **kwargs)

    first = source(4, 2, Fuse(), interrupt)
    chunks = []
    with pytest.raises(Interrupted):
        for chunk in first:
            chunks.append(copied(chunk))
    second = source(4, 2)
    second.load_state_dict(decode(*encode(first.state_dict())))
    chunks += [copied(chunk) for chunk in itertools.islice(second, 4 - len(chunks))]
    for one, other in zip(chunks, expected, strict=True):
        for key in one:
            assert np.array_equal(one[key], other[key]) if isinstance(one[key], np.ndarray) else one[key] == other[key]


def test_environments_that_cannot_be_restored_cut_the_episode() -> None:
    """The collected part ends in a truncation at the last observation that was seen; then new episodes begin."""
    interrupt = Interrupt()

    class Fuse(Always):
        def act(self, *args: Any, **kwargs: Any) -> Any:
            if len(self.asked) == 2:
                interrupt.signum = signal.SIGTERM
            return super().act(*args, **kwargs)

    first = source(5, 2, Fuse(), interrupt)
    first.envs._proof = Proof("there is only one of its kind")
    with pytest.raises(Interrupted):
        next(iter(first))
    second = source(5, 2)
    second.load_state_dict(decode(*encode(first.state_dict())))
    chunk = copied(next(iter(second)))
    assert chunk["obs"][:, 0].tolist() == [0, 1, 2, 0, 1, 2] or chunk["obs"][3, 0] == 0
    assert chunk["truncated"].sum(axis=0).tolist() == [1, 1]
    (t,) = np.flatnonzero(chunk["truncated"][:, 0])
    assert chunk["final_obs"] == {(t, 0): t + 1, (t, 1): t + 1}
    assert chunk["obs"][t + 1].tolist() == [0, 0]


def test_a_source_that_was_in_use_goes_on_from_a_state_all_the_same() -> None:
    """Nothing is left of the chunk that it stood in, ends of episodes included."""
    first, used = source(4, 2), source(4, 2)
    stream = iter(first)
    next(stream)
    assert [copied(chunk) for chunk in itertools.islice(used, 3)][2]["terminated"].any()
    used.load_state_dict(decode(*encode(first.state_dict())))
    found, expected = copied(next(iter(used))), copied(next(stream))
    assert np.array_equal(found["obs"], expected["obs"])
    assert not found["terminated"].any() and not expected["terminated"].any()
