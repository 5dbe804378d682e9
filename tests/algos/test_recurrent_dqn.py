"""Deep Q-networks that remember: what is learned from sequences is what was seen when acting."""

from __future__ import annotations

import itertools
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rlrun.algos.algorithm import Kit
from rlrun.algos.value import parts
from rlrun.algos.value.dqn import DQN, DQNConfig
from rlrun.algos.value.parts import PLAIN
from rlrun.buffers import UniformConfig, uniform
from rlrun.compute.device import Device, DeviceConfig
from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.envs.vector.in_process import InProcess
from rlrun.experience.rollouts import Rollouts
from rlrun.networks.recurrent import GruConfig, LstmConfig, build_gru, build_lstm
from rlrun.ops.fields import rows
from rlrun.ops.losses import gather
from rlrun.ops.quantiles import midpoints
from rlrun.run import build
from rlrun.testing import check_algorithm, learner
from rlrun.types import MASK, Progress

CPU = Device(DeviceConfig(accelerator="cpu"))
KINDS: dict[str, Any] = {"gru": (build_gru, GruConfig), "lstm": (build_lstm, LstmConfig)}
E = 3


def made(kind: str, n_step: int = 1, **options: Any) -> tuple[DQN, Rollouts]:
    """A learner and a source that acts by its network, which is never updated."""
    torch.manual_seed(0)
    envs = InProcess([CartPoleEnv() for _ in range(E)])
    builder, config = KINDS[kind]
    rng = np.random.default_rng(0)
    buffer = uniform(UniformConfig(capacity=200 * E, n_step=n_step), envs.spec, gamma=0.9, rng=rng, device=CPU)
    kit = Kit(
        envs.spec,
        network=partial(builder, config(hidden=[8], memory_size=6)),
        buffer=buffer,
        device=CPU,
        rng=np.random.default_rng(1),
        total_timesteps=1000,
    )
    algo = DQN(DQNConfig(batch_size=8, gamma=0.9, **options), kit)
    with torch.no_grad():  # so that values depend on what is remembered
        algo.q.heads[0].weight.mul_(5)
    return algo, Rollouts(envs, algo.agent, 40, list(range(E)))


@pytest.mark.parametrize("burn_in", [0, 3])
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_values_along_sequences_are_those_of_acting(kind: str, n_step: int, burn_in: int) -> None:
    """At the weights that acted, of the steps and of what followed n steps later; burn-in changes nothing then."""
    algo, source = made(kind, n_step)
    chunks = [chunk.data for chunk in itertools.islice(source, 1)]
    (rollout,) = chunks
    algo.buffer.add(rollout)
    forward = algo.agent.scores
    memory = rollout.extras["memory"]
    values, after = zip(*(forward(rollout.obs[t], memory[t]) for t in range(40)), strict=True)
    checked = 0
    for stack in algo.buffer.sequences(5, 32, 8, burn_in):
        batch = rows(stack, 0)
        with torch.no_grad():
            now, then = algo.q(batch.obs).numpy(), algo.q(batch.next_obs).numpy()
        for i, number in enumerate(batch.index.tolist()):
            if number < 0:
                continue
            t, e = divmod(number, E)
            assert now[i] == pytest.approx(values[t][e], abs=1e-5)
            m = 1
            while m < n_step and (t + m - 1, e) not in rollout.final_obs and t + m < 40:
                m += 1
            last = (t + m - 1, e)
            final = rollout.final_obs.get(last, rollout.obs[t + m, e])
            assert then[i] == pytest.approx(forward(final[None], after[t + m - 1][e : e + 1])[0][0], abs=1e-5)
            checked += 1
    assert checked > 80


def test_what_weighs_nothing_moves_nothing() -> None:
    """A loss of sequences is the mean over the steps that there are."""
    algo, source = made("gru")
    for chunk in itertools.islice(source, 1):
        algo.buffer.add(chunk.data)
    (stack,) = algo.buffer.sequences(1, 64, 32, 0)
    batch = rows(stack, 0)
    there = batch.index >= 0
    assert 0 < there.sum() < len(there)
    loss, aux = algo.loss(algo.nets, batch)
    errors = torch.nn.functional.huber_loss(aux["td_error"], torch.zeros_like(aux["td_error"]), reduction="none")
    assert loss.item() == pytest.approx(errors[there].mean().item(), rel=1e-5)


@pytest.mark.parametrize("burn_in", [0, 3])
def test_what_was_seen_and_what_came_next_lie_on_one_way(burn_in: int) -> None:
    """The values of both, and the gradient of the first alone, as two passes have them."""
    algo, source = made("gru", n_step=3, double=True)
    for chunk in itertools.islice(source, 1):
        algo.buffer.add(chunk.data)
    for stack in algo.buffer.sequences(3, 64, 8, burn_in):
        batch = rows(stack, 0)
        now, then = parts.online(algo.q, batch, PLAIN, chooses=True)
        assert then is not None and not then.requires_grad
        torch.testing.assert_close((now, then), (algo.q(batch.obs), algo.q(batch.next_obs).detach()), rtol=0, atol=0)
        both = [torch.autograd.grad(x.square().mean(), algo.q.parameters()) for x in (now, algo.q(batch.obs))]
        torch.testing.assert_close(*both)


