"""Contextual bandits: their posteriors, networks and losses against plain numpy, and how they play on real data."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.bootstrap import Bootstrap, BootstrapConfig
from rlrun.algos.contextual.lin_ucb import LinUCB, LinUCBConfig
from rlrun.algos.contextual.linear_posterior import LinearPosterior, LinearPosteriorConfig
from rlrun.algos.contextual.neural import History
from rlrun.algos.contextual.neural_greedy import NeuralGreedy, NeuralGreedyConfig
from rlrun.algos.contextual.neural_linear import NeuralLinear, NeuralLinearConfig
from rlrun.algos.contextual.parameter_noise import ParameterNoise, ParameterNoiseConfig, policy_kl
from rlrun.algos.contextual.regression import LinearRegressions
from rlrun.algos.contextual.variational import Variational, VariationalConfig
from rlrun.compute.device import Device, DeviceConfig
from rlrun.errors import ConfigError
from rlrun.networks.builder import NetworkConfig, build_mlp
from rlrun.rundir.codec import decode, encode
from rlrun.schedules import ScheduleConfig
from rlrun.state import generator_state
from rlrun.types import Array, EnvSpec, Progress, Rollout, Space

LINEAR = {"linear_posterior": (LinearPosterior, LinearPosteriorConfig), "lin_ucb": (LinUCB, LinUCBConfig)}
NEURAL = {
    "neural_greedy": (NeuralGreedy, NeuralGreedyConfig),
    "neural_linear": (NeuralLinear, NeuralLinearConfig),
    "variational": (Variational, VariationalConfig),
    "bootstrap": (Bootstrap, BootstrapConfig),
    "parameter_noise": (ParameterNoise, ParameterNoiseConfig),
}
ALL = LINEAR | NEURAL


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def spec(features: int = 3, arms: int = 3, contexts: int = 0) -> EnvSpec:
    """Contexts are vectors, or numbers if `contexts` says how many."""
    box = Space("box", (features,), np.dtype(np.float32))
    obs = Space("discrete", (), np.dtype(np.int64), n=contexts) if contexts else box
    return EnvSpec("bandit", obs, Space("discrete", (), np.dtype(np.int64), n=arms))


def make(
    name: str,
    env: EnvSpec | None = None,
    *,
    seed: int = 0,
    hidden: tuple[int, ...] = (8,),
    total: int = 1000,
    **options: Any,
) -> Any:
    factory, config = ALL[name]
    torch.manual_seed(seed)
    network = functools.partial(build_mlp, NetworkConfig(hidden=list(hidden)))
    device = Device(DeviceConfig(accelerator="cpu"))
    kit = Kit(env or spec(), network=network, device=device, rng=rng(seed), total_timesteps=total)
    return factory(config(**options), kit)


def steps(count: int) -> ScheduleConfig:
    return ScheduleConfig(start=count)


def rollout(obs: Array, action: Array, reward: Array) -> Rollout:
    """One sweep over the rows; what comes next must not matter."""
    ends = np.ones((1, len(action)), bool)
    following = np.full_like(obs, 77 if obs.dtype == np.float32 else 0)
    return Rollout(np.stack([obs, following]), action[None], reward[None].astype(np.float32), ends, ~ends, {}, {})


def act(algo: Any, obs: Array, explore: bool = True, env_steps: int = 10**6) -> Array:
    return algo.agent.act(obs, None, explore=explore, env_steps=env_steps)[0]


def teach(algo: Any, obs: Array, action: Any, reward: Any, progress: Progress | None = None) -> Any:
    progress = progress or Progress(10**6, env_steps=10**5)
    progress.env_steps += len(obs)
    return algo.learn(rollout(obs, np.asarray(action, np.int64), np.asarray(reward)), progress)


def linear_world(seed: int, features: int = 3, arms: int = 3) -> Callable[[Array, Array], Array]:
    """Rewards linear in the context, with noise."""
    world = rng(seed)
    beta = world.normal(size=(arms, features))
    return lambda obs, arm: ((obs * beta[arm]).sum(1) + 0.3 * world.normal(size=len(obs))).astype(np.float32)


def play(algo: Any, sweeps: int, seed: int, envs: int = 2, progress: Progress | None = None) -> list[list[int]]:
    """Play a linear world; returns the actions."""
    progress = progress or Progress(10**6)
    contexts, pay, actions = rng(seed), linear_world(seed), []
    for _ in range(sweeps):
        obs = contexts.normal(size=(envs, 3)).astype(np.float32)
        arm = act(algo, obs, env_steps=progress.env_steps)
        teach(algo, obs, arm, pay(obs, arm), progress)
        actions.append(arm.tolist())
    return actions


def weights(module: nn.Module) -> Array:
    return nn.utils.parameters_to_vector(module.parameters()).detach().numpy().copy()


# Linear bandits


def test_posterior_mean_is_ridge_regression_on_the_log() -> None:
    algo, contexts, pay, log = make("linear_posterior", seed=4), rng(4), linear_world(4), []
    for t in range(0, 400, 2):
        obs = contexts.normal(size=(2, 3)).astype(np.float32)
        arm = act(algo, obs, env_steps=t)
        log.append((obs, arm, pay(obs, arm)))
        teach(algo, *log[-1])
    obs, arm, reward = (np.concatenate(column) for column in zip(*log, strict=True))
    x = np.hstack([obs, np.ones((400, 1))])
    for k in range(3):
        gram = x[arm == k].T @ x[arm == k] + 0.25 * np.eye(4)
        ridge = np.linalg.solve(gram, x[arm == k].T @ reward[arm == k])
        assert algo.regressions.mean[k] == pytest.approx(ridge, abs=1e-9)
    assert algo.regressions.count.tolist() == np.bincount(arm).tolist()
    assert algo.regressions.count.sum() == 400


def test_lin_ucb_by_hand() -> None:
    """One reward 1.2 at x = (2, 1): A = [[5, 2], [2, 2]], theta = (.4, .2), x . theta = 1 and x' A^-1 x = 5/6."""
    algo = make("lin_ucb", spec(1, arms=2), alpha=3.0)
    teach(algo, np.array([[2.0]], np.float32), [0], [1.2])
    bounds = algo.bounds(np.array([[2.0, 1.0]]))
    assert bounds[0] == pytest.approx([1 + 3 * math.sqrt(5 / 6), 3 * math.sqrt(5)])
    assert act(algo, np.array([[2.0]], np.float32)).tolist() == [1]
    assert act(algo, np.array([[2.0]], np.float32), explore=False).tolist() == [0]


