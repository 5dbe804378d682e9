"""PPO's objective against numpy, its advantages across the ends of episodes, and what a rollout's epochs do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from rollouts import DISCRETE, E, T, kit, rollout

from rlrun.algos.policy.actor_critic import explained_variance
from rlrun.algos.policy.ppo import PPO, PPOConfig
from rlrun.errors import ConfigError
from rlrun.ops.fields import rows
from rlrun.types import Progress, Space


def ppo(action: Space = DISCRETE, **options: Any) -> PPO:
    return PPO(PPOConfig(**{"n_steps": T, "batch_size": T * E, "n_epochs": 1} | options), kit(action))


def minibatch(algo: PPO, size: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "obs": normal(size, 3),
        "action": torch.randint(4, (size,), generator=generator),
        "log_prob": -1.4 + 0.3 * normal(size),
        "value": normal(size),
        "advantage": normal(size),
        "returns": normal(size),
    }


@pytest.mark.parametrize("clip_range_vf", [None, 0.1])
@pytest.mark.parametrize("ent_coef", [0.0, 0.01])
def test_the_objective_in_numpy(clip_range_vf: float | None, ent_coef: float) -> None:
    algo = ppo(clip_range_vf=clip_range_vf, ent_coef=ent_coef, vf_coef=0.7)
    batch = minibatch(algo)
    logits, value = (output.detach().numpy() for output in algo.network(batch["obs"]))
    data = {key: column.numpy() for key, column in batch.items()}
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ratio = p[np.arange(16), data["action"]] / np.exp(data["log_prob"])
    policy_loss = -np.minimum(ratio * data["advantage"], np.clip(ratio, 0.8, 1.2) * data["advantage"]).mean()
    value = value[:, 0]
    errors = (value - data["returns"]) ** 2
    if clip_range_vf:
        clipped = data["value"] + np.clip(value - data["value"], -0.1, 0.1)
        errors = np.maximum(errors, (clipped - data["returns"]) ** 2)
    entropy = -(p * np.log(p)).sum(1).mean()
    loss, aux = algo.loss(algo.nets, batch, torch.tensor(0.2))
    assert loss.item() == pytest.approx(policy_loss + 0.7 * errors.mean() - ent_coef * entropy, rel=1e-5)
    assert aux["value_loss"].item() == pytest.approx(errors.mean(), rel=1e-5)
    assert algo.diagnose(batch, 0.2)["approx_kl"].item() == pytest.approx((ratio - 1 - np.log(ratio)).mean(), rel=1e-4)
    assert algo.diagnose(batch, 0.2)["entropy_loss"].item() == pytest.approx(-entropy, rel=1e-5)
    assert algo.diagnose(batch, 0.2)["clip_fraction"].item() == pytest.approx((abs(ratio - 1) > 0.2).mean())


def test_a_clipped_sample_gives_no_gradient() -> None:
    """Ratio above 1.2 with a positive advantage, below 0.8 with a negative one: nothing to gain from moving on."""
    algo, batch = ppo(vf_coef=0.0), minibatch(ppo())
    with torch.no_grad():
        log_prob = algo.policy.log_prob(algo.network(batch["obs"])[0], batch["action"])
    batch["advantage"] = torch.where(torch.arange(16) < 8, 1.0, -1.0)
    batch["log_prob"] = log_prob - 0.5 * batch["advantage"]
    algo.loss(algo.nets, batch, torch.tensor(0.2))[0].backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in algo.network.branches[0].parameters())
    batch["log_prob"] = log_prob + 0.5 * batch["advantage"]  # the other way round they all push
    algo.loss(algo.nets, batch, torch.tensor(0.2))[0].backward()
    assert all(p.grad.abs().max() > 0 for p in algo.network.branches[0].parameters())


def test_advantages_bootstrap_through_truncation_and_not_through_termination() -> None:
    algo = ppo(gamma=0.9, gae_lambda=0.8)
    data = rollout(algo, {(2, 0): "terminated", (4, 1): "truncated"})
    value = data.extras["value"]
    expected = np.zeros((T, E))
    for e in range(E):
        running = 0.0
        for t in reversed(range(T)):
            if data.terminated[t, e]:
                following, running = 0.0, 0.0
            elif data.truncated[t, e]:
                following, running = algo.agent.value(data.final_obs[t, e][None])[0], 0.0
            else:
                following = algo.agent.value(data.obs[t + 1])[e]
            running = data.reward[t, e] + 0.9 * following - value[t, e] + 0.9 * 0.8 * running
            expected[t, e] = running
    np.testing.assert_allclose(algo.advantages(data), expected, rtol=1e-4, atol=1e-5)


def test_the_first_epoch_starts_at_the_policy_that_acted() -> None:
    """Recorded in numpy, recomputed in torch: ratios are 1 and the KL is 0."""
    for space in (DISCRETE, Space("box", (2,), np.dtype(np.float32))):
        algo = ppo(space)
        data = rollout(algo)
        columns = {"obs": data.obs[:-1], "action": data.action, "log_prob": data.extras["log_prob"]}
        (stack,) = algo.minibatches.flat(columns, T * E, epochs=1)
        found = algo.diagnose(rows(stack, 0), 0.2)
        assert found["approx_kl"].item() == pytest.approx(0, abs=1e-6)
        assert found["clip_fraction"] == 0


@pytest.mark.parametrize(("batch_size", "updates"), [(16, 3), (8, 6), (6, 9)])
def test_updates_per_rollout(batch_size: int, updates: int) -> None:
    algo, progress = ppo(batch_size=batch_size, n_epochs=3), Progress(1000)
    algo.learn(rollout(algo), progress)
    assert progress.gradient_steps == updates


def test_the_kl_stops_the_epochs() -> None:
    algo, progress = ppo(n_epochs=50, learning_rate=0.001, target_kl=0.01), Progress(1000)
    metrics = algo.learn(rollout(algo), progress)
    assert 1 < progress.gradient_steps < 50
    assert metrics["approx_kl"] > 0.015


def test_rates_fall_to_nothing() -> None:
    algo = ppo(learning_rate=0.01, learning_rate_schedule="linear", clip_range_schedule="linear")
    progress = Progress(1000, env_steps=750 + T * E)
    metrics = algo.learn(rollout(algo), progress)
    assert metrics["learning_rate"] == pytest.approx(0.0025)
    assert metrics["clip_range"] == pytest.approx(0.05)


def test_losses_are_means_over_all_updates_of_a_rollout() -> None:
    algo, seen = ppo(batch_size=8, n_epochs=3), []
    burst = algo.optimiser.burst

    def spy(*args: Any, **rates: Any) -> Any:
        for piece in burst(*args, **rates):
            seen.append(piece.aux)
            yield piece

    algo.optimiser.burst = spy  # type: ignore[method-assign]
    metrics = algo.learn(rollout(algo), Progress(1000, env_steps=T * E))
    assert len({float(aux["loss"]) for aux in seen}) == 6
    for key in ("loss", "value_loss", "policy_gradient_loss"):
        assert float(metrics[f"{key}"]) == pytest.approx(np.mean([float(aux[key]) for aux in seen]), rel=1e-5, abs=1e-6)
    assert metrics["entropy"] == -metrics["entropy_loss"] > 0


def test_a_rollout_that_was_cut_is_learned_from() -> None:
    """3 steps of 2 environments in minibatches of 5: a rest of one has no spread and is left out of its epoch."""
    algo, progress = ppo(batch_size=5, n_epochs=4, n_steps=6), Progress(1000, env_steps=1000)
    data, t = rollout(algo), 3
    columns = {key: getattr(data, key)[:t] for key in ("action", "reward", "terminated", "truncated")}
    extras = {key: value[:t] for key, value in data.extras.items()}
    metrics = algo.learn(data._replace(obs=data.obs[: t + 1], extras=extras, **columns), progress)
    assert progress.gradient_steps == 4
    assert np.isfinite(float(metrics["loss"]))


def test_a_single_rollout_learns() -> None:
    """A schedule that falls to 0 at the end of the run has not done so at the start of its last rollout."""
    algo = ppo(learning_rate=0.01, learning_rate_schedule="linear")
    before = algo.network.branches[0][0].weight.clone()
    algo.learn(rollout(algo), Progress(1000, env_steps=1000))
    assert not torch.equal(before, algo.network.branches[0][0].weight)


def test_a_rest_of_one_transition_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"algo.batch_size: leaves a minibatch of one"):
        ppo(batch_size=5, n_epochs=1)


def test_explained_variance() -> None:
    returns = np.array([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns, np.zeros(4)) == 1
    assert explained_variance(np.full(4, 2.5), returns - 2.5) == 0
    assert explained_variance(np.zeros(4), np.zeros(4)) == 0


def test_what_cannot_be_is_refused() -> None:
    for options, message in (
        ({"clip_range": 0.0}, "clip_range: must be greater than 0"),
        ({"n_epochs": 0}, r"n_epochs: must be in \[1, "),
        ({"batch_size": 1}, "batch_size: one advantage has no standard deviation"),
    ):
        with pytest.raises(ConfigError, match=message):
            PPOConfig(**options)  # type: ignore[arg-type]
