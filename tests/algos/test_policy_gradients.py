"""VPG, A2C and TRPO against hand calculations and plain loops, and what all policy gradients share."""

from __future__ import annotations

import copy
import itertools
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import ARM, BOX, DISCRETE, E, T, kit, rollout

from rlrun.algos.policy.a2c import A2C, A2CConfig
from rlrun.algos.policy.actor_critic import by_head, heads, outputs
from rlrun.algos.policy.ppo import PPO, PPOConfig
from rlrun.algos.policy.trpo import TRPO, TRPOConfig, conjugate_gradient
from rlrun.algos.policy.vpg import VPG, VPGConfig
from rlrun.errors import ConfigError
from rlrun.networks.builder import NetworkConfig, build_mlp
from rlrun.networks.recurrent import GruConfig, build_gru
from rlrun.ops.distributions import distribution
from rlrun.ops.fields import rows
from rlrun.testing import check_algorithm, learner
from rlrun.types import Array, Progress, Rollout, Space

KINDS: dict[str, tuple[Any, Any]] = {
    "a2c": (A2C, A2CConfig),
    "ppo": (PPO, PPOConfig),
    "trpo": (TRPO, TRPOConfig),
    "vpg": (VPG, VPGConfig),
}
CUTS = {(2, 0): "terminated", (4, 1): "truncated", (7, 0): "truncated"}


def made(name: str, action: Space = DISCRETE, network: dict[str, Any] | None = None, **options: Any) -> Any:
    algo, config = KINDS[name]
    return algo(config(**{"n_steps": T} | options), kit(action, **network or {}))


def whole(algo: Any, data: Rollout, *recorded: str) -> dict[str, torch.Tensor]:
    """A rollout as one minibatch."""
    (stack,) = algo.stacks(algo.columns(data, algo.advantages(data), *recorded), data)
    batch: dict[str, torch.Tensor] = rows(stack, 0)
    return batch


def weights(algo: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in algo.network.parameters()]


# --- what a rollout says ---------------------------------------------------------------------------------------------


def looped(algo: Any, data: Rollout, lam: float) -> Array:
    """GAE [T, E] by the textbook; without values V is 0."""

    def value(obs: Array) -> Array:
        return algo.agent.value(obs) if algo.agent.has_value else np.zeros(len(obs))

    expected = np.zeros((T, E))
    for e in range(E):
        running = 0.0
        for t in reversed(range(T)):
            following, running = value(data.obs[t + 1])[e], lam * running
            if data.terminated[t, e]:
                following, running = 0.0, 0.0
            elif data.truncated[t, e]:
                following, running = value(data.final_obs[t, e][None])[0], 0.0
            running = data.reward[t, e] + 0.9 * following - value(data.obs[t])[e] + 0.9 * running
            expected[t, e] = running
    return expected


@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("name", KINDS)
def test_what_follows_a_cut_is_the_value_of_the_true_last_observation(name: str, lam: float) -> None:
    algo = made(name, gamma=0.9, gae_lambda=lam)
    data = rollout(algo, CUTS)
    advantage = algo.advantages(data)
    assert advantage == pytest.approx(looped(algo, data, lam), rel=1e-4, abs=1e-5)
    returns = algo.columns(data, advantage)["returns"]
    assert returns == pytest.approx(advantage + data.extras["value"])


def test_without_values_returns_are_the_rewards_to_go() -> None:
    algo = made("vpg", baseline="none", gamma=0.9)
    data = rollout(algo, CUTS)
    assert {*data.extras} == {"log_prob"}
    assert algo.advantages(data) == pytest.approx(looped(algo, data, 1.0), rel=1e-4, abs=1e-5)


