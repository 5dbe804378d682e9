"""PPO with a network that remembers: what it learns from is what it did, step by step, whatever cuts lie between."""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlrun.envs.partial  # noqa: F401  registers the tasks
from rlrun import cli
from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.actor_critic import outputs
from rlrun.algos.policy.ppo import PPO, PPOConfig
from rlrun.compute.device import Device, DeviceConfig
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import ConfigError
from rlrun.experience.rollouts import Rollouts
from rlrun.networks.recurrent import GruConfig, LstmConfig, build_gru, build_lstm
from rlrun.ops.fields import rows
from rlrun.ops.returns import gae
from rlrun.testing import check_algorithm, learner
from rlrun.types import Progress, Rollout

T, E, LIMIT = 10, 3, 11
KINDS = {"lstm": (build_lstm, LstmConfig), "gru": (build_gru, GruConfig)}


def envs() -> InProcess:
    """Episodes that end by themselves after eight steps or more, or are cut after eleven."""

    def make() -> gym.Env:
        return gym.make("rlrun/CartPoleNoVelocity-v1", max_episode_steps=LIMIT, disable_env_checker=True)

    vector = InProcess([make() for _ in range(E)], make=make)
    vector.prove()
    return vector


def ppo(kind: str = "lstm", shared: bool = False, **options: Any) -> PPO:
    torch.manual_seed(0)
    builder, config = KINDS[kind]
    options = {"n_steps": T, "batch_size": T * E, "n_epochs": 1, "sequence_length": 4} | options
    algo = PPO(
        PPOConfig(**options),
        Kit(
            envs().spec,
            network=partial(builder, config(hidden=[8], memory_size=6, shared=shared)),
            device=Device(DeviceConfig(accelerator="cpu")),
            rng=np.random.default_rng(1),
            sampling=np.random.default_rng(0),
            total_timesteps=1000,
        ),
    )
    with torch.no_grad():  # so that policy and value depend on what is remembered
        for head in algo.network.heads:
            head.weight.mul_(5)
    return algo


class Recorder:
    """Keeps what the network put out for each row when acting."""

    def __init__(self, algo: PPO):
        self.forward, self.seen = algo.agent.forward, []
        algo.agent.forward = self

    def __call__(self, obs: np.ndarray, memory: np.ndarray) -> Any:
        found, after = self.forward(obs, memory)
        self.seen.append([output.copy() for output in found])
        return found, after


def copied(rollout: Rollout) -> Rollout:
    arrays = {key: value.copy() for key, value in rollout._asdict().items() if isinstance(value, np.ndarray)}
    extras = {key: value.copy() for key, value in rollout.extras.items()}
    return rollout._replace(**arrays, extras=extras, final_obs=dict(rollout.final_obs))


def chunks(algo: PPO, count: int) -> list[tuple[Rollout, list[np.ndarray]]]:
    """Rollouts one after another, each with the policy's and the value's output [T, E, *] at every step."""
    recorder = Recorder(algo)
    found = []
    for chunk in itertools.islice(Rollouts(envs(), algo.agent, T, list(range(E))), count):
        found.append((copied(chunk.data), [np.stack(parts) for parts in zip(*recorder.seen, strict=True)]))
        recorder.seen.clear()
    algo.agent.forward = recorder.forward
    return found


def minibatches(algo: PPO, rollout: Rollout) -> list[dict[str, torch.Tensor]]:
    """With a column that tells where each row comes from."""
    shape = rollout.reward.shape
    columns = {
        "obs": rollout.obs[:-1],
        "action": rollout.action,
        "where": np.arange(rollout.reward.size).reshape(shape),
        "advantage": np.arange(rollout.reward.size, dtype=np.float32).reshape(shape),
    }
    return [rows(stack, 0) for stack in algo.stacks(columns, rollout, algo.cfg.batch_size)]


