"""DDPG, TD3 and SAC against numbers worked out by hand, and what of them is easy to get wrong."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import AffineTransform, Independent, Normal, TanhTransform, TransformedDistribution

from rlrun import cli, registry
from rlrun.agents.actor import NoiseConfig, NoisyActor
from rlrun.algos.algorithm import Kit
from rlrun.algos.continuous.actor_critic import ActorCritic
from rlrun.algos.continuous.critics import CriticsConfig
from rlrun.algos.learners import Drawn
from rlrun.compute.device import Device, DeviceConfig
from rlrun.config import plugins
from rlrun.errors import ConfigError
from rlrun.experience.acting import Acting
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.ops.distributions import SquashedGaussian
from rlrun.ops.fields import rows
from rlrun.types import Batch, EnvSpec, Space

B = 16
OBS = Space("box", (3,), np.dtype(np.float32))
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)
MIDDLE, HALF = torch.tensor([0.0, 2.5]), torch.tensor([2.0, 2.5])
BOX = Space("box", (2,), np.dtype(np.float32), low=LOW, high=HIGH)
THREE = Space("discrete", (), np.dtype(np.int64), n=3)


def build(name: str, actions: Space = BOX, **options: Any) -> Any:
    plugins.load_installed()
    torch.manual_seed(1)
    entry, rng = registry.get("algo", name), np.random.default_rng
    assert entry.config is not None
    network = partial(build_mlp, NetworkConfig(hidden=[8]))
    kit = Kit(EnvSpec("test", OBS, actions, num_envs=2), network, None, Device(DeviceConfig(accelerator="cpu")), rng(2))
    return entry.factory(entry.config(**{"batch_size": B, **options}), kit)


def transitions(actions: Space = BOX, *stack: int) -> Batch:
    shape, generator = (*stack, B), torch.Generator().manual_seed(3)
    uniform = torch.rand((*shape, 2), generator=generator)
    action = MIDDLE + HALF * (2 * uniform - 1) if actions is BOX else (3 * uniform[..., 0]).long()
    obs, next_obs, reward = (torch.randn((*shape, *n), generator=generator) for n in ((3,), (3,), ()))
    discount = torch.where(torch.rand(shape, generator=generator) < 0.3, 0.0, 0.9)  # some ended, none was cut
    weight = torch.rand(shape, generator=generator)
    return Batch(obs, action, next_obs, reward, discount, weight, torch.zeros(shape, dtype=torch.int64))


def drawn(algo: ActorCritic, *stack: int) -> Any:
    return {name: x if stack else x[0] for name, x in algo.draw(*(stack or (1,)), B).items()}


def critic_error(algo: Any, batch: Batch, target: torch.Tensor) -> torch.Tensor:
    """The sum over critics of squared errors, one critic after the other."""
    values = [algo.critics(batch.obs, batch.action, slice(n, n + 1))[0, :, 0] for n in range(algo.critics.count)]
    return (batch.weight * sum((value - target) ** 2 for value in values)).mean()  # type: ignore[arg-type]


def test_ddpg_s_losses_by_hand() -> None:
    algo, batch = build("ddpg"), transitions()
    action = MIDDLE + HALF * torch.tanh(algo.actor_target(batch.next_obs))
    target = batch.reward + batch.discount * algo.critics_target(batch.next_obs, action)[0, :, 0]
    torch.testing.assert_close(algo.critic_loss(algo.nets, batch)[0], critic_error(algo, batch, target.detach()))
    action = MIDDLE + HALF * torch.tanh(algo.actor(batch.obs))
    torch.testing.assert_close(algo.actor_loss(algo.nets, batch)[0], -algo.critics(batch.obs, action).mean())


def test_td3_s_losses_by_hand() -> None:
    algo, batch = build("td3", target_noise=0.4, noise_clip=0.3), transitions()
    eps = drawn(algo)["eps"]
    assert (eps.abs() > 0.75).any(), "nothing is cut off"
    unit = torch.tanh(algo.actor_target(batch.next_obs)) + (0.4 * eps).clip(-0.3, 0.3)
    action = MIDDLE + HALF * unit.clip(-1, 1)
    assert ((action >= torch.from_numpy(LOW)) & (action <= torch.from_numpy(HIGH))).all()
    target = batch.reward + batch.discount * algo.critics_target(batch.next_obs, action)[..., 0].min(0).values
    loss, aux = algo.critic_loss(algo.nets, batch, {"eps": eps})
    torch.testing.assert_close(loss, critic_error(algo, batch, target.detach()))
    errors = (algo.critics(batch.obs, batch.action)[..., 0] - target).abs().mean(0)
    torch.testing.assert_close(aux["td_error"], errors.detach())
    action = MIDDLE + HALF * torch.tanh(algo.actor(batch.obs))
    first = algo.critics(batch.obs, action)[0].mean()
    torch.testing.assert_close(algo.actor_loss(algo.nets, batch, {})[0], -first)


@pytest.mark.parametrize("bursts", [[1] * 9, [3, 1, 5], [2, 7], [9]])
def test_td3_s_actor_and_targets_move_on_every_other_batch_whatever_the_bursts(bursts: list[int]) -> None:
    algo, stack, moves = build("td3"), transitions(BOX, 9), []
    noise, begun = drawn(algo, 9), 0
    followed = [algo.actor, algo.actor_target.module, algo.critics_target.module]
    for burst in bursts:
        part = slice(begun, begun + burst)
        inputs = Drawn(rows(stack, part), rows(noise, part))
        before = [[p.clone() for p in net.parameters()] for net in followed]
        for piece in algo.optimiser.burst(inputs, learning_rate=1e-3):
            now = [[p.clone() for p in net.parameters()] for net in followed]
            moved = {not torch.equal(a[0], b[0]) for a, b in zip(before, now, strict=True)}
            assert len(moved) == 1, "they move together"
            assert moved == {"actor_loss" in piece.aux}
            moves += moved
            before = now
        begun += burst
    assert moves == [False, True] * 4 + [False]


def test_sac_s_losses_by_hand() -> None:
    algo, batch = build("sac", alpha_init=0.3), transitions()
    noise = drawn(algo)

    def sample(obs: torch.Tensor, eps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """An action, and its log-density in units of half the range."""
        mean, log_std = algo.actor(obs).chunk(2, -1)
        base = Independent(Normal(mean, log_std.clip(-20, 2).exp()), 1)
        unit = TransformedDistribution(base, [TanhTransform(cache_size=1)])
        drawn = torch.tanh(mean + log_std.clip(-20, 2).exp() * eps)
        return MIDDLE + HALF * drawn, unit.log_prob(drawn)

    action, log_p = sample(batch.next_obs, noise["next_eps"])
    value = algo.critics_target(batch.next_obs, action)[..., 0].min(0).values - 0.3 * log_p
    target = (batch.reward + batch.discount * value).detach()
    loss, _ = algo.critic_loss(algo.nets, batch, noise)
    torch.testing.assert_close(loss, critic_error(algo, batch, target), rtol=1e-4, atol=1e-5)

    action, log_p = sample(batch.obs, noise["eps"])
    lowest = algo.critics(batch.obs, action)[..., 0].min(0).values
    expected = (0.3 * log_p - lowest).mean()
    loss, aux = algo.actor_loss(algo.nets, batch, noise)
    torch.testing.assert_close(aux["loss"], expected, rtol=1e-4, atol=1e-5)
    assert float(aux["entropy"]) == pytest.approx(-float(log_p.detach().mean()), rel=1e-4)

    ours = torch.autograd.grad(loss, [*algo.actor.parameters(), algo.log_alpha])
    theirs = torch.autograd.grad(expected, list(algo.actor.parameters()))
    for mine, its in zip(ours, theirs, strict=False):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-5)
    assert float(ours[-1]) == pytest.approx(
        -float(log_p.detach().mean()) + 2, rel=1e-4
    )  # the target is -1 per dimension


def test_a_density_is_that_of_torch_with_bounds_of_its_own_in_every_dimension() -> None:
    """Not so near to a bound that torch, which starts from the action, finds too few digits left."""
    policy, generator = SquashedGaussian((2,), LOW, HIGH, log_std="state"), torch.Generator().manual_seed(0)
    output, noise = (torch.randn(200, size, dtype=torch.float64, generator=generator) for size in (4, 2))
    output = 0.7 * output.clamp(-2, 2)
    action, log_p = policy.rsample(output, noise.clamp(-2, 2))
    mean, log_std = output.chunk(2, -1)
    there = [TanhTransform(), AffineTransform(MIDDLE.double(), HALF.double())]
    theirs = TransformedDistribution(Normal(mean, log_std.exp()), there)
    torch.testing.assert_close(log_p, theirs.log_prob(action).sum(-1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("actions", [BOX, THREE], ids=["box", "discrete"])
@pytest.mark.parametrize(("target", "direction"), [(-10.0, -1), (10.0, 1)])
def test_the_temperature_falls_where_there_is_too_much_entropy_and_rises_where_too_little(
    actions: Space, target: float, direction: int
) -> None:
    algo, stack = build("sac", actions, target_entropy=str(target)), transitions(actions, 4)
    for _, inputs in algo._inputs(stack):
        said = [piece.aux["alpha"] for piece in algo.optimiser.burst(inputs, learning_rate=1e-2)]
    assert float(said[0]) == 1.0
    assert float(algo.log_alpha.detach()) * direction > 0.03
    assert math.log(float(said[-1])) * direction > 0  # what is logged is what counts


def test_a_fixed_temperature_stays() -> None:
    algo = build("sac", alpha="0.2")
    for _, inputs in algo._inputs(transitions(BOX, 2)):
        list(algo.optimiser.burst(inputs, learning_rate=1e-2))
    assert float(algo.log_alpha.detach().exp()) == pytest.approx(0.2)


def test_target_entropy_is_per_dimension_and_of_a_choice_a_share_of_what_there_can_be() -> None:
    assert build("sac").target_entropy == -2
    assert build("sac", target_entropy="-0.5").target_entropy == -1
    assert build("sac", THREE).target_entropy == pytest.approx(0.98 * math.log(3))


def test_discrete_sac_sums_over_its_actions() -> None:
    algo, batch = build("sac", THREE, alpha="0.3"), transitions(THREE)
    p = algo.actor(batch.next_obs).softmax(-1)
    value = (p * (algo.critics_target(batch.next_obs).min(0).values - 0.3 * p.log())).sum(-1)
    target = (batch.reward + batch.discount * value).detach()
    taken = algo.critics(batch.obs).gather(-1, batch.action.expand(2, -1).unsqueeze(-1))[..., 0]
    expected = (batch.weight * (taken - target).square().sum(0)).mean()
    torch.testing.assert_close(algo.critic_loss(algo.nets, batch, drawn(algo))[0], expected)
    p = algo.actor(batch.obs).softmax(-1)
    expected = (p * (0.3 * p.log() - algo.critics(batch.obs).min(0).values)).sum(-1).mean()
    torch.testing.assert_close(algo.actor_loss(algo.nets, batch, drawn(algo))[1]["loss"], expected)


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac"])
def test_the_actor_s_step_leaves_the_critics_alone_and_theirs_the_actor(name: str) -> None:
    algo = build(name)
    batch = rows(next(algo._inputs(transitions(BOX, 1)))[1], 0)
    for part, own, other in (("critic", algo.critics, algo.actor), ("actor", algo.actor, algo.critics)):
        before = [[p.clone() for p in net.parameters()] for net in (own, other)]
        algo.optimiser.updates[part](batch, learning_rate=1e-3)
        assert not all(map(torch.equal, before[0], own.parameters()))
        assert all(map(torch.equal, before[1], other.parameters()))


def test_the_actor_s_learning_rate_is_its_own() -> None:
    algo = build("ddpg", learning_rate=1e-3, actor_learning_rate=1e-5)
    before = {name: [p.clone() for p in getattr(algo, name).parameters()] for name in ("actor", "critics")}
    for _, inputs in algo._inputs(transitions(BOX, 1)):
        list(algo.optimiser.burst(inputs, learning_rate=1e-3))
    steps = {
        name: max(float((p - q).abs().max()) for p, q in zip(getattr(algo, name).parameters(), old, strict=True))
        for name, old in before.items()
    }
    assert steps == pytest.approx({"actor": 1e-5, "critics": 1e-3}, rel=0.05)  # Adam's first step is the rate


# --- noise -----------------------------------------------------------------------------------------------------------


def noisy(kind: str, std: float, random_steps: int = 0, **options: Any) -> NoisyActor:
    policy = SquashedGaussian((2,), LOW, HIGH)
    noise, rng = NoiseConfig(kind, std=std, **options), np.random.default_rng(0)
    return NoisyActor(lambda obs: np.zeros((len(obs), 2)), policy, rng, random_steps, low=LOW, high=HIGH, noise=noise)


def test_noise_is_in_units_of_half_the_range_and_cut_off_at_the_bounds() -> None:
    obs = np.zeros((20_000, 3), np.float32)
    action, memory, _ = noisy("gaussian", 0.1).act(obs, None, explore=True, env_steps=0)
    assert memory is None
    np.testing.assert_allclose(action.mean(0), MIDDLE, atol=0.01)
    np.testing.assert_allclose(action.std(0), 0.1 * HALF, rtol=0.03)
    action, _, _ = noisy("gaussian", 2.0).act(obs, None, explore=True, env_steps=0)
    assert (action.min(0) == LOW).all() and (action.max(0) == HIGH).all()


@pytest.mark.parametrize("kind", ["gaussian", "ornstein_uhlenbeck", "none"])
def test_greedy_play_has_no_noise(kind: str) -> None:
    actor, obs = noisy(kind, 0.5), np.zeros((2, 3), np.float32)
    action, _, _ = actor.act(obs, actor.initial_memory(2), explore=False, env_steps=0)
    np.testing.assert_allclose(action, [MIDDLE.tolist()] * 2)


def test_noise_stands_on_top_of_what_a_stochastic_policy_samples() -> None:
    """Of independent deviations .05 and .1 in units of half the range, small enough that no squash or bound is felt."""
    obs, size = np.zeros((20_000, 3), np.float32), len(LOW)
    output = np.concatenate([np.zeros((20_000, size)), np.full((20_000, size), np.log(0.05))], 1).astype(np.float32)
    policy = SquashedGaussian((size,), LOW, HIGH, log_std="state")
    rng, noise = np.random.default_rng(0), NoiseConfig("gaussian", std=0.1)
    actor = NoisyActor(lambda _: output, policy, rng, low=LOW, high=HIGH, noise=noise, samples=True)
    action, _, _ = actor.act(obs, None, explore=True, env_steps=0)
    np.testing.assert_allclose(action.std(0), (0.05**2 + 0.1**2) ** 0.5 * HALF, rtol=0.03)
    greedy, _, _ = actor.act(obs, None, explore=False, env_steps=0)
    np.testing.assert_allclose(greedy, np.broadcast_to(MIDDLE, greedy.shape), atol=1e-6)


def test_actions_are_uniform_until_the_warm_up_is_over() -> None:
    actor, obs = noisy("none", 0.1, random_steps=100), np.zeros((5000, 3), np.float32)
    action, _, _ = actor.act(obs, None, explore=True, env_steps=99)
    np.testing.assert_allclose(action.mean(0), MIDDLE, atol=0.1)
    np.testing.assert_allclose(action.std(0), HALF / 3**0.5, rtol=0.05)
    action, _, _ = actor.act(obs, None, explore=True, env_steps=100)
    np.testing.assert_allclose(action, [MIDDLE.tolist()] * 5000)


def test_a_process_goes_on_in_every_environment_and_begins_anew_where_an_episode_ends() -> None:
    """Ornstein-Uhlenbeck: after k steps the variance is sigma^2 (1 - a^2k) / (1 - a^2) with a = 1 - theta."""
    acting = Acting(noisy("ornstein_uhlenbeck", 0.05), 4000)
    obs = np.zeros((4000, 3), np.float32)
    for step in range(30):
        action, extras = acting(obs, explore=True, env_steps=step)
        assert "memory" not in extras, "a replay has no use for it"
    units = (action - MIDDLE.numpy()) / HALF.numpy()
    a = 1 - 0.15
    np.testing.assert_allclose(units.var(0), 0.05**2 * (1 - a**60) / (1 - a**2), rtol=0.08)
    acting.ended([1, 3])
    assert acting.memory is not None
    assert (acting.memory[[1, 3]] == 0).all() and (acting.memory[[0, 2]] != 0).all()
    acting(obs, explore=True, env_steps=30)
    assert np.abs(acting.memory[[1, 3]]).max() < np.abs(acting.memory).max()


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="theta: has no meaning with kind=gaussian"):
        NoiseConfig(theta=0.3)
    with pytest.raises(ConfigError, match=r"theta: must be less than 2 / dt = 4, or the noise grows without end"):
        NoiseConfig("ornstein_uhlenbeck", theta=4.0, dt=0.5)
    with pytest.raises(ConfigError, match=r"noise\.std: has no meaning with noise\.kind=none"):
        build("sac", noise=NoiseConfig("none", std=0.5))
    build("ddpg", noise=NoiseConfig("none", std=0.5))  # switched off: how strong it was does not matter
    with pytest.raises(ConfigError, match=r"critics\.dropout: is for hidden layers, and the critics have none"):
        build("td3", critics=CriticsConfig(hidden=[], dropout=0.1))
    with pytest.raises(ConfigError, match="alpha: must be auto or a number, got 'often'"):
        build("sac", alpha="often")
    with pytest.raises(ConfigError, match="alpha"):
        build("sac", alpha="0")


def test_bounds_are_needed_to_squash_into() -> None:
    with pytest.raises(ConfigError, match="no bounds to squash"):
        build("td3", BOX._replace(high=np.array([np.inf, 5.0], np.float32)))


# --- composition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", ["buffer=prioritized", "buffer.n_step=3"])
def test_any_replay_goes_with_any_of_them(buffer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("td3", "sac"):
        words = [f"algo={name}", "env=pendulum", buffer, "env.num_envs=3", "+smoke=on", f"hydra.run.dir={name}"]
        assert cli.main([*words, "total_timesteps=150", "logger.console=off"]) == 0
