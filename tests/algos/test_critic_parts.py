"""The parts that critics are made of, in losses of SAC, TD3 and DDPG: against what the networks say one by one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrun.algos.algorithm import Kit
from rlrun.algos.continuous.critics import CriticsConfig
from rlrun.algos.continuous.ddpg import DDPG, DDPGConfig
from rlrun.algos.continuous.sac import SAC, SACConfig
from rlrun.algos.continuous.scaling import ReturnScale
from rlrun.algos.continuous.td3 import TD3, TD3Config
from rlrun.algos.learners import Drawn
from rlrun.checks import bounds
from rlrun.compute import graph
from rlrun.compute.graph import GraphUpdate
from rlrun.errors import ConfigError
from rlrun.networks import NetworkConfig, RunningNorm, batch_statistics
from rlrun.networks.builder import build_mlp
from rlrun.ops.critics import Returns, pooled, truncated
from rlrun.ops.quantiles import midpoints, quantile_huber
from rlrun.types import Batch, EnvSpec, Progress, Rollout, Space

OBS = Space("box", (3,), np.dtype(np.float32))
ACTION = OBS._replace(shape=(2,), low=np.array([-2.0, 0.0], np.float32), high=np.array([2.0, 1.0], np.float32))
FOUR = Space("discrete", (), np.dtype(np.int64), n=4)
B = 6
SMALL = {"batch_size": B, "learning_starts": B, "random_steps": 0}


def made(
    kind: Any = SAC, config: Any = SACConfig, network: dict[str, Any] | None = None, critics: Any = None, **options: Any
) -> Any:
    """A learner with small networks; `critics` and `network` are their options."""
    torch.manual_seed(0)
    env = EnvSpec("test", OBS, ACTION if options.pop("continuous", True) else FOUR)
    cfg = config(**SMALL | options, critics=CriticsConfig(**critics or {}))
    build = partial(build_mlp, NetworkConfig(**{"hidden": [8, 8]} | (network or {})))
    algo = kind(cfg, Kit(env, network=build, rng=np.random.default_rng(0), sampling=np.random.default_rng(1)))
    with torch.no_grad():
        for parameter in (*algo.nets.actor.parameters(), *algo.nets.critics.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return algo


def batch(continuous: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    action = normal(B, 2).tanh() if continuous else torch.arange(B) % 4
    discount = torch.tensor([0.9, 0.0, 0.9, 0.9, 0.81, 0.9])
    return Batch(normal(B, 3), action, normal(B, 3), normal(B), discount, torch.rand(B), torch.arange(B))


def drawn(algo: Any) -> dict[str, Tensor]:
    return {name: values[0] for name, values in algo.draw(1, B).items()}


def chunk(algo: Any, step: int, steps: int = 1) -> tuple[Rollout, Progress]:
    rng, shape = np.random.default_rng(step), (steps, 1)
    none = np.zeros(shape, bool)
    obs, action = rng.normal(size=(steps + 1, 1, 3)).astype(np.float32), rng.uniform(0, 1, (*shape, 2))
    rollout = Rollout(obs, action.astype(np.float32), rng.normal(size=shape).astype(np.float32), none, none, {}, {})
    return rollout, Progress(10**6, env_steps=step + steps)


# --- which critics count ---------------------------------------------------------------------------------------------


def test_a_target_of_redq_asks_two_that_are_drawn_and_its_actor_climbs_all() -> None:
    algo, data = made(critics={"count": 5, "aggregate": "subset", "subset": 2}, policy_delay=3), batch()
    numbers = drawn(algo)
    some = numbers["some"].tolist()
    assert len(set(some)) == 2 and set(some) <= set(range(5))
    with torch.no_grad():
        action, log_p = algo.policy.rsample(algo.nets.actor(data.next_obs), numbers["next_eps"])
        values = algo.nets.critics_target(data.next_obs, action)[..., 0]
        soft = torch.minimum(values[some[0]], values[some[1]]) - log_p - algo.policy.log_half
        target = data.reward + data.discount * soft
        error = algo.nets.critics(data.obs, data.action)[..., 0] - target
        loss, aux = algo.critic_loss(algo.nets, data, numbers)
        torch.testing.assert_close(loss, (data.weight * error.square().sum(0)).mean())
        torch.testing.assert_close(aux["td_error"], error.abs().mean(0))
        action, log_p = algo.policy.rsample(algo.nets.actor(data.obs), numbers["eps"])
        value = algo.nets.critics(data.obs, action)[..., 0].mean(0)
        expected = (log_p + algo.policy.log_half - value).mean()
        torch.testing.assert_close(algo.actor_loss(algo.nets, data, numbers)[1]["loss"], expected)
    draws = algo.draw(2000, B)["some"]
    counts = torch.bincount(draws.flatten(), minlength=5) / 4000
    assert counts.tolist() == pytest.approx([0.2] * 5, abs=0.03)


def test_a_target_of_tqc_is_without_the_highest_quantiles() -> None:
    algo, data = (
        made(critics={"count": 3, "aggregate": "truncated", "dropped": 2, "loss": "quantile", "quantiles": 4}),
        batch(),
    )
    numbers = drawn(algo)
    with torch.no_grad():
        action, log_p = algo.policy.rsample(algo.nets.actor(data.next_obs), numbers["next_eps"])
        quantiles = algo.nets.critics_target(data.next_obs, action)
        assert quantiles.shape == (3, B, 4)
        left = quantiles.permute(1, 0, 2).reshape(B, 12).sort().values[:, :6]
        samples = left - (log_p + algo.policy.log_half)[:, None]
        target = data.reward[:, None] + data.discount[:, None] * samples
        theta = algo.nets.critics(data.obs, data.action)
        error = sum(quantile_huber(theta[n], target, midpoints(4, like=theta)) for n in range(3))
        torch.testing.assert_close(algo.critic_loss(algo.nets, data, numbers)[0], (data.weight * error).mean())
        action, log_p = algo.policy.rsample(algo.nets.actor(data.obs), numbers["eps"])
        value = algo.nets.critics(data.obs, action).mean((0, 2))
        expected = (log_p + algo.policy.log_half - value).mean()
        torch.testing.assert_close(algo.actor_loss(algo.nets, data, numbers)[1]["loss"], expected)


@pytest.mark.parametrize("loss", ["huber", "categorical", "hl_gauss", "quantile"])
@pytest.mark.parametrize("continuous", [True, False])
def test_every_loss_draws_values_to_the_reward(loss: str, continuous: bool) -> None:
    """Where nothing follows."""
    algo = made(critics={"loss": loss}, continuous=continuous)
    data = batch(continuous)
    data = data._replace(discount=torch.zeros(B), weight=torch.ones(B))
    for _ in range(400):
        algo.optimiser.updates["critic"](Drawn(data, drawn(algo)), learning_rate=1e-2)
    output, _ = algo.outlook(algo.nets, data, algo.choice(algo.nets.actor, data.next_obs, torch.zeros(B, 2)).action, {})
    values = algo.estimate.returns(output).mean
    torch.testing.assert_close(values, data.reward.expand(2, B), rtol=0.1, atol=0.15)


@pytest.mark.parametrize(("kind", "config"), [(TD3, TD3Config), (DDPG, DDPGConfig)])
def test_other_actors_have_the_same_parts(kind: Any, config: Any) -> None:
    plain, data = made(kind, config, critics={"count": 2}), batch()
    with torch.no_grad():
        action = plain.policy.squash(plain.nets.actor(data.obs))
        values = plain.nets.critics(data.obs, action)[..., 0]
        numbers = {} if kind is DDPG else drawn(plain)
        torch.testing.assert_close(plain.actor_loss(plain.nets, data, numbers)[0], -values[0].mean())
    many = made(kind, config, critics={"count": 3, "aggregate": "subset", "dropout": 0.1}, tau=None)
    assert not many.targets
    with torch.no_grad():
        numbers = drawn(many) | {"actor_noise": torch.ones(3, B, 16)}
        action = many.policy.squash(many.nets.actor(data.obs))
        values = many.nets.critics(data.obs, action)[..., 0] / 1  # noise of ones drops nothing, but scales
        assert not torch.allclose(many.actor_loss(many.nets, data, numbers)[0], -values.mean())
        del numbers["actor_noise"]
        torch.testing.assert_close(many.actor_loss(many.nets, data, numbers)[0], -values.mean())


def test_each_pass_drops_units_of_its_own() -> None:
    algo, data = made(critics={"layer_norm": True, "dropout": 0.5}), batch()
    numbers = drawn(algo)
    assert {name for name in numbers if "noise" in name} == {"noise", "next_noise", "actor_noise"}
    assert not torch.equal(numbers["noise"], numbers["next_noise"])
    with torch.no_grad():
        action, _ = algo.policy.rsample(algo.nets.actor(data.next_obs), numbers["next_eps"])
        output, following = algo.outlook(algo.nets, data, action, numbers)
        torch.testing.assert_close(output, algo.nets.critics(data.obs, data.action, noise=numbers["noise"]))
        values = algo.nets.critics_target(data.next_obs, action, noise=numbers["next_noise"])
        torch.testing.assert_close(following.values, values.amin(0))


# --- batch norms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [None, 0.005])
def test_now_and_next_are_one_batch(tau: float | None) -> None:
    """CrossQ, without target networks, and XQC, with them: these see the same batch and gather nothing."""
    algo, data = made(network={"batch_norm": "after"}, tau=tau), batch()
    numbers = drawn(algo)
    assert bool(algo.targets) is (tau is not None) and ("critics_target" in algo.state) is (tau is not None)
    action, log_p = algo.policy.rsample(algo.nets.actor(data.next_obs), numbers["next_eps"])
    obs, actions = torch.cat([data.obs, data.next_obs]), torch.cat([data.action, action.detach()])
    other = made(network={"batch_norm": "after"}, tau=tau).nets  # with the same weights
    with batch_statistics(other.critics):
        own = other.critics(obs, actions)[..., 0]
    following = own.detach()[:, B:]
    if tau is not None:
        buffers = [x.clone() for x in algo.nets.critics_target.buffers()]
        with batch_statistics(other.critics_target):
            following = other.critics_target(obs, actions)[:, B:, 0].detach()
    soft = following.amin(0) - (log_p + algo.policy.log_half).detach()
    expected = (data.weight * (own[:, :B] - (data.reward + data.discount * soft)).square().sum(0)).mean()
    loss, _ = algo.critic_loss(algo.nets, data, numbers)
    torch.testing.assert_close(loss, expected)
    slopes = torch.autograd.grad(loss, list(algo.nets.critics.parameters()))
    torch.testing.assert_close(slopes, torch.autograd.grad(expected, list(other.critics.parameters())))
    for mine, its in zip(algo.nets.critics.buffers(), other.critics.buffers(), strict=True):
        torch.testing.assert_close(mine, its)
    if tau is not None:
        assert all(map(torch.equal, buffers, algo.nets.critics_target.buffers()))


def test_an_actor_s_norms_follow_its_own_updates_alone() -> None:
    algo, data = made(network={"batch_norm": "before"}, tau=None), batch()
    numbers = drawn(algo)

    def statistics(network: Any) -> list[Tensor]:
        return [x.clone() for x in network.buffers()]

    actor, critics = statistics(algo.nets.actor), statistics(algo.nets.critics)
    algo.critic_loss(algo.nets, data, numbers)
    assert all(map(torch.equal, actor, algo.nets.actor.buffers()))
    assert not all(map(torch.equal, critics, algo.nets.critics.buffers()))
    critics = statistics(algo.nets.critics)
    algo.actor_loss(algo.nets, data, numbers)
    assert all(map(torch.equal, critics, algo.nets.critics.buffers()))
    assert not all(map(torch.equal, actor, algo.nets.actor.buffers()))


def test_graphs_make_the_same_updates(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Of critics with norms, unit weights, dropout and a subset."""
    monkeypatch.setattr(graph, "load_or_compile", lambda function, *_: lambda tensors: function(*tensors))
    parts: Any = {"network": {"batch_norm": "before", "renorm_after": 1, "weight_norm": True}}
    parts["critics"] = {"count": 3, "aggregate": "subset", "dropout": 0.2, "loss": "categorical", "atoms": 11}
    eager, compiled = made(**parts), made(**parts)
    for name, update in compiled.optimiser.updates.items():
        copy = GraphUpdate(
            update.loss, compiled.nets, "critics" if name == "critic" else compiled.trained, update.rule,
            followers=update.followers, cache=tmp_path,
        )  # fmt: skip
        compiled.optimiser.turns[name] = compiled.optimiser.turns[name]._replace(update=copy)
    for _ in range(3):
        numbers = {name: values.clone() for name, values in eager.draw(1, B).items()}
        stack = Drawn(Batch(*(x.unsqueeze(0) for x in batch())), numbers)
        said = [next(iter(algo.optimiser.burst(stack, learning_rate=0.01))).aux for algo in (eager, compiled)]
        torch.testing.assert_close(*said, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(eager.nets.state_dict()), dict(compiled.nets.state_dict()), rtol=1e-4, atol=1e-5)