# --- one step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["none", "value"])
def test_the_policy_gradient_by_hand(baseline: str) -> None:
    """Of a linear softmax policy: dL/dW = E[ A (p - 1_a) s' ]."""
    algo = made("vpg", network={"hidden": []}, baseline=baseline)
    data = rollout(algo)
    batch = whole(algo, data)
    s, a, advantage = (batch[key].numpy() for key in ("obs", "action", "advantage"))
    assert advantage.mean() == pytest.approx(0, abs=1e-6)
    assert advantage.std(ddof=1) == pytest.approx(1, abs=1e-5)
    weight, bias = (parameter.detach().numpy() for parameter in algo.network.branches[0].parameters())
    p = np.exp(s @ weight.T + bias)
    p /= p.sum(1, keepdims=True)
    slope = advantage[:, None] * (p - np.eye(4)[a]) / len(s)
    (by_weight, by_bias), aux = algo.optimiser.gradients(batch)
    assert by_weight.numpy() == pytest.approx(slope.T @ s, abs=1e-6)
    assert by_bias.numpy() == pytest.approx(slope.sum(0), abs=1e-6)
    assert aux["entropy"].item() == pytest.approx(-(p * np.log(p)).sum(1).mean(), abs=1e-6)


@pytest.mark.parametrize("action", [DISCRETE, ARM])
def test_updates_of_a2c_are_those_of_a_plain_loop(action: Space) -> None:
    options = {"gamma": 0.9, "ent_coef": 0.02, "vf_coef": 0.4, "max_grad_norm": 0.3, "learning_rate": 0.01}
    algo, twin = made("a2c", action, **options), made("a2c", action, **options).network
    optimiser = torch.optim.RMSprop(twin.parameters(), lr=0.01, alpha=0.99, eps=1e-5)
    for seed in range(4):
        data = rollout(algo, CUTS, seed)
        advantage = torch.from_numpy(looped(algo, data, 1.0)).float().flatten()
        returns = advantage + torch.from_numpy(data.extras["value"]).flatten()
        output, value = twin(torch.from_numpy(data.obs[:-1]).flatten(0, 1))
        taken = torch.from_numpy(data.action).flatten(0, 1)
        if action is DISCRETE:
            policy: Any = torch.distributions.Categorical(logits=output)
        else:
            mean, log_std = output.chunk(2, -1)
            policy = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)  # type: ignore
        loss = -(policy.log_prob(taken) * advantage).mean() - 0.02 * policy.entropy().mean()
        loss = loss + 0.4 * (value[:, 0] - returns).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.3)
        optimiser.step()
        metrics = algo.learn(data, Progress(1000, env_steps=T * E))
        assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-4, abs=1e-5)
        for ours, theirs in zip(algo.network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "updates"), [("a2c", 1), ("vpg", 1 + 3 * 2), ("trpo", 1 + 3 * 2)])
def test_the_policy_makes_one_step_on_each_rollout(name: str, updates: int) -> None:
    options: dict[str, Any] = {} if name == "a2c" else {"n_critic_updates": 3, "batch_size": 8}
    algo, progress = made(name, **options), Progress(1000)
    metrics = algo.learn(rollout(algo), progress)
    assert progress.gradient_steps == updates
    assert metrics["entropy"] == -metrics["entropy_loss"] > 0
    assert {"value_loss", "explained_variance", "learning_rate"} <= {*metrics}


# --- a trust region --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_fisher_vector_products_are_those_of_the_matrix(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """F = E_s sum_a p(a|s) d log p d log p', from the gradient of every log-probability there is."""
    algo = made("trpo", network={"hidden": [3]}, cg_damping=0.0, fisher_share=share)
    batch = whole(algo, rollout(algo), "log_prob")
    size = sum(parameter.numel() for parameter in algo.parameters)
    fisher = torch.zeros(size, size)
    drawn = range(T * E) if share == 1 else copy.deepcopy(algo.minibatches.rng).permutation(T * E)[:5]
    log_p = algo.network(batch["obs"])[0].log_softmax(-1)[[*drawn]]
    for row in log_p:
        for one in row:
            g = algo.gradient(one, retain_graph=True)
            fisher += one.exp().detach() * torch.outer(g, g) / len(log_p)
    products: list[torch.Tensor] = []

    def spy(product: Any, b: torch.Tensor, steps: int) -> torch.Tensor:
        products.extend([product(e) for e in torch.eye(size)])
        return conjugate_gradient(product, b, steps)

    monkeypatch.setattr("rlrun.algos.policy.trpo.conjugate_gradient", spy)
    algo.improve(batch)
    torch.testing.assert_close(torch.stack(products), fisher, rtol=1e-3, atol=1e-6)