def test_lin_ucb_breaks_ties_at_random() -> None:
    arms = act(make("lin_ucb", spec(arms=4)), np.ones((400, 3), np.float32))
    assert np.bincount(arms) / 400 == pytest.approx([0.25] * 4, abs=0.1)


@pytest.mark.parametrize("name", sorted(LINEAR))
def test_numbered_contexts_are_one_hot(name: str) -> None:
    number, vector = make(name, spec(contexts=3)), make(name, spec(3))
    for context, arm, reward in ((0, 1, 1.0), (2, 0, -0.5), (2, 1, 2.0)):
        teach(number, np.array([context]), [arm], [reward])
        teach(vector, np.eye(3, dtype=np.float32)[[context]], [arm], [reward])
    assert number.regressions.mean == pytest.approx(vector.regressions.mean)
    assert act(number, np.array([0, 2]), explore=False).tolist() == [1, 1]


# The agent


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("envs", [1, 4])
def test_every_arm_is_pulled_in_turn_first(name: str, envs: int) -> None:
    """Nine pulls of three arms; a tenth in the same sweep is free already."""
    algo = make(name, init_pulls=3, **({"epsilon": ScheduleConfig(start=0.0)} if name == "neural_greedy" else {}))
    algo.agent.scores = lambda obs, rng: np.tile([0.0, 1.0, 0.0], (len(obs), 1))
    pulls = np.concatenate([act(algo, np.ones((envs, 3), np.float32), env_steps=t) for t in range(0, 16, envs)])
    assert pulls.tolist() == [0, 1, 2] * 3 + [1] * 7