def by_steps(algo: PPO, rollout: Rollout) -> list[torch.Tensor]:
    """The network's outputs [T, E, *], one step at a time: a loop that begins anew where an episode did."""
    memory = torch.from_numpy(rollout.extras["memory"][0])
    ended = rollout.terminated | rollout.truncated
    found = []
    for t in range(len(ended)):
        (policy, value), memory = algo.network(torch.from_numpy(rollout.obs[t]), memory)
        found.append((policy, value))
        memory = memory * torch.from_numpy(~ended[t]).float()[:, None]
    return [torch.stack(parts) for parts in zip(*found, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 7, "normalize_advantage": False}, {"sequence_length": 100}, {"burn_in": 3}]
)
def test_training_sees_what_acting_saw(kind: str, shared: bool, options: dict) -> None:
    """Before an update: at every step, across the ends of episodes and the cuts of chunks and sequences."""
    algo = ppo(kind, shared, **options)
    ends = 0
    for rollout, acted in chunks(algo, 4):
        ends += (rollout.terminated | rollout.truncated).sum()
        looped = by_steps(algo, rollout)
        seen = []
        for batch in minibatches(algo, rollout):
            where = batch["where"].numpy()
            seen += where.tolist()
            for output, recorded, step in zip(outputs(algo.network, batch), acted, looped, strict=True):
                found = output.detach().numpy()
                np.testing.assert_allclose(found, recorded.reshape(T * E, -1)[where], rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(found, step.detach().numpy().reshape(T * E, -1)[where], rtol=1e-4, atol=1e-5)
        assert sorted(seen) == list(range(T * E))
    assert ends > 6


def test_the_memory_matters() -> None:
    """Or else the test before would pass with a network that looks at the observation alone."""
    algo = ppo()
    ((rollout, acted),) = chunks(algo, 1)
    forgetful = algo.agent.forward(rollout.obs[5], np.zeros_like(rollout.extras["memory"][5]))[0][0]
    assert np.abs(forgetful - acted[0][5]).max() > 1e-3


@pytest.mark.parametrize("length", [4, 100])
def test_the_gradient_of_a_sequence_is_that_of_a_loop(length: int) -> None:
    """The loop cuts the gradient where sequences begin, and nowhere else."""
    algo = ppo(sequence_length=length)
    _, (rollout, _) = chunks(algo, 2)
    (batch,) = minibatches(algo, rollout)
    weight = torch.cos(batch["where"].float())
    policy, value = outputs(algo.network, batch)
    found = torch.autograd.grad((weight * (policy[:, 0] + value[:, 0])).sum(), list(algo.network.parameters()))

    ended, stored = rollout.terminated | rollout.truncated, torch.from_numpy(rollout.extras["memory"])
    loss, memory, age = torch.zeros(()), stored[0], np.zeros(E, np.int64)
    for t in range(T):
        begins = torch.from_numpy(age % length == 0)[:, None]
        memory = torch.where(begins, stored[t], memory)
        (policy, value), memory = algo.network(torch.from_numpy(rollout.obs[t]), memory)
        loss = loss + (torch.cos(torch.arange(t * E, t * E + E).float()) * (policy[:, 0] + value[:, 0])).sum()
        age = np.where(ended[t], 0, age + 1)
    expected = torch.autograd.grad(loss, list(algo.network.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing() -> None:
    """Sequences of unequal length: whatever stands behind the end of one, loss, metrics and gradients are the same."""
    algo = ppo(ent_coef=0.01, clip_range_vf=0.2)
    (rollout, _), *_ = chunks(algo, 1)
    advantage = np.random.default_rng(0).normal(size=(T, E)).astype(np.float32)
    value = rollout.extras["value"]
    columns = {"obs": rollout.obs[:-1], "action": rollout.action, "log_prob": rollout.extras["log_prob"]}
    columns |= {"value": value, "advantage": advantage, "returns": advantage + value}
    (stack,) = algo.stacks(columns, rollout, algo.cfg.batch_size)
    batch = rows(stack, 0)
    padding = np.setdiff1d(np.arange(len(batch["grid"])), batch["place"].numpy())
    assert len(padding) > 5
    assert batch["advantage"].mean().item() == pytest.approx(0, abs=1e-6)
    assert batch["advantage"].std().item() == pytest.approx(1, abs=1e-5)

    def everything() -> list[torch.Tensor]:
        loss, aux = algo.loss(algo.nets, batch, torch.tensor(0.2))
        gradients = torch.autograd.grad(loss, list(algo.network.parameters()))
        return [loss, *aux.values(), *algo.diagnose(batch, 0.2).values(), *gradients]

    before = everything()
    batch["grid"][padding] = torch.randint(T * E, (len(padding),), generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(one, other) for one, other in zip(before, everything(), strict=True))


def test_burn_in_brings_the_memory_up_to_date() -> None:
    """After an update: a sequence starts where its burn-in leads with the new weights, without a gradient."""
    algo = ppo(burn_in=3)
    (rollout, _), *_ = chunks(algo, 1)
    with torch.no_grad():
        for parameter in algo.network.parameters():
            parameter.mul_(1.5)
    (batch,) = minibatches(algo, rollout)
    found = outputs(algo.network, batch)[1].detach().numpy()[:, 0]
    ended, warmed = rollout.terminated | rollout.truncated, 0
    for row, (t, e) in enumerate(zip(*np.unravel_index(batch["where"].numpy(), (T, E)), strict=True)):
        begun = max([s + 1 for s in range(t) if ended[s, e]], default=0)
        start = begun + (t - begun) // 4 * 4
        first = max(start - 3, begun) if start > begun else start
        warmed += start > begun
        memory = rollout.extras["memory"][first, e][None]
        for s in range(first, t + 1):
            (_, value), memory = algo.agent.forward(rollout.obs[s, e][None], memory)
        assert found[row] == pytest.approx(value[0, 0], rel=1e-4, abs=1e-5)
    assert warmed > 5

    weights = list(algo.network.parameters())
    _, value = outputs(algo.network, batch)
    batch["memory"] = torch.where(batch["warm"], outputs_of_burn_in(algo, batch), batch["memory"])
    batch = {key: column for key, column in batch.items() if key not in ("before", "warm")}
    _, same = outputs(algo.network, batch)
    for one, other in zip(
        torch.autograd.grad(value.sum(), weights, materialize_grads=True),
        torch.autograd.grad(same.sum(), weights, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def outputs_of_burn_in(algo: PPO, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return algo.network(batch["before"], batch["memory"])[1].detach()


def test_what_follows_is_valued_with_the_memory_of_then() -> None:
    """GAE against a loop that carries the memory: to the last observation of a cut episode, and beyond the chunk."""
    algo = ppo(gamma=0.9, gae_lambda=0.8)
    truncated = 0
    for rollout, _ in chunks(algo, 4):
        truncated += rollout.truncated.sum()
        memory = rollout.extras["memory"][0]
        following = np.zeros((T, E), np.float32)
        ended = rollout.terminated | rollout.truncated
        for t in range(T):
            _, after = algo.agent.forward(rollout.obs[t], memory)
            last = rollout.obs[t + 1].copy()
            for e in np.flatnonzero(ended[t]):
                last[e] = rollout.final_obs[t, int(e)]
            following[t] = algo.agent.forward(last, after)[0][1][:, 0]
            memory = after * ~ended[t][:, None]
        flags = rollout.terminated, rollout.truncated
        expected = gae(rollout.reward, rollout.extras["value"], following, *flags, 0.9, 0.8)
        np.testing.assert_allclose(algo.advantages(rollout), expected, rtol=1e-4, atol=1e-5)
    assert truncated > 2


def test_the_first_epoch_starts_at_the_policy_that_acted() -> None:
    algo = ppo(learning_rate=1e-9)
    for rollout, _ in chunks(algo, 3):
        metrics = algo.learn(rollout, Progress(1000))
        assert float(metrics["approx_kl"]) == pytest.approx(0, abs=1e-6)
        assert float(metrics["clip_fraction"]) == 0


def test_contract() -> None:
    """Resumed in the middle of a chunk, too, from environments that stand in the middle of an episode."""
    words = "network=lstm network.hidden=[8] network.memory_size=8 algo.burn_in=4 algo.sequence_length=8"
    check_algorithm("ppo", "env=cartpole_no_velocity", "env.num_envs=3", *words.split())


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"burn_in: must be in \[0, 8\], got 9"):
        PPOConfig(sequence_length=8, burn_in=9)
    assert cli.main(["algo=pqn", "env=cartpole", "network=lstm", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    message = capsys.readouterr().err
    assert "network: pqn cannot learn with lstm" in message and "dqn, impala, iqn, ppo" in message and "mlp" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [*KINDS, "mlp"])
def test_only_memory_recalls_the_first_observation(kind: str, tmp_path: Path) -> None:
    """Two symbols, asked for four steps later: chance is 0.5."""
    words = "algo=ppo env=recall env.kwargs.length=4 env.num_envs=8 eval.episodes=40 eval.freq=0 logger.console=off"
    words += " total_timesteps=5000 algo.n_steps=64 algo.batch_size=128 algo.n_epochs=4 algo.ent_coef=0.01"
    words += " algo.learning_rate=5e-3 algo.learning_rate_schedule=linear network.hidden=[16]"
    assert cli.main([*words.split(), f"network={kind}", f"hydra.run.dir={tmp_path}/run"]) == 0
    score = json.loads((tmp_path / "run" / "summary.json").read_text())["final_eval"]["mean"]
    assert score == 1.0 if kind != "mlp" else score < 0.8


@pytest.mark.parametrize("env", ["Parts", "Masked"])
def test_it_starts_at_the_policy_that_acted_in_every_space(env: str) -> None:
    """Of observations and actions with several parts, and of actions under a mask."""
    words = "algo=ppo network=gru algo.burn_in=3 algo.sequence_length=5 algo.learning_rate=1e-9 algo.n_epochs=1"
    with closing(learner(*words.split(), f"env.id=rlrun/{env}-v0", "env.num_envs=3")) as one:
        for chunk in itertools.islice(one.stream, 3):
            one.progress.advance(chunk)
            metrics = one.parts.algo.learn(chunk.data, one.progress)
            assert float(metrics["approx_kl"]) == pytest.approx(0, abs=1e-6)


def test_options_that_would_do_nothing_are_named(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    words = ["algo=ppo", "env=cartpole", "+smoke=on", "logger.console=off"]
    assert cli.main([*words, "algo.burn_in=4", f"hydra.run.dir={tmp_path}/flat"]) == 0
    assert "algo.burn_in: network=mlp has no memory" in caplog.text
    assert cli.main([*words, "network=gru", "device.compile=true", f"hydra.run.dir={tmp_path}/gru"]) == 0
    assert "device.compile: updates of network=gru are not compiled" in caplog.text