@pytest.mark.parametrize("options", [{}, {"double": True}, {"munchausen": True}])
def test_masks_stay_with_their_steps(options: dict[str, Any]) -> None:
    """Where all actions can be taken the loss is that without masks; where one cannot, targets do without it.

    Munchausen's policy is certain of an only action, and adds nothing.
    """
    algo, source = made("gru", n_step=2, **options)
    for chunk in itertools.islice(source, 1):
        algo.buffer.add(chunk.data)
    (stack,) = algo.buffer.sequences(1, 64, 8, 3)
    plain = rows(stack, 0)

    def masked(path: torch.Tensor) -> Any:
        """The same batch with masks along the path."""

        def seen(obs: Any) -> Any:
            return {**obs, MASK: path[obs["place"]]}

        return plain._replace(obs=seen(plain.obs), next_obs=seen(plain.next_obs))

    expected, aux = algo.loss(algo.nets, plain)
    algo.masked = True
    everything = torch.ones(len(plain.obs["path"]), 2, dtype=torch.bool)
    loss, also = algo.loss(algo.nets, masked(everything))
    torch.testing.assert_close((loss, also), (expected, aux), rtol=0, atol=0)
    first = everything.clone()
    first[:, 1] = False
    with torch.no_grad():
        target = plain.reward + plain.discount * algo.nets.q_target(plain.next_obs)[:, 0]
        error = (target - gather(algo.q(plain.obs), plain.action)).abs()
    there = (plain.index >= 0) & (plain.action == 0)
    found = algo.loss(algo.nets, masked(first))[1]["td_error"]
    torch.testing.assert_close(found[there], error[there])


def test_masks_are_drawn_with_their_sequences() -> None:
    """From an environment to the loss: the mask of each step, and of what came n steps later."""
    with closing(learner("algo=dqn", "env.id=Taxi-v4", "network=gru", "buffer.n_step=2", "~tuned")) as one:
        one.learn(2)
        buffer = one.parts.algo.buffer  # type: ignore[attr-defined]
        (stack,) = buffer.sequences(1, 32, 8, 2)
        batch = rows(stack, 0)
        for obs in (batch.obs, batch.next_obs):
            state = obs["path"]["obs"][obs["place"]]
            assert torch.equal(obs[MASK], obs["path"][MASK][obs["place"]])
            env = gym.make("Taxi-v4").unwrapped
            expected = np.array([env.action_mask(int(s)) for s in state], bool)
            assert (obs[MASK].numpy() == expected).all() and not expected.all()
        could = batch.obs[MASK].gather(1, batch.action[:, None])[:, 0]
        assert could[batch.index >= 0].all()


@pytest.mark.parametrize("double", [False, True])
def test_quantiles_along_sequences_are_those_of_the_rows(double: bool) -> None:
    """Asked for the fractions that it answers unasked, the network gives the same; and it learns."""
    torch.manual_seed(0)
    words = ["network=gru", "network.hidden=[8]", "network.memory_size=6", "algo.burn_in=2", f"algo.double={double}"]
    with closing(learner("algo=iqn", "env=cartpole", *words, "~tuned")) as one:
        one.learn(4)
        algo: Any = one.parts.algo
        (stack,) = algo.buffer.sequences(1, 32, 8, 2)
        batch = rows(stack, 0)
        tau = midpoints(algo.cfg.acting_fractions, like=batch.reward).expand(len(batch.reward), -1)
        with torch.no_grad():
            torch.testing.assert_close(algo.q(batch.obs, tau=tau), algo.q(batch.obs))
            assert algo.q(batch.obs, tau=tau[:, :3]).shape == (len(batch.reward), 3, 2)


@pytest.mark.parametrize("name", ["dqn", "iqn"])
def test_it_is_held_to_the_contract(name: str) -> None:
    words = ["network=gru", "network.hidden=[8]", "network.memory_size=8", "algo.burn_in=4", "algo.sequence_length=8"]
    check_algorithm(name, "env=cartpole", "buffer=prioritized", "buffer.n_step=2", *words)


@pytest.mark.slow
@pytest.mark.parametrize("options", ["dqn", "c51 algo.v_min=0 algo.v_max=1", "qr_dqn algo.quantiles=8"])
def test_what_was_shown_at_the_beginning_is_recalled_at_the_end(options: str) -> None:
    """Half of the answers are right without memory."""
    words = f"algo={options} env=recall network=gru network.hidden=[] network.memory_size=16 env.num_envs=4 ~tuned"
    words += " algo.learning_rate=5e-3 algo.batch_size=192 algo.sequence_length=6 algo.train_freq=8 algo.tau=0.05"
    given = f"{words} total_timesteps=12000 algo.learning_starts=500".split()
    compose.set_up(given)
    parts, progress, returns = build.parts(validate(compose.compose(given).data)), Progress(12_000), []
    for chunk in parts.source:
        progress.advance(chunk)
        parts.algo.learn(chunk.data, progress)
        returns += [episode.episode_return for episode in chunk.episodes]
        if progress.done:
            break
    parts.close()
    assert np.mean(returns[-200:]) > 0.9