@pytest.mark.parametrize("name", sorted(ALL))
def test_greedy_play_draws_nothing_and_forks_draw_elsewhere(name: str) -> None:
    algo = make(name)
    play(algo, 40, seed=1)
    obs = rng(2).normal(size=(50, 3)).astype(np.float32)
    before = generator_state(algo.agent.rng)
    greedy = act(algo, obs, explore=False)
    assert act(algo, obs, explore=False).tolist() == greedy.tolist()
    assert greedy.tolist() == algo.agent.values(obs).argmax(1).tolist()
    forks = [algo.agent.fork(rng(5)).act(obs, None, explore=True, env_steps=10**6)[0].tolist() for _ in range(2)]
    assert forks[0] == forks[1]
    assert generator_state(algo.agent.rng) == before


DROPOUT = ("neural_greedy", "neural_linear", "bootstrap", "parameter_noise")


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in sorted(LINEAR)]
    + [(name, {"update_interval": 4, "train_steps": steps(3), "lr_reset": False}) for name in sorted(NEURAL)]
    + [(name, {"update_interval": 4, "dropout": 0.3, "dropout_when_acting": True}) for name in DROPOUT],
)
def test_resume_continues_exactly(name: str, options: dict[str, Any]) -> None:
    """Through the checkpoint's own encoding, into an algorithm that had other plans."""
    algo, progress = make(name, **options), Progress(10**6)
    play(algo, 15, seed=1, progress=progress)
    saved, same_progress = copy.deepcopy(decode(*encode(algo.state_dict()))), copy.copy(progress)
    expected = play(algo, 30, seed=2, progress=progress)

    again = make(name, seed=99, **options)
    play(again, 7, seed=9)
    again.load_state_dict(saved)
    assert play(again, 30, seed=2, progress=same_progress) == expected
    assert same_progress == progress
    assert fingerprint(again) == fingerprint(algo)