def test_conjugate_gradients_solve_the_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    root, b = torch.randn(6, 6, generator=generator).double(), torch.randn(6, generator=generator).double()
    a = root @ root.T + torch.eye(6)
    torch.testing.assert_close(conjugate_gradient(lambda v: a @ v, b, 6), torch.linalg.solve(a, b))
    assert conjugate_gradient(lambda v: a @ v, 0 * b, 6).tolist() == [0] * 6


@pytest.mark.parametrize("action", [DISCRETE, ARM])
@pytest.mark.parametrize(("target_kl", "share"), [(1e-3, 1.0), (0.05, 1.0), (1e-3, 0.7)])
def test_the_step_stays_in_its_region_and_improves(action: Space, target_kl: float, share: float) -> None:
    algo = made("trpo", action, target_kl=target_kl, fisher_share=share)
    data = rollout(algo)
    batch, before, values = whole(algo, data, "log_prob"), weights(algo), algo.network.branches[1][-1].weight.clone()
    old = algo.network(batch["obs"])[0].detach()
    found = algo.improve(batch)
    new = algo.network(batch["obs"])[0].detach()
    assert found["line_search_success"] == 1
    assert 0.3 * target_kl < found["kl"].item() <= target_kl
    assert algo.policy.kl(old, new).mean().item() == pytest.approx(found["kl"].item(), rel=1e-4)
    ratio = (algo.policy.log_prob(new, batch["action"]) - algo.policy.log_prob(old, batch["action"])).exp()
    assert found["policy_objective"].item() == pytest.approx((ratio * batch["advantage"]).mean().item(), abs=1e-5)
    assert found["policy_objective"].item() > (batch["advantage"]).mean().item() + 1e-4
    assert not all(torch.equal(*pair) for pair in zip(before, algo.network.parameters(), strict=True))
    assert torch.equal(values, algo.network.branches[1][-1].weight)
    acted, _ = algo.agent.forward(data.obs[0])  # by views of the same memory
    assert acted == pytest.approx(new[:E].numpy(), abs=1e-5)


