"""Actors in processes of their own: what they deliver, and what becomes of a run when they fail."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Nursery, Rlrun
from torch import nn

from rlrun.config import memory
from rlrun.experience.actors.actor import Actor
from rlrun.experience.actors.crew import Delivery, Order
from rlrun.experience.actors.shared import Shared
from rlrun.experience.actors.slots import Content, Slots
from rlrun.experience.actors.weights import Weights
from rlrun.testing import learner
from rlrun.types import Chunk, EnvSpec, EpisodeStat, Gradients, Rollout, Space

SMALL = "algo=a2c algo.n_steps=5 env.num_envs=4 network.hidden=[4] experience=actors device=cpu".split()
TOY = [*SMALL, "env.id=rlrun/Toy-v0"]
QUIET = "logger.tensorboard=false logger.console=off logger.freq=100 eval.freq=0 eval.episodes=1".split()
UNRULY = [*SMALL, "imports=[unruly]", "env.id=Unruly-v0", *QUIET, "total_timesteps=400", "hydra.run.dir=run"]


def test_shared_memory_has_no_name() -> None:
    before = {*os.listdir("/dev/shm")} if os.path.isdir("/dev/shm") else set()
    shared = Shared({"a": ((3,), np.dtype(np.uint8)), "b": ((2, 2), np.dtype(np.float64))})
    shared["a"][:], shared["b"][:] = 7, 1.5
    assert shared["a"].tolist() == [7, 7, 7]
    assert shared["b"].tolist() == [[1.5, 1.5], [1.5, 1.5]]
    if os.path.isdir("/dev/shm"):
        assert not {*os.listdir("/dev/shm")} - before


def test_weights_go_over_with_all_their_types() -> None:
    there, here = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    there[1](torch.ones(4, 3))  # moves its statistics, and its count of batches
    writer = Weights(there)
    reader = Weights(here, writer.shared)
    assert reader.read() == -1
    for version in range(3):
        with torch.no_grad():
            there[0].weight += 1
        writer.write(version)
        assert reader.read() == version
        for one, other in zip(there.state_dict().values(), here.state_dict().values(), strict=True):
            assert torch.equal(one, other)
    writer.write(3)
    writer.write(4)
    assert reader.read() == 4


def test_weights_that_are_overwritten_while_they_are_read_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = nn.Linear(1, 1), nn.Linear(1, 1)
    writer = Weights(there)
    reader = Weights(here, writer.shared)
    writer.write(0)
    copy, copies = torch._foreach_copy_, []

    def slow(*args: Any) -> None:
        copy(*args)
        copies.append(1)
        if len(copies) == 1:  # the reader's: meanwhile two more versions are written, the second over the first's slot
            writer.write(1)
            writer.write(2)

    monkeypatch.setattr(torch, "_foreach_copy_", slow)
    assert reader.read() == 2
    assert len(copies) == 4


ACTIONS = Space("discrete", (), np.dtype(np.int64), n=2)
PICTURES = Space("box", (2, 3), np.dtype(np.uint8))
RECORD = np.dtype([("where", np.float32, (2,)), ("action_mask", bool, (2,))])
PARTS = {"where": Space("box", (2,), np.dtype(np.float32)), "action_mask": Space("multi_binary", (2,), np.dtype(bool))}
RECORDS = Space("dict", (), RECORD, fields=PARTS)


@pytest.mark.parametrize("space", [PICTURES, RECORDS])
def test_a_chunk_comes_out_of_a_slot_as_it_went_in(space: Space) -> None:
    env, rng = EnvSpec("any", space, ACTIONS, num_envs=2), np.random.default_rng(0)
    slots = Slots(Content(env, 3, {"memory": ((2, 4), np.dtype(np.float32))}), count=2)
    for slot, sweeps in ((0, 3), (1, 2), (0, 1)):
        rows = slots.rows(slot)
        assert rows is not None
        for array in (rows.obs, rows.reward, rows.extras["memory"]):
            array[:] = np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape)
        rows.clear()
        rows.truncated[0, 1] = True
        final = np.frombuffer(rng.bytes(space.dtype.itemsize * 6), space.dtype)[: max(1, int(np.prod(space.shape)))]
        finals = {(0, 1): final.reshape(space.shape)}
        whole = Rollout(
            *(rows.obs[: sweeps + 1], rows.action[:sweeps], rows.reward[:sweeps]),
            *(rows.terminated[:sweeps], rows.truncated[:sweeps]),
            finals,
            {"memory": rows.extras["memory"][:sweeps]},
            policy_version=7,
        )
        slots.put(slot, Delivery(Chunk(2 * sweeps, [EpisodeStat(1.5, 3, 9)], whole), 7))
        (env_steps, episodes, data), version = slots.get(slot)
        assert (env_steps, version, episodes, data.policy_version) == (2 * sweeps, 7, [EpisodeStat(1.5, 3, 9)], 7)
        for name in ("obs", "action", "reward", "terminated", "truncated"):
            assert getattr(data, name).tobytes() == getattr(whole, name).tobytes()
        assert {key: np.asarray(value).tobytes() for key, value in data.final_obs.items()} == {
            (0, 1): finals[0, 1].tobytes()
        }
        assert data.extras["memory"].tobytes() == whole.extras["memory"].tobytes()


def test_a_gradient_comes_out_of_a_slot_as_it_went_in() -> None:
    env = EnvSpec("any", PICTURES, ACTIONS, num_envs=2)
    slots = Slots(Content(env, 3, gradients=4, aux=("loss", "entropy")), 1)
    sent = Gradients(np.arange(4, dtype=np.float32), {"entropy": 0.1, "loss": 2.5}, 6, 5)
    assert slots.rows(0) is None
    slots.put(0, Delivery(Chunk(6, [], sent), 5))
    (env_steps, _, found), version = slots.get(0)
    assert (env_steps, version, found.aux, found.env_steps, found.policy_version) == (6, 5, sent.aux, 6, 5)
    assert found.values.tolist() == [0, 1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="nobody tells how much of a file is in memory")
@pytest.mark.parametrize(
    "words",
    [
        ["algo=ppo", "env=pendulum", "algo.n_steps=300", "network=gru", "network.memory_size=250"],
        ["algo=acer", "env=mountaincar", "algo.n_steps=300", "network=lstm", "network.memory_size=120"],
        ["algo=a3c", "env=pendulum", "algo.asynchronous=true", "network.hidden=[300,300]"],
    ],
)
def test_slots_take_as_much_memory_as_was_foretold(words: list[str]) -> None:
    words = [*words, "~tuned", "env.num_envs=4", "experience=actors", "experience.ahead=2"]
    with closing(learner(*words).parts) as made:
        needs = memory.of_source(made.cfg, made.environments, made.algo)
        foretold = next(need for need in needs if need.key == "experience.ahead")
        crew: Any = made.source.crew
        for place in crew.places:
            seeds, steps = [1, 2], made.algo.rollout_steps
            with closing(made.environments.train(2)) as envs:
                actor = Actor(made.algo, made.algo.agent, envs, place.envs, 4, seeds, rows=place.slots.rows(0))
                for slot in range(3):
                    actor.collect(Order(steps, 0), 0, place.slots.rows(slot))
                    place.slots.put(slot, actor.deliver())
        for version in range(2):
            crew.weights.write(version)
        shared = [crew.weights.shared, *(place.slots.shared for place in crew.places)]
        taken = sum(os.fstat(each._descriptor).st_blocks * 512 for each in shared)
        assert foretold.bytes == pytest.approx(taken, rel=0.05)
        weights = sum(p.numel() * 4 for p in made.algo.agent.network.parameters())  # type: ignore[attr-defined]
        assert foretold.bytes - 3 * foretold.each == 2 * weights


def test_an_actor_that_is_killed_ten_times_loses_what_it_had_not_delivered_and_nothing_else() -> None:
    """The toy counts 0 1 2 3 4 0 ... until its episode ends after ten steps, so that every gap would be seen."""
    with closing(learner(*TOY, "experience.restarts=10", "total_timesteps=3000").parts) as made:
        source: Any = made.source
        follows: list[Any] = [None] * 4  # what each environment shows next
        killed, steps = 0, 0
        for chunks, chunk in enumerate(source, 1):
            steps += chunk.env_steps
            rollout = chunk.data
            for e in range(4):
                seen = rollout.obs[:, e].tolist()
                assert seen[0] in ((0,) if follows[e] is None else (follows[e], 0))  # it goes on, or is a new actor's
                for t in range(len(seen) - 1):
                    over = rollout.terminated[t, e] or rollout.truncated[t, e]
                    assert seen[t + 1] == (0 if over else (seen[t] + 1) % 5)
                follows[e] = seen[-1]
            source.publish(made.algo.agent)
            if killed < 10 and chunks % 3 == 0:
                place = source.crew.places[killed % 2]
                if place.is_manned and place.is_built:
                    os.kill(place.process.pid, signal.SIGKILL)
                    killed += 1
            if steps >= 3000:
                break
        assert killed == source.restarts == 10
        assert steps == 3000
        assert 0 <= source.metrics()["actors/lost_steps"] <= 10 * 2 * 10
    assert not any(process.is_alive() for process in source.crew._running)


@pytest.fixture
def run(rlrun: Rlrun) -> Rlrun:
    sys.modules.pop("unruly", None)
    return rlrun


def said() -> tuple[str, dict[str, str]]:
    """The log of the run, and its last row of metrics before that of the evaluation."""
    with Path("run/metrics.csv").open(newline="") as file:
        return Path("run/run.log").read_text(), [row for row in csv.DictReader(file) if row["actors/restarts"]][-1]


@pytest.mark.parametrize(
    ("what", "words", "tells"),
    [
        ("crash", [], ["ValueError: bang", "raise ValueError", "failed in step("]),
        ("hang", ["experience.patience=1"], ["there was no step for 1 seconds", "time.sleep(100)", "failed in step("]),
        ("swallow", ["experience.patience=1"], ["there was no step for 1 seconds, and it does not say why"]),
    ],
)
def test_an_environment_that_fails_is_told_of_and_replaced(
    run: Rlrun, what: str, words: list[str], tells: list[str]
) -> None:
    run(*UNRULY, f"env.kwargs.what={what}", *words)
    log, row = said()
    for text in ["was lost: environments ", "seeds ", "is replaced", *tells]:
        assert text in log
    assert row["actors/restarts"] == "1.0"
    assert row["env_steps"] == "400"


def test_when_too_many_were_lost_the_run_is_given_up(run: Rlrun) -> None:
    told = run(*UNRULY, "env.kwargs.what=crash", "experience.restarts=0", code=1)
    assert "ValueError: bang" in told.stderr
    assert "experience.restarts" in told.stderr
    assert json.loads(Path("run/status.json").read_text())["state"] == "failed"


def test_an_actor_that_cannot_be_made_ends_the_run(run: Rlrun) -> None:
    """Its environments fail there alone: in the run's own process one is looked at before."""
    Path("own.py").write_text(
        "import multiprocessing\nimport gymnasium as gym\nimport unruly\n"
        "def only_here(env):\n    assert multiprocessing.parent_process() is None\n    return env\n"
    )
    told = run(*UNRULY, "env.wrappers=[own.only_here]", code=1)
    assert "an actor cannot be made" in told.stderr
    assert "AssertionError" in told.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["algo=q_learning", "env=frozenlake"], "its network to act by\nwrite experience=rollouts"),
        (["algo=ppo", "env=pendulum", "env.num_envs=2", "env.normalize.obs=true"], "leave it out, or"),
        (["algo=sac", "env=pendulum", "env.num_envs=2", "env.normalize.obs=true"], "write network.normalize_obs=true"),
        (["algo=ppo", "env=cartpole", "env.num_envs=3"], "write env.num_envs=2 or 4"),
    ],
)
def test_what_actors_cannot_do_is_refused(rlrun: Rlrun, words: list[str], says: str) -> None:
    assert says in rlrun(*words, "experience=actors", code=2).stderr


