"""A run of two ranks, as threads: what each has of the whole, what they learn together, and what cannot be spread."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import algorithms
from support.ranks import as_ranks

from rlrun import registry
from rlrun.compute.spread import Group
from rlrun.config import compose
from rlrun.config import ranks as spreading
from rlrun.config.validate import validate
from rlrun.errors import ConfigError, Interrupted
from rlrun.experience.spread import Pool
from rlrun.interrupt import Interrupt
from rlrun.loggers import Loggers
from rlrun.ops.running import RunningMeanStd
from rlrun.run import build
from rlrun.run.parts import Parts
from rlrun.run.run import Run
from rlrun.rundir.codec import decode, encode
from rlrun.rundir.layout import RunDir
from rlrun.types import Progress, Rollout

CPU = ("+smoke=on", "device=cpu", "device.compile=false")


def config(*words: str) -> Any:
    compose.set_up([], [])
    return validate(compose.compose([*words, *CPU]).data)


def on_ranks(work: Callable[[Parts], Any], *words: str, interrupt: Interrupt | None = None) -> list[Any]:
    """What `work(parts)` returns on each of two ranks."""
    cfg = config(*words)

    def rank(group: Group) -> Any:
        with closing(build.parts(cfg, interrupt, group)) as parts:
            return work(parts)

    return as_ranks(rank)


def weights(algo: Any) -> torch.Tensor:
    return torch.cat([x.detach().double().flatten() for x in algo.nets.state_dict().values()])


def trained(parts: Parts, chunks: int = 6) -> dict[str, Any]:
    progress, before = Progress(parts.cfg.total_timesteps), weights(parts.algo)
    seen = []
    for _, chunk in zip(range(chunks), parts.source, strict=False):
        progress.advance(chunk)
        seen.append(chunk.data.obs.copy())
        parts.algo.learn(chunk.data, progress)
    return {
        "weights": weights(parts.algo),
        "moved": not torch.equal(before, weights(parts.algo)),
        "obs": np.concatenate([obs[:-1] for obs in seen]),
        "progress": progress,
        "envs": parts.spec.num_envs,
        "episodes": progress.episodes,
    }


@pytest.mark.parametrize(
    "words",
    [
        ("algo=ppo", "env=cartpole", "env.num_envs=4", "algo.target_kl=1e-4"),
        ("algo=dqn", "env=cartpole", "env.num_envs=2", "buffer=prioritized", "network.normalize_obs=true"),
        ("algo=sac", "env=pendulum", "env.num_envs=2", "algo.reset_every=40"),
        ("algo=pqn", "env=cartpole", "env.num_envs=4"),
        ("algo=dqn", "env=cartpole", "env.num_envs=2", "network=gru"),
        ("algo=impala", "env=cartpole", "env.num_envs=4", "algo.replay_min=4", "algo.replay_ratio=2"),
        ("algo=acer", "env=cartpole", "env.num_envs=4", "algo.replay_min=4", "algo.replay_ratio=2"),
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_ranks_have_one_learner_and_different_experience(words: tuple[str, ...]) -> None:
    chunks = {"algo=dqn": 44, "algo=sac": 44, "algo=impala": 9}.get(words[0], 3)
    first, second = on_ranks(lambda parts: trained(parts, chunks), *words)
    assert first["moved"] and torch.equal(first["weights"], second["weights"])
    assert first["progress"] == second["progress"] and first["progress"].gradient_steps > 0
    total = int(words[2].rpartition("=")[2])
    assert first["envs"] == second["envs"] == total // 2
    assert first["progress"].env_steps == 2 * first["obs"].shape[0] * first["envs"]
    assert first["episodes"] > 0 or words[0] == "algo=sac"
    mine, others = (np.unique(found["obs"].reshape(-1, *found["obs"].shape[2:]), axis=0) for found in (first, second))
    assert not {*map(bytes, mine)} & {*map(bytes, others)}


ABLE = [name for name in algorithms() if registry.get("algo", name).needs.ranks]


@pytest.mark.slow
@pytest.mark.parametrize("algo", ABLE)
def test_every_algorithm_that_says_so_learns_on_ranks(algo: str) -> None:
    words = (f"algo={algo}", f"env={algorithms()[algo]}", "env.num_envs=4")
    first, second = on_ranks(lambda parts: trained(parts, 40), *words)
    assert first["moved"] and torch.equal(first["weights"], second["weights"])
    assert first["progress"] == second["progress"]


def test_environments_have_the_seeds_that_they_have_in_one_process() -> None:
    words = ("algo=ppo", "env=cartpole", "env.num_envs=4")

    def begin(parts: Parts) -> np.ndarray:
        return next(iter(parts.source)).data.obs[0].copy()

    with closing(build.parts(config(*words))) as alone:
        expected = begin(alone)
    np.testing.assert_array_equal(np.concatenate(on_ranks(begin, *words)), expected)


def test_no_two_ranks_draw_the_same() -> None:
    def streams(parts: Parts) -> list[int]:
        kit = parts.algo
        return [int(rng.integers(2**62)) for rng in (kit.agent.rng, kit.minibatches.rng)]

    with closing(build.parts(config("algo=ppo", "env=cartpole", "env.num_envs=4"))) as alone:
        expected = streams(alone)
    first, second = on_ranks(streams, "algo=ppo", "env=cartpole", "env.num_envs=4")
    assert first == expected  # rank 0 draws what a single process draws
    assert not {*first} & {*second}


@pytest.mark.parametrize("algo", ["ppo", "a2c", "vpg"])
def test_a_policy_learns_from_shares_of_a_rollout_what_one_process_learns_from_all(algo: str) -> None:
    """Advantages are normalised, and gradients clipped, over all ranks."""
    words = [f"algo={algo}", "env=cartpole", "env.num_envs=4", "algo.normalize_advantage=true", "algo.n_steps=32"]
    words += ["algo.batch_size=128"] if algo != "a2c" else []
    with closing(build.parts(config(*words))) as alone:
        begun = copy.deepcopy(alone.algo.state_dict())
        rollout: Rollout = next(iter(alone.source)).data
        progress = Progress(1000, env_steps=rollout.env_steps)
        start = weights(alone.algo)
        alone.algo.learn(rollout, progress)
        expected = weights(alone.algo)

    def share(parts: Parts) -> torch.Tensor:
        envs = parts.group.share(4)
        mine = slice(envs.start, envs.stop)
        parts.algo.load_state_dict(begun)
        columns = {name: getattr(rollout, name)[:, mine] for name in ("obs", "action", "reward", "terminated")}
        part = rollout._replace(
            **columns,
            truncated=rollout.truncated[:, mine],
            final_obs={(t, e - mine.start): x for (t, e), x in rollout.final_obs.items() if e in envs},
            extras={key: value[:, mine] for key, value in rollout.extras.items()},
            ranks=2,
        )
        parts.algo.learn(part, Progress(1000, env_steps=part.env_steps))
        return weights(parts.algo)

    first, second = on_ranks(share, *words)
    assert torch.equal(first, second) and not torch.equal(expected, start)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-6)


def test_what_is_seen_is_normalised_by_the_statistics_of_all_ranks() -> None:
    words = ("algo=dqn", "env=cartpole", "env.num_envs=2", "network.normalize_obs=true")

    def statistics(parts: Parts) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        found = trained(parts, 20)
        return found["obs"], {k: v for k, v in parts.algo.nets.state_dict().items() if ".mean" in k or ".var" in k}

    (first, known), (second, same) = on_ranks(statistics, *words)
    seen = np.concatenate([first, second]).reshape(-1, 4).astype(np.float64)
    for name, value in known.items():
        assert torch.equal(value, same[name])
        if "target" not in name:
            expected = seen.mean(0) if "mean" in name else seen.var(0)
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_a_signal_to_one_rank_stops_all_and_nothing_collected_is_lost() -> None:
    """The one that was sent it stands in the middle of its chunk, the other at the end: both go on from there."""
    cfg = config("algo=ppo", "env=cartpole", "env.num_envs=4")

    def rank(group: Group) -> tuple[int, int, int, int]:
        interrupt = Interrupt()
        with closing(build.parts(cfg, interrupt, group)) as parts:
            parts.source.prove()
            chunks = iter(parts.source)
            last = next(chunks).data.obs[-1].copy()
            if group.rank == 1:
                interrupt.signum = 10
            with pytest.raises(Interrupted) as stopped:
                next(chunks)
            interrupt.signum = None
            state = copy.deepcopy(parts.source.state_dict())
        with closing(build.parts(cfg, interrupt, group)) as parts:
            parts.source.load_state_dict(state)
            chunk = next(iter(parts.source))
            t = state["t"]
            np.testing.assert_array_equal(chunk.data.obs[0], last)
            np.testing.assert_array_equal(chunk.data.obs[: t + 1], state["obs"])
            return t, stopped.value.signum, len(chunk.data.reward), chunk.env_steps

    assert as_ranks(rank) == [(32, 10, 32, 128), (0, 10, 32, 128)]


@pytest.mark.parametrize(
    "words",
    [
        ("algo=ppo", "env=cartpole", "env.num_envs=4"),
        ("algo=dqn", "env=cartpole", "env.num_envs=2", "buffer=prioritized", "network.normalize_obs=true"),
        ("algo=a2c", "env=cartpole", "env.num_envs=4", "env.normalize.obs=true", "env.normalize.reward=true"),
    ],
    ids=lambda words: words[0],
)
def test_each_rank_goes_on_exactly_from_what_it_saved(words: tuple[str, ...], tmp_path: Path) -> None:
    cfg, chunks = config(*words), 20 if words[0] == "algo=dqn" else 2

    def rank(group: Group) -> tuple[torch.Tensor, torch.Tensor]:
        def begun() -> Run:
            return Run(
                **vars(build.parts(cfg, None, group)), dir=RunDir(tmp_path / str(group.rank)), logger=Loggers({})
            )

        def go_on(run: Run) -> None:
            for _, chunk in zip(range(chunks), run.source, strict=False):
                run.progress.advance(chunk)
                run.algo.learn(chunk.data, run.progress)

        with closing(begun()) as whole, closing(begun()) as resumed:
            whole.source.prove()
            go_on(whole)
            state = copy.deepcopy(decode(*encode(whole.state_dict())))
            go_on(whole)
            resumed.load_state_dict(state)
            go_on(resumed)
            return weights(whole.algo), weights(resumed.algo)

    results = as_ranks(rank)
    assert all(torch.equal(results[0][0], found) for found in itertools.chain(*results))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("algo=q_learning", "env=frozenlake"), "algo: q_learning learns on one rank alone"),
        (("algo=trpo", "env=cartpole"), "algo: trpo"),
        (("algo=a3c", "env=cartpole", "algo.reduction=sum"), "algo.reduction"),
        (("algo=a2c", "experience=serial"), "experience: serial"),
        (("algo=ppo", "network=gru"), "network: gru"),
        (("algo=sac", "env=pendulum", "network.batch_norm=before"), "network.batch_norm"),
        (
            ("algo=ppo", "env.num_envs=3"),
            "env.num_envs: 2 ranks cannot have equally much of 3\nwrite env.num_envs=2 or 4",
        ),
        (("algo=dqn",), "env.num_envs: 2 ranks cannot have equally much of 1\nwrite env.num_envs=2, or start one rank"),
        (("algo=ppo", "env.num_envs=4", "algo.batch_size=31"), "algo.batch_size"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ",
)
def test_what_cannot_be_spread_is_refused(words: tuple[str, ...], key: str) -> None:
    cfg = config(*words)
    with pytest.raises(ConfigError) as refused:
        spreading.check(cfg)
        spreading.of_rank(cfg, 2)
    assert str(refused.value).startswith(key)


def test_normalisers_have_the_statistics_of_all_ranks_when_a_chunk_is_learned_from() -> None:
    words = ("algo=ppo", "env=cartpole", "env.num_envs=4", "env.normalize.obs=true", "env.normalize.reward=true")

    def statistics(parts: Parts) -> list[Any]:
        parts.source.prove()
        trained(parts, 3)
        return [stats.state_dict() for stats in parts.environments.statistics]

    first, second = on_ranks(statistics, *words)
    assert [entry["count"] for entry in first] == [3 * 128 + 4, 3 * 128]  # observations begin with those of the resets
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours["mean"], theirs["mean"])
        np.testing.assert_array_equal(ours["squares"], theirs["squares"])
    with closing(build.parts(config(*words))) as alone:
        trained(alone, 3)
        assert [stats.count for stats in alone.environments.statistics] == [3 * 128 + 4, 3 * 128]


def test_statistics_of_a_pool_are_those_of_all_numbers() -> None:
    batches = np.random.default_rng(0).normal(3.0, 2.0, (2, 5, 7, 3))  # of each rank, five of seven rows

    def rank(group: Group) -> Any:
        stats = RunningMeanStd((3,))
        pool = Pool([stats])
        for number, batch in enumerate(batches[group.rank]):
            stats.update(batch)
            if number % 2:
                pool.meet(group)
        pool.meet(group)
        pool.meet(group)  # nothing is new
        return stats.count, stats.mean, stats.var

    seen = batches.reshape(-1, 3)
    for count, mean, var in as_ranks(rank):
        assert count == len(seen)
        np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-12)
        np.testing.assert_allclose(var, seen.var(0), rtol=1e-12)


def test_of_the_whole_a_rank_has_its_share() -> None:
    cfg = config("algo=dqn", "env=cartpole", "env.num_envs=4", "algo.batch_size=64", "buffer.capacity=1001")
    share = spreading.of_rank(cfg, 2)
    assert (share.env.num_envs, share.algo.batch_size, share.buffer.capacity) == (2, 32, 500)
    assert share.total_timesteps == cfg.total_timesteps and share.algo.train_freq == cfg.algo.train_freq
    kept = ("algo.replay_capacity=3", "algo.replay_min=3", "algo.batch_rollouts=2")
    share = spreading.of_rank(config("algo=acer", "env=cartpole", "env.num_envs=2", *kept), 2)
    assert (share.algo.replay_capacity, share.algo.replay_min, share.algo.batch_rollouts) == (2, 2, 1)