@pytest.mark.parametrize("why", ["nothing to gain", "too far"])
def test_where_no_step_will_do_the_policy_stays(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    algo = made("trpo", line_search_max_iter=3)
    batch, before, kl = whole(algo, rollout(algo), "log_prob"), weights(algo), algo.policy.kl
    if why == "nothing to gain":
        batch["advantage"] = torch.zeros(T * E)
    else:  # the divergence is not what its curvature says
        monkeypatch.setattr(algo.policy, "kl", lambda *args: kl(*args) * (1 if torch.is_grad_enabled() else 100))
    found = algo.improve(batch)
    assert found["line_search_success"] == 0
    assert found["kl"].item() == 0
    assert all(torch.equal(*pair) for pair in zip(before, algo.network.parameters(), strict=True))


# --- values trained apart --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_a_step_size_of_the_values_alone(name: str) -> None:
    """It moves them, and nothing else."""

    def learned(rate: float | None) -> Any:
        algo = made(name, value_learning_rate=rate, max_grad_norm=None, ent_coef=0.0)
        algo.learn(rollout(algo), Progress(1000, env_steps=T * E))
        return algo.network.branches

    start, slow, fast, jointly = made(name).network.branches, learned(1e-30), learned(0.01), learned(None)
    for branch, same in ((0, True), (1, False)):
        pairs = [zip(slow[branch].parameters(), other[branch].parameters(), strict=True) for other in (fast, jointly)]
        for one, other in itertools.chain(*pairs):
            assert torch.allclose(one, other, atol=1e-6) == same
    for one, other in zip(slow[1].parameters(), start[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", KINDS)
def test_layers_in_common_are_not_trained_apart(name: str) -> None:
    options = {"value_learning_rate": 0.01} if name in ("a2c", "ppo") else {}
    with pytest.raises(ConfigError, match=r"network: policy and values are trained apart"):
        made(name, network={"shared": True}, **options)


def test_trpo_does_not_keep_weights_at_length_1() -> None:
    with pytest.raises(ConfigError, match=r"network.weight_norm: .* would not keep weights at length 1"):
        made("trpo", network={"weight_norm": True})


def test_which_parameters_a_head_depends_on() -> None:
    """Asked of the network itself, whatever is inside: heads, torsos that remember, encoders of several fields."""
    fields = {"a": BOX, "b": Space("discrete", (), np.dtype(np.int64), n=3)}
    parts = Space("dict", (), np.dtype([("a", "f4", (3,)), ("b", "i8")]), fields=fields)
    kinds: list[tuple[Any, Any]] = [(build_mlp, NetworkConfig), (build_gru, GruConfig)]
    for space, (builder, config), shared in itertools.product((BOX, parts), kinds, (False, True)):
        network = builder(config(hidden=[4], shared=shared), space, *heads(distribution(ARM)))
        policy, value = by_head(network, space)
        assert {*policy} | {*value} == {name for name, _ in network.named_parameters()}
        assert bool({*policy} & {*value}) == shared


# --- continuous actions, memory and masks ----------------------------------------------------------------------------

GAUSSIANS = [{"squash": True}, {"log_std": "state"}, {"squash": True, "log_std": "state", "log_std_init": -1.0}]


@pytest.mark.parametrize("options", GAUSSIANS)
@pytest.mark.parametrize("name", ["ppo", "trpo"])
def test_learning_starts_at_the_policy_that_acted(name: str, options: dict[str, Any]) -> None:
    algo = made(name, ARM, **options)
    data = rollout(algo)
    batch = whole(algo, data, "log_prob")
    log_prob = algo.policy.log_prob(algo.network(batch["obs"])[0], batch["action"])
    assert log_prob.detach().numpy() == pytest.approx(batch["log_prob"].numpy(), abs=1e-5)
    if options.get("squash"):
        assert ((data.action >= ARM.low) & (data.action <= ARM.high)).all()
        assert data.action == pytest.approx(algo.policy.action(data.extras["drawn"]))
    if "log_std_init" in options:
        spread = algo.policy.parameters(algo.network(batch["obs"])[0])[1]
        assert spread.mean().item() == pytest.approx(-1, abs=0.5)
        assert spread.std().item() > 0.01
    metrics = algo.learn(data, Progress(1000, env_steps=T * E))
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_what_has_no_bounds_is_not_squashed() -> None:
    endless = ARM._replace(high=np.full(2, np.inf, np.float32))
    with pytest.raises(ConfigError, match=r"env.id: an action dimension has no bounds to squash a policy into"):
        made("a2c", endless, squash=True)


MEMORIES = [
    "env.id=rlrun/Masked-v0",
    "env.id=rlrun/Masked-v0 network=gru algo.sequence_length=5",
    "env.id=rlrun/Parts-v0 network=lstm algo.burn_in=3",
]


@pytest.mark.parametrize("words", MEMORIES)
@pytest.mark.parametrize("name", ["a2c", "vpg", "trpo"])
def test_with_masks_and_memory_learning_starts_at_the_policy_that_acted(name: str, words: str) -> None:
    share = ["algo.fisher_share=0.5"] if name == "trpo" else []
    with closing(learner(f"algo={name}", *words.split(), *share, "env.num_envs=3")) as one:
        algo, progress = one.parts.algo, one.progress
        for chunk in itertools.islice(one.stream, 2):
            progress.advance(chunk)
            batch = whole(algo, chunk.data, "log_prob")
            output, mask = outputs(algo.network, batch)[0], algo.mask(batch)
            log_prob = algo.policy.log_prob(output, batch["action"], mask).detach().numpy()
            assert log_prob == pytest.approx(batch["log_prob"].numpy(), abs=1e-4)
            metrics = algo.learn(chunk.data, progress)
            assert all(np.isfinite(float(value)) for value in metrics.values())
        assert algo.masked == ("Masked" in words)


def test_contract_with_squashed_actions() -> None:
    check_algorithm("a2c", "env=pendulum", "algo.squash=true", "algo.log_std=state")