def fingerprint(algo: Any) -> Any:
    plain, arrays = encode(algo.state_dict())
    return plain, {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("name", DROPOUT)
def test_dropout_changes_training_and_on_request_acting(name: str) -> None:
    obs = rng(8).normal(size=(200, 3)).astype(np.float32)
    plain, trained, acting = (
        make(name, update_interval=10, **options)
        for options in ({}, {"dropout": 0.3}, {"dropout": 0.3, "dropout_when_acting": True})
    )
    assert act(plain, obs).tolist() == act(trained, obs).tolist() != act(acting, obs).tolist()
    for algo in (plain, trained):
        play(algo, 10, seed=1)
    assert (weights(plain.network) != weights(trained.network)).any()


# What neural bandits share


def test_history_keeps_every_row_in_order() -> None:
    history, rows = History(torch.device("cpu")), rng().normal(size=(100, 2)).astype(np.float32)
    for start in range(0, 99, 3):
        history.add({"obs": rows[start : start + 3], "action": np.arange(start, start + 3)})
    assert history.size == 99
    assert (history["obs"].numpy() == rows[:99]).all()
    assert history.rows(torch.tensor([[98, 0]]))["action"].tolist() == [[98, 0]]
    other = History(torch.device("cpu"))
    other.load_state_dict(copy.deepcopy(history.state_dict()))
    other.add({"obs": rows[99:], "action": np.array([99])})
    assert (other["obs"].numpy() == rows).all() and history.size == 99


def spy(algo: Any) -> list[dict[str, Any]]:
    """Records what the optimiser is given in place of every update."""
    calls: list[dict[str, Any]] = []

    def optimise(batch: Any, learning_rate: float) -> dict[str, Any]:
        calls.append({"batch": batch, "learning_rate": learning_rate})
        return {}

    algo.optimiser = optimise
    return calls


def test_rounds_come_at_the_configured_times() -> None:
    """Every 10 env steps from 30 on; gradient steps fall from 8 to 2 over 100 env steps, read where a sweep begins."""
    schedule = ScheduleConfig("linear", start=8, end=2, steps=100)
    for envs in (1, 5):
        algo = make("neural_greedy", update_interval=10, learning_starts=30, train_steps=schedule)
        progress, calls, made = Progress(200), spy(algo), []
        while progress.env_steps < 120:
            before = len(calls)
            teach(algo, np.ones((envs, 3), np.float32), [0] * envs, [1.0] * envs, progress)
            made.append((progress.env_steps, len(calls) - before))
        first = 39 if envs == 1 else 35
        rounds = [(t, round(max(2.0, 8 - 6 * (t - envs) / 100))) for t in range(first, 120, 10)]
        assert [pair for pair in made if pair[1]] == rounds
        assert progress.gradient_steps == sum(count for _, count in rounds) == algo.gradient_steps


@pytest.mark.parametrize("reset", [True, False])
def test_learning_rate_falls_within_a_round(reset: bool) -> None:
    algo = make(
        "neural_greedy", learning_rate=0.1, lr_decay=0.5, lr_reset=reset, train_steps=steps(3), update_interval=1
    )
    calls = spy(algo)
    for _ in range(2):
        metrics = teach(algo, np.ones((1, 3), np.float32), [0], [1.0])
    first = [0.1, 0.1 / 1.5, 0.1 / 2]
    second = first if reset else [0.1 / 2.5, 0.1 / 3, 0.1 / 3.5]
    assert [call["learning_rate"] for call in calls] == pytest.approx(first + second)
    assert metrics["learning_rate"] == pytest.approx(np.mean(second))


@pytest.mark.parametrize("name", sorted(NEURAL))
def test_gradients_are_clipped(name: str) -> None:
    """Adam divides by the gradient's size unless that is far below its epsilon: clipped to 1e-12, nothing moves."""
    moved = []
    for norm in (1e-12, 10.0):
        algo = make(name, max_grad_norm=norm, train_steps=steps(5), update_interval=8)
        before = weights(algo.network)
        play(algo, 8, seed=1)
        moved.append(np.abs(weights(algo.network) - before).max())
    assert moved[0] < 1e-4 < 1e-3 < moved[1]


@pytest.mark.parametrize("name", ["neural_greedy", "neural_linear", "bootstrap", "parameter_noise"])
def test_only_the_pulled_arm_learns(name: str) -> None:
    algo = make(name, update_interval=4, train_steps=steps(1))
    head = [p for p in algo.network.parameters()][-2:]  # weight and bias of the output layer, [..., K, H] and [..., K]
    before = [p.detach().clone() for p in head]
    obs = rng().normal(size=(8, 3)).astype(np.float32)
    teach(algo, obs, [2] * 8, [5.0] * 8)
    if name == "neural_linear":
        teach(algo, obs, [2] * 8, [5.0] * 8)
    moved = [(p.detach() - b).abs() for p, b in zip(head, before, strict=True)]
    arms = moved[1].reshape(-1, 3).max(0).values
    assert arms[:2].tolist() == [0, 0] and arms[2] > 0
    assert moved[0].reshape(-1, 3, 8)[:, :2].max() == 0 < moved[0].max()


# Bayes by backprop


def one_weight(**options: Any) -> Variational:
    return make("variational", spec(1, arms=1), hidden=(), init_pulls=0, **options)


def test_elbo_gradient_by_hand() -> None:
    """f = w x + b at one observation, differentiated on paper."""
    algo = one_weight(noise_std=0.5, prior_std=2.0, init_std=0.7)
    layer = algo.network.layers[-1]
    x, r, e, n = 1.5, 0.8, -0.6, 4.0
    w, b = layer.mean.weight.item(), layer.mean.bias.item()
    batch = {"obs": torch.tensor([[x]]), "action": torch.tensor([0]), "reward": torch.tensor([r])}
    batch |= {"noise": torch.tensor([[e]]), "observations": torch.tensor(n)}
    loss, aux = algo.loss(algo.nets, batch)
    grads = torch.autograd.grad(loss, [layer.mean.weight, layer.weight_rho])

    spread = math.sqrt(0.49 * x * x + 0.49)
    f = w * x + b + spread * e
    log_likelihood = -0.5 * ((f - r) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    kl = sum(math.log(2 / 0.7) + (0.49 + m * m) / 8 - 0.5 for m in (w, b))
    assert aux["log_likelihood"].item() == pytest.approx(log_likelihood, rel=1e-5)
    assert loss.item() == pytest.approx(kl / n - log_likelihood, rel=1e-5)
    error = (f - r) / 0.25
    sigmoid = 1 - math.exp(-0.7)  # the slope of softplus where softplus is .7
    assert grads[0].item() == pytest.approx(w / 4 / n + error * x, rel=1e-4)
    slope = (0.7 / 4 - 1 / 0.7) / n + error * e * 0.7 * x * x / spread
    assert grads[1].item() == pytest.approx(slope * sigmoid, rel=1e-4)


def test_variational_finds_the_exact_posterior() -> None:
    """Contexts +-1 in equal number make weight and bias independent a posteriori, so mean-field Gaussians are exact.

    Six of each with rewards 1.2 and 0.4, noise .5, prior std 1: precision 1 + 12 / .25 = 49, means (.4, .8) * 48 / 49.
    """
    algo = one_weight(noise_std=0.5, prior_std=1.0, init_std=0.4, learning_rate=0.05, lr_decay=0.01, update_interval=12)
    algo.train_steps = lambda env_steps: 1200.0
    obs = np.array([[1.0], [-1.0]] * 6, np.float32)
    teach(algo, obs, [0] * 12, [1.2, 0.4] * 6)
    layer = algo.network.layers[-1]
    mean = [layer.mean.weight.item(), layer.mean.bias.item()]
    std = [nn.functional.softplus(rho).item() for rho in (layer.weight_rho, layer.bias_rho)]
    assert mean == pytest.approx([0.4 * 48 / 49, 0.8 * 48 / 49], abs=0.03)
    assert std == pytest.approx([1 / 7, 1 / 7], rel=0.15)


def test_without_evidence_training_leads_to_the_prior() -> None:
    algo = make("variational", noise_std=1e4, prior_std=0.3, learning_rate=0.02, lr_decay=0.0, update_interval=1)
    algo.train_steps = lambda env_steps: 300.0
    before = algo.network.kl().item()
    teach(algo, np.ones((1, 3), np.float32), [0], [1.0])
    assert algo.network.kl().item() < 0.02 * before


def test_held_out_log_likelihood_rises() -> None:
    algo = make("variational", noise_std=0.3, update_interval=40)
    pay, contexts = linear_world(7), rng(7)
    obs, arm = contexts.normal(size=(500, 3)).astype(np.float32), contexts.integers(3, size=500)
    held_out = obs[400:], arm[400:], pay(obs[400:], arm[400:])
    scores = [log_likelihood(algo, *held_out)]
    for start in range(0, 400, 40):
        block = slice(start, start + 40)
        teach(algo, obs[block], arm[block], pay(obs[block], arm[block]))
        scores.append(log_likelihood(algo, *held_out))
    assert scores[0] < -5
    assert scores[0] < scores[3] < scores[-1]
    assert scores[-1] > -1


def log_likelihood(algo: Variational, obs: Array, arm: Array, reward: Array) -> float:
    """Mean log-density of rewards under 50 networks drawn from the posterior."""
    draws = np.stack([algo.scores(obs, rng(i))[np.arange(len(arm)), arm] for i in range(50)])
    std = algo.cfg.noise_std
    log_density = -0.5 * np.square((draws - reward) / std) - math.log(std) - 0.5 * math.log(2 * math.pi)
    return float(np.mean(np.logaddexp.reduce(log_density, axis=0) - math.log(50)))


# Bootstrap


@pytest.mark.parametrize("add_prob", [0.5, 1.0])
def test_bootstrap_members_equal_networks_trained_alone(add_prob: float) -> None:
    """Torch's own Adam on each member's share of the same batches."""
    algo = make("bootstrap", n_members=3, add_prob=add_prob, update_interval=40, train_steps=steps(6), batch_size=16)
    alone = [copy.deepcopy(member.network) for member in algo.members]
    draw, batches = algo.batches, []
    algo.batches = lambda count: (batches.append(batch) or batch for batch in draw(count))
    play(algo, 20, seed=3)
    assert len(batches) == 6
    for i, net in enumerate(alone):
        adam = torch.optim.Adam(net.parameters(), lr=1.0)
        for j, batch in enumerate(batches):
            mine = batch["histories"][i, :, i]
            obs, arm, reward = (batch[key][i][mine] for key in ("obs", "action", "reward"))
            error = net(obs)[torch.arange(len(arm)), arm] - reward
            adam.param_groups[0]["lr"] = 0.01 / (1 + 0.05 * j)
            adam.zero_grad()
            error.square().mean().backward()
            adam.step()
        assert weights(algo.members[i].network) == pytest.approx(weights(net), abs=1e-5)
    shares = algo.history["histories"].float().mean(0)
    assert shares.tolist() == pytest.approx([add_prob] * 3, abs=0.25 if add_prob < 1 else 0)


def test_bootstrap_draws_a_member_for_every_row() -> None:
    algo = make("bootstrap", n_members=4)
    obs = np.ones((4000, 3), np.float32)
    own = np.concatenate([member(obs[:1]) for member in algo.members])  # [4, K]
    scores = algo.scores(obs, rng(1))
    distance = np.abs(scores[:, None] - own).max(2)  # [4000, 4]
    assert distance.min(1).max() < 1e-5
    assert np.bincount(distance.argmin(1)) / 4000 == pytest.approx([0.25] * 4, abs=0.03)
    assert algo.values(obs[:1])[0] == pytest.approx(own.mean(0), abs=1e-6)


# Neural linear


def test_features_are_computed_anew_when_the_network_has_moved() -> None:
    """After every sweep the posteriors are those of all data on the features of the network as it is."""
    algo = make("neural_linear", update_interval=10, nn_update_ratio=2, train_steps=steps(4))
    progress, moved = Progress(10**6), []
    for sweep in range(12):
        before = weights(algo.network)
        play(algo, 1, seed=sweep, envs=5, progress=progress)
        moved.append(bool((weights(algo.network) != before).any()))
        obs, arm, reward = (algo.history[key].numpy() for key in ("obs", "action", "reward"))
        features = torch.from_numpy(obs)
        for layer in list(algo.network.layers)[:-1]:
            features = layer(features)
        fresh = LinearRegressions(3, 9, 0.25, 3.0, 3.0)
        fresh.fit(arm, np.hstack([features.detach().numpy(), np.ones((len(obs), 1))]), reward.astype(np.float64))
        assert len(obs) == 5 * (sweep + 1)
        assert algo.regressions.mean == pytest.approx(fresh.mean, abs=1e-4)
        assert algo.regressions.b == pytest.approx(fresh.b, abs=1e-3)
        assert algo.regressions.a.tolist() == fresh.a.tolist()
    assert np.flatnonzero(moved).tolist() == [3, 7, 11]  # every second round, a round being two sweeps


def test_neural_linear_needs_a_hidden_layer() -> None:
    with pytest.raises(ConfigError, match=r"network\.hidden"):
        make("neural_linear", hidden=())


# Parameter noise


def test_policy_divergence_by_hand() -> None:
    """softmax(ln 3, 0) = (3/4, 1/4) against (1/2, 1/2)."""
    values, other = torch.tensor([[math.log(3), 0.0], [7.0, 7.0]]), torch.tensor([[0.0, 0.0], [-1.0, -1.0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert policy_kl(values, other).tolist() == pytest.approx([expected, 0.0], abs=1e-6)


@pytest.mark.parametrize(("std", "direction"), [(1e-4, 1.01), (5.0, 1 / 1.01)])
def test_noise_moves_towards_its_target(std: float, direction: float) -> None:
    """Too little noise to change the policy grows, too much shrinks; epsilon decays either way."""
    algo = make("parameter_noise", noise_std=std, epsilon=0.2, update_interval=10, train_steps=steps(1))
    play(algo, 5, seed=1)
    assert algo.std == pytest.approx(std * direction)
    assert algo.epsilon == pytest.approx(0.2 * 0.99)


def test_noise_settles_where_the_divergence_is_that_of_epsilon_greedy() -> None:
    algo = make("parameter_noise", noise_std=0.5, epsilon=0.2, epsilon_decay=1.0)
    algo.history.add({"obs": rng(1).normal(size=(300, 3)).astype(np.float32)})
    distances = [algo.adapt()["noise_kl"] for _ in range(600)]
    assert np.median(distances[300:]) == pytest.approx(-math.log(1 - 0.2 + 0.2 / 3), rel=0.25)


def test_noise_is_on_the_copy_with_the_given_deviation() -> None:
    algo = make("parameter_noise", hidden=(50, 50), noise_std=0.2)
    before = weights(algo.network)
    obs = np.ones((3, 3), np.float32)
    scores = algo.scores(obs, rng(1))
    difference = weights(algo.noisy) - before
    assert (weights(algo.network) == before).all()
    assert (difference.mean(), difference.std()) == pytest.approx((0, 0.2), abs=0.01)
    assert scores == pytest.approx(algo.noisy(torch.from_numpy(obs)).detach().numpy(), abs=1e-5)
    algo.scores(obs, rng(2))
    assert np.abs(weights(algo.noisy) - before - difference).max() > 0.1


# Options


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("linear_posterior", {"lambda_prior": 0.0}, "lambda_prior"),
        ("linear_posterior", {"init_pulls": -1}, "init_pulls"),
        ("lin_ucb", {"alpha": -1.0}, "alpha"),
        ("lin_ucb", {"ridge": 0.0}, "ridge"),
        ("neural_greedy", {"dropout": 1.0}, "dropout"),
        ("neural_greedy", {"epsilon": ScheduleConfig(start=2.0)}, "epsilon"),
        ("neural_greedy", {"update_interval": 0}, "update_interval"),
        ("neural_greedy", {"train_steps": ScheduleConfig(start=-1.0)}, "train_steps"),
        ("neural_linear", {"nn_update_ratio": 0}, "nn_update_ratio"),
        ("variational", {"noise_std": 0.0}, "noise_std"),
        ("bootstrap", {"add_prob": 1.5}, "add_prob"),
        ("bootstrap", {"n_members": 0}, "n_members"),
        ("parameter_noise", {"epsilon": 1.5}, "epsilon"),
    ],
)
def test_impossible_options_name_their_key(name: str, options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        ALL[name][1](**options)
    assert error.value.key.split(".")[0] == key


# Play on real data


def regret_per_step(name: str, data: str, total: int, seed: int, **options: Any) -> float:
    """Regret of classifying rows in random order, standardised, arm = label, reward 1 if right."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, label = getattr(datasets, f"load_{data}")(return_X_y=True)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    order = rng(100 + seed).permutation(len(x))
    x, label = x[order].astype(np.float32), label[order]
    hidden = (50, 50)
    algo = make(name, spec(x.shape[1], int(label.max()) + 1), seed=seed, hidden=hidden, total=total, **options)
    progress, regret = Progress(total), 0
    for t in range(total):
        row = [t % len(x)]
        arm = act(algo, x[row], env_steps=t)
        right = arm == label[row]
        regret += int(not right[0])
        teach(algo, x[row], arm, right, progress)
    return regret / total


@pytest.mark.parametrize(
    ("data", "total", "bound"),
    [("iris", 2000, 0.14), ("wine", 2000, 0.06), ("breast_cancer", 2000, 0.085), ("digits", 3000, 0.45)],
)
@pytest.mark.parametrize("name", sorted(LINEAR))
def test_linear_play_on_real_data(name: str, data: str, total: int, bound: float) -> None:
    assert regret_per_step(name, data, total, seed=1) <= bound


@pytest.mark.parametrize("name", sorted(NEURAL))
def test_neural_play_on_wine_is_better_than_chance_soon(name: str) -> None:
    assert regret_per_step(name, "wine", 500, seed=1) <= 0.6 * 2 / 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("data", "uniform"), [("wine", 2 / 3), ("breast_cancer", 1 / 2)])
@pytest.mark.parametrize("name", sorted(NEURAL))
def test_neural_play_on_real_data(name: str, data: str, uniform: float, seed: int) -> None:
    assert regret_per_step(name, data, 2000, seed) <= 0.6 * uniform