def test_without_ray_there_is_a_line(rlrun: Rlrun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    told = rlrun("algo=a2c", "env=cartpole", "experience=ray", code=2)
    assert told.stderr == (
        "rlrun: experience: needs Ray, which is not installed\nget it with `pip install 'rlrun[ray]'`\n"
    )


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


LONG = [*TOY, *QUIET, "total_timesteps=10000000", "checkpoint.freq=1000", "hydra.run.dir=run"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_actors_end_with_the_run(nursery: Nursery, rlrun: Rlrun, tmp_path: Path, signum: signal.Signals) -> None:
    begun = nursery.begin("rlrun", *LONG, folder=tmp_path)
    deadline = time.monotonic() + 120
    while not [*tmp_path.glob("run/checkpoints/step_*")]:
        assert time.monotonic() < deadline and begun.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    assert len(members(begun.pid)) >= 4  # the run, the server that it starts actors from, and two of them
    os.kill(begun.pid, signum)
    assert begun.wait() == (75 if signum == signal.SIGTERM else -9)
    deadline = time.monotonic() + 60
    while left := members(begun.pid):
        assert time.monotonic() < deadline, f"{left} are still there"
        time.sleep(0.05)
    if signum == signal.SIGTERM:
        saved = json.loads((tmp_path / "run/status.json").read_text())["saved"]
        rlrun("resume", "run", f"total_timesteps={saved + 200}")
        assert said()[1]["env_steps"] == str(saved + 200)
        assert "actors begin new episodes" in json.loads(Path("run/meta.json").read_text())["resume"]