# --- scaled rewards, resets ------------------------------------------------------------------------------------------


def test_rewards_are_scaled_by_the_returns_so_far() -> None:
    scale, returns, running = ReturnScale(2, 0.5, 5.0), [], [0.0, 0.0]
    assert scale.divisor == 1.0
    rng = np.random.default_rng(0)
    for _ in range(4):
        reward, over = 100 * rng.normal(size=(3, 2)).astype(np.float32), rng.random((3, 2)) < 0.3
        scale.observe(Rollout(*[np.zeros(0)] * 2, reward, over, np.zeros((3, 2), bool), {}, {}))
        for t in range(3):
            for e in range(2):
                running[e] = 0.5 * running[e] + float(reward[t, e])
                returns.append(running[e])
                running[e] *= not over[t, e]
    assert scale.divisor == pytest.approx(max(np.std(returns), np.abs(returns).max() / 5), rel=1e-6)
    scale.bound = 0.1
    assert scale.divisor == pytest.approx(np.abs(returns).max() * 10, rel=1e-6)


def test_what_is_learned_from_are_scaled_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    algo, seen = made(return_bound=5.0, gradient_steps=2), []
    monkeypatch.setattr(algo, "outlook", lambda *args: seen.append(args[1].reward) or SAC.outlook(algo, *args))
    for step in range(B + 2):
        algo.learn(*chunk(algo, step))
    stored = {round(float(chunk(algo, step)[0].reward[0, 0]) / algo.scale.divisor, 5) for step in range(B + 2)}
    assert {round(float(x), 5) for x in seen[-1]} <= stored
    state = algo.state_dict()
    other = made(return_bound=5.0, gradient_steps=2)
    other.load_state_dict(state)
    assert other.scale.divisor == algo.scale.divisor


def test_networks_begin_anew() -> None:
    """After every so many steps, before the updates that follow; the same ones, wherever a run was interrupted."""
    options: Any = {"network": {"normalize_obs": True, "batch_norm": "after"}, "reset_every": 10, "tau": 0.1}
    algo = made(**options)

    def weights(algo: Any) -> list[Tensor]:
        return [x.clone() for x in (*algo.nets.parameters(), *algo.nets.buffers())]

    for step in range(10):
        algo.learn(*chunk(algo, step))
    assert algo.resets == 0 and algo.optimiser.updates["critic"].step > 0
    (state, before, global_state) = (algo.state_dict(), weights(algo), torch.get_rng_state())
    known = [x for x in algo.nets.modules() if isinstance(x, RunningNorm)]
    seen = [x.count.item() for x in known]
    calls: list[int] = []
    begin_anew = algo.begin_anew
    algo.begin_anew = lambda: (calls.append(1), begin_anew())
    algo.buffer.add(chunk(algo, 99)[0])
    algo.cfg.learning_starts, algo.warm = 10**9, 10**9  # so that what is new can be seen
    algo.learn(*chunk(algo, 10))
    assert calls == [1] and algo.resets == 1
    assert torch.equal(torch.get_rng_state(), global_state)
    changed = [not torch.equal(*pair) for pair in zip(before, weights(algo), strict=True)]
    assert all(changed[i] for i, (name, _) in enumerate(algo.nets.named_parameters()) if "weight" in name)
    assert [x.count.item() for x in known] == [count + 1 for count in seen]
    assert algo.nets.log_alpha.item() == 0.0
    for name, update in algo.optimiser.updates.items():
        assert update.step == 0 and not any(x.any() for x in update.slots["mean"]), name
    for ours, theirs in zip(algo.nets.critics_target.parameters(), algo.nets.critics.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    algo.learn(*chunk(algo, 11))
    assert calls == [1]
    other = made(**options)
    other.load_state_dict(state)
    other.warm = 10**9
    other.learn(*chunk(other, 10))
    assert all(map(torch.equal, other.nets.parameters(), algo.nets.parameters()))


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"aggregate": "truncated"}, r"aggregate: truncates quantiles.*write loss=quantile"),
        (
            {"aggregate": "truncated", "loss": "quantile", "quantiles": 3, "dropped": 3},
            "less than 3 quantiles.*write dropped=2, or quant",
        ),
        ({"aggregate": "subset", "subset": 3}, "3 cannot be drawn of 2 critics"),
        ({"quantiles": 10}, "quantiles: has no meaning with loss=mse.*write quantiles=25, or loss=quantile"),
        ({"subset": 5}, "subset: has no meaning with aggregate=minimum"),
        ({"loss": "categorical", "v_min": 7.0}, "v_max: must be above v_min = 7"),
        ({"loss": "quantle"}, "quantile"),
        ({"dropout": 1.0}, r"in \[0, 0\.99\]"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        CriticsConfig(**options)
    assert bounds(CriticsConfig)["count"]


def test_there_is_no_interval_without_a_target_network() -> None:
    with pytest.raises(ConfigError, match="tau=null"):
        SACConfig(tau=None, target_update_interval=10)
    returns = Returns(torch.randn(2, 3, 4))
    assert pooled(returns).values.shape == (3, 8) and truncated(returns, 2).values.shape == (3, 6)
