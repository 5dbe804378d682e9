"""Learners from trajectories against plain loops of their equations, and what all of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from rollouts import ARM, DISCRETE, E, T, kit, rollout

from rlrun.algos.actor_learner.a3c import A3C, A3CConfig
from rlrun.algos.actor_learner.acer import ACER, ACERConfig
from rlrun.algos.actor_learner.acer_continuous import ContinuousACER, ContinuousACERConfig
from rlrun.algos.actor_learner.appo import APPO, APPOConfig
from rlrun.algos.actor_learner.async_dqn import AsyncDQN, AsyncDQNConfig
from rlrun.algos.actor_learner.impala import IMPALA, IMPALAConfig
from rlrun.algos.actor_learner.trajectories import outputs
from rlrun.buffers.trajectories import Batch, Trajectories, trajectories
from rlrun.errors import ConfigError
from rlrun.networks.recurrent import GruConfig, build_gru
from rlrun.types import Progress, Rollout, Space

CUTS = {(2, 0): "terminated", (4, 1): "truncated", (7, 0): "truncated"}
KINDS: dict[str, Any] = {
    "a3c": (A3C, A3CConfig),
    "acer": (ACER, ACERConfig),
    "acer_continuous": (ContinuousACER, ContinuousACERConfig),
    "appo": (APPO, APPOConfig),
    "async_dqn": (AsyncDQN, AsyncDQNConfig),
    "impala": (IMPALA, IMPALAConfig),
}


def made(name: str, action: Space = DISCRETE, network: dict[str, Any] | None = None, **options: Any) -> Any:
    algo, config = KINDS[name]
    return algo(config(**{"n_steps": T, "batch_rollouts": E} | options), kit(action, **network or {}))


def whole(algo: Any, data: Rollout) -> dict[str, Any]:
    """A rollout as one batch."""
    batch: dict[str, Any] = algo.tensors(trajectories(data, algo.recorded, algo.draws))
    return batch


def moved(algo: Any, seed: int = 0) -> None:
    """Other weights than those that acted."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in algo.nets.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


def weights(algo: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in algo.nets.parameters()]


def of_steps(algo: Any, data: Rollout, action: Space) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The policy of every step, its value, and that of what it led to, one step at a time."""
    output, value = algo.network(torch.from_numpy(data.obs[:-1]).flatten(0, 1))
    if action is DISCRETE:
        policy: Any = torch.distributions.Categorical(logits=output)
    else:
        mean, log_std = output.chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.exp())  # type: ignore[no-untyped-call]
        policy = torch.distributions.Independent(normal, 1)  # type: ignore[no-untyped-call]
    next_value = algo.network(led_to(data))[1].detach()
    return policy, value.view(T, E), next_value.view(T, E)


def led_to(data: Rollout) -> torch.Tensor:
    """The observations [T E, 3] that steps led to."""
    found = np.array(data.obs[1:])
    for where, obs in data.final_obs.items():
        found[where] = obs
    return torch.from_numpy(found).flatten(0, 1)


def must_agree(algo: Any, data: Rollout, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The loss of a rollout as one batch has the value and the gradient of another."""
    found, aux = algo.loss(algo.nets, whole(algo, data))
    assert found.item() == pytest.approx(loss.item(), rel=1e-4)
    must_descend_alike(algo, found, loss)
    said: dict[str, torch.Tensor] = aux
    return said


def must_descend_alike(algo: Any, one: torch.Tensor, other: torch.Tensor) -> None:
    """In two losses by the weights that are trained."""
    parameters = algo.optimiser.params
    ours, theirs = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (one, other))
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-5)


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("action", [DISCRETE, ARM])
def test_the_loss_of_a3c_is_that_of_a_plain_loop(action: Space, reduction: str) -> None:
    algo = made("a3c", action, gamma=0.9, ent_coef=0.02, vf_coef=0.4, reduction=reduction)
    data = rollout(algo, CUTS)
    policy, value, next_value = of_steps(algo, data, action)
    log_prob = policy.log_prob(torch.from_numpy(data.action).flatten(0, 1)).view(T, E)
    entropy, loss = policy.entropy().view(T, E), torch.zeros(())
    for e in range(E):
        running = torch.zeros(())
        for t in reversed(range(T)):
            if data.terminated[t, e]:
                running = torch.zeros(())
            elif data.truncated[t, e] or t == T - 1:
                running = next_value[t, e]
            running = data.reward[t, e] + 0.9 * running
            gain = running - value[t, e]
            loss = loss - gain.detach() * log_prob[t, e] + 0.4 * gain.square() - 0.02 * entropy[t, e]
    loss = loss / (T * E) if reduction == "mean" else loss
    must_agree(algo, data, loss)


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (1.5, 0.7)])
def test_the_loss_of_impala_is_that_of_a_plain_loop(rho_bar: float, c_bar: float) -> None:
    algo = made("impala", gamma=0.9, ent_coef=0.02, vf_coef=0.4, rho_bar=rho_bar, c_bar=c_bar)
    data = rollout(algo, CUTS)
    moved(algo)
    policy, value, next_value = of_steps(algo, data, DISCRETE)
    log_prob = policy.log_prob(torch.from_numpy(data.action).flatten()).view(T, E)
    rho = (log_prob.detach() - torch.from_numpy(data.extras["log_prob"])).exp()
    assert rho.min() < 0.8
    assert rho.max() > 1.4
    entropy, loss = policy.entropy().view(T, E), torch.zeros(())
    for e in range(E):
        later = torch.zeros(())  # v_{t+1} - V(s_{t+1})
        for t in reversed(range(T)):
            if data.terminated[t, e] or data.truncated[t, e] or t == T - 1:
                later = torch.zeros(())
            follows = 0.0 if data.terminated[t, e] else 0.9
            before = value[t, e].detach()
            difference = data.reward[t, e] + follows * next_value[t, e] - before
            advantage = data.reward[t, e] + follows * (next_value[t, e] + later) - before
            later = rho[t, e].clamp(max=rho_bar) * difference + follows * rho[t, e].clamp(max=c_bar) * later
            loss = loss - rho[t, e].clamp(max=rho_bar) * advantage * log_prob[t, e] - 0.02 * entropy[t, e]
            loss = loss + 0.4 * (value[t, e] - before - later).square()
    aux = must_agree(algo, data, loss / (T * E))
    assert aux["rho"].item() == pytest.approx(rho.mean().item(), rel=1e-5)


def test_on_its_own_policy_impala_is_a3c() -> None:
    one, other = made("impala"), made("a3c")
    for seed in range(3):
        for algo in (one, other):
            algo.learn(rollout(algo, CUTS, seed), Progress(1000, env_steps=T * E))
    torch.testing.assert_close(weights(one), weights(other))


def test_the_loss_of_appo_is_ppos_on_vtrace() -> None:
    """Of a policy that has gone further than the clip, and one that has not moved: there it is a3c's gradient."""
    algo = made("appo", gamma=0.9, ent_coef=0.02, vf_coef=0.4, normalize_advantage=False, clip_range=0.3)
    data = rollout(algo, CUTS)
    twin = made("a3c", gamma=0.9, ent_coef=0.02, vf_coef=0.4)
    twin.nets.load_state_dict(algo.nets.state_dict())
    ours, _ = algo.loss(algo.nets, whole(algo, data))
    theirs, _ = twin.loss(algo.nets, whole(twin, data))
    must_descend_alike(algo, ours, theirs)

    moved(algo)
    policy, value, next_value = of_steps(algo, data, DISCRETE)
    log_prob = policy.log_prob(torch.from_numpy(data.action).flatten()).view(T, E)
    ratio = (log_prob - torch.from_numpy(data.extras["log_prob"])).exp()
    entropy, loss, clipped = policy.entropy().view(T, E), torch.zeros(()), 0
    for e in range(E):
        later = torch.zeros(())
        for t in reversed(range(T)):
            if data.terminated[t, e] or data.truncated[t, e] or t == T - 1:
                later = torch.zeros(())
            follows, rho = 0.0 if data.terminated[t, e] else 0.9, ratio[t, e].detach().clamp(max=1)
            before = value[t, e].detach()
            advantage = data.reward[t, e] + follows * (next_value[t, e] + later) - before
            later = rho * (data.reward[t, e] + follows * next_value[t, e] - before + follows * later)
            r = ratio[t, e]
            loss = loss - torch.minimum(r * advantage, r.clamp(0.7, 1.3) * advantage) - 0.02 * entropy[t, e]
            loss = loss + 0.4 * (value[t, e] - before - later).square()
            clipped += int(abs(r.item() - 1) > 0.3)
    aux = must_agree(algo, data, loss / (T * E))
    assert aux["clip_fraction"].item() == pytest.approx(clipped / (T * E))
    assert 0 < clipped < T * E


def test_appo_makes_several_updates_on_each_batch() -> None:
    algo, progress = made("appo", n_epochs=3, batch_rollouts=1), Progress(1000, env_steps=T * E)
    metrics = algo.learn(rollout(algo), progress)
    assert progress.gradient_steps == 3 * E
    assert metrics["rho"] != 1
    with pytest.raises(ConfigError, match="normalize_advantage: a single step has no spread"):
        APPOConfig(n_steps=1)


@pytest.mark.parametrize(("trust_region", "delta"), [(False, 1.0), (True, 0.05), (True, 1e6)])
def test_the_loss_of_acer_is_that_of_a_plain_loop(trust_region: bool, delta: float) -> None:
    """c = 1.2, so that the truncation is felt; the average policy is another, so that the trust region is."""
    options = {"gamma": 0.9, "ent_coef": 0.02, "vf_coef": 0.4, "trunc_c": 1.2, "kl_coef": 0.3}
    algo = made("acer", trust_region=trust_region, delta=delta, **options)
    data = rollout(algo, CUTS)
    assert {*data.extras} == {"log_prob", "output"}
    moved(algo)
    with torch.no_grad():
        for mine, its in algo.average.pairs():
            mine.copy_(its + 0.2 * torch.randn(its.shape, generator=torch.Generator().manual_seed(len(its))))

    logits, q = algo.network(torch.from_numpy(data.obs[:-1]).flatten(0, 1))
    log_pi, q = logits.log_softmax(-1).view(T, E, -1), q.view(T, E, -1)
    pi, mu = log_pi.exp(), torch.from_numpy(data.extras["output"]).softmax(-1)
    average = algo.average(torch.from_numpy(data.obs[:-1]).flatten(0, 1))[0].softmax(-1).view(T, E, -1)
    next_logits, next_q = algo.network(led_to(data))
    next_value = (next_logits.softmax(-1) * next_q).sum(-1).detach().view(T, E)
    loss, bound = torch.zeros(()), 0
    for e in range(E):
        carried = torch.zeros(())  # min(1, rho) (Q^ret - Q) of the step after
        for t in reversed(range(T)):
            a, p, m = int(data.action[t, e]), pi[t, e].detach(), mu[t, e]
            if data.terminated[t, e] or data.truncated[t, e] or t == T - 1:
                carried = torch.zeros(())
            follows = 0.0 if data.terminated[t, e] else 0.9
            target = data.reward[t, e] + follows * (next_value[t, e] + carried)
            rho, value = p / m, (p * q[t, e].detach()).sum()
            carried = rho[a].clamp(max=1) * (target - q[t, e, a].detach())
            if trust_region:
                slope = -average[t, e].detach() / p  # of KL(average || pi) by pi
                g = (1 - 1.2 / rho).clamp(min=0) * (q[t, e].detach() - value)
                g[a] += rho[a].clamp(max=1.2) * (target - value) / p[a]
                excess = (slope @ g - delta) / (slope @ slope)
                bound += int(excess > 0)
                loss = loss - ((g - excess.clamp(min=0) * slope) * pi[t, e]).sum()
            else:
                loss = loss - rho[a].clamp(max=1.2) * (target - value) * log_pi[t, e, a]
                for other in range(4):
                    share = (1 - 1.2 / rho[other]).clamp(min=0) * p[other]
                    loss = loss - share * (q[t, e, other].detach() - value) * log_pi[t, e, other]
            loss = loss + 0.4 * (q[t, e, a] - target).square() + 0.02 * (pi[t, e] * log_pi[t, e]).sum()
            loss = loss + 0.3 * (average[t, e].detach() * (average[t, e].detach().log() - log_pi[t, e])).sum()
    assert (bound > 0) == (trust_region and delta < 1)
    found, aux = algo.loss(algo.nets, whole(algo, data))
    must_descend_alike(algo, found, loss / (T * E))
    assert aux["kl"].item() > 0.01


@pytest.mark.parametrize("log_std", ["free", "state"])
@pytest.mark.parametrize(("trust_region", "delta"), [(False, 1.0), (True, 0.05), (True, 1e6)])
def test_the_loss_of_continuous_acer_is_that_of_a_plain_loop(trust_region: bool, delta: float, log_std: str) -> None:
    """Step by step; gradients by the statistics of a policy are those of torch's distributions."""
    options = {"gamma": 0.9, "ent_coef": 0.02, "vf_coef": 0.4, "trunc_c": 1.2, "kl_coef": 0.3, "samples": 3}
    algo = made("acer_continuous", ARM, trust_region=trust_region, delta=delta, log_std=log_std, **options)
    data = rollout(algo, CUTS)
    moved(algo)
    with torch.no_grad():
        for mine, its in algo.average.pairs():
            mine.copy_(its + 0.2 * torch.randn(its.shape, generator=torch.Generator().manual_seed(len(its))))
    batch = whole(algo, data)
    normals = batch["normals"].view(T, E, 4, -1)
    next_value, loss, bound, cut = algo.network(led_to(data))[1].detach().view(T, E), torch.zeros(()), 0, 0

    def said(output: torch.Tensor) -> tuple[torch.Tensor, Any]:
        phi = torch.cat(algo.policy.parameters(output))
        return phi, normal(phi)

    for e in range(E):
        carried = carried_uncut = torch.zeros(())  # c (Q^ret - Q) and Q^opc - Q of the step after
        for t in reversed(range(T)):
            obs, a = torch.from_numpy(data.obs[t, e]), torch.from_numpy(data.action[t, e])
            output, worth = algo.network(obs[None])
            (phi, pi), value = said(output[0]), worth[0, 0]
            (_, average), (_, mu) = (
                said(algo.average(obs[None])[0][0]),
                said(torch.from_numpy(data.extras["output"][t, e])),
            )
            others = (pi.mean + pi.stddev * normals[t, e]).detach()

            def advantage(action: torch.Tensor, obs: torch.Tensor = obs) -> torch.Tensor:
                found: torch.Tensor = algo.advantage(obs[None], action[None])[0, 0, 0]
                return found

            mean = torch.stack([advantage(u) for u in others[1:]]).mean()
            q, q_other = value + advantage(a) - mean, (value + advantage(others[0]) - mean).detach()
            if data.terminated[t, e] or data.truncated[t, e] or t == T - 1:
                carried = carried_uncut = torch.zeros(())
            follows = 0.0 if data.terminated[t, e] else 0.9
            target = data.reward[t, e] + follows * (next_value[t, e] + carried)
            uncut = data.reward[t, e] + follows * (next_value[t, e] + carried_uncut)
            rho, rho_other = ((pi.log_prob(u) - mu.log_prob(u)).sum().exp().detach() for u in (a, others[0]))
            carried = rho.pow(1 / 2).clamp(max=1) * (target - q.detach())
            carried_uncut = uncut - q.detach()
            cut += int(rho > 1.2) + int(rho_other > 1.2)

            leaf = phi.detach().requires_grad_()
            now, weight = normal(leaf), (1 - 1.2 / rho_other).clamp(min=0)
            up = rho.clamp(max=1.2) * (uncut - value.detach()) * now.log_prob(a).sum()
            up = up + weight * (q_other - value.detach()) * now.log_prob(others[0]).sum()
            (g,) = torch.autograd.grad(up, leaf)
            (k,) = torch.autograd.grad(torch.distributions.kl_divergence(fixed(average), normal(leaf)).sum(), leaf)
            excess = (k @ g - delta) / (k @ k)
            if trust_region:
                bound += int(excess > 0)
                g = g - excess.clamp(min=0) * k
            value_target = value.detach() + rho.clamp(max=1) * (target - q.detach())
            loss = loss - g @ phi + 0.4 * ((q - target).square() + (value - value_target).square())
            loss = loss - 0.02 * pi.entropy().sum()
            loss = loss + 0.3 * torch.distributions.kl_divergence(fixed(average), pi).sum()
    assert (bound > 0) == (trust_region and delta < 1)
    assert cut > 0
    found, _ = algo.loss(algo.nets, batch)
    assert found.item() == pytest.approx(loss.item() / (T * E), rel=1e-4)
    must_descend_alike(algo, found, loss / (T * E))


def normal(output: torch.Tensor) -> Any:
    mean, log_std = output.chunk(2)
    return torch.distributions.Normal(mean, log_std.exp())  # type: ignore[no-untyped-call]


def fixed(policy: Any) -> Any:
    return torch.distributions.Normal(policy.mean.detach(), policy.stddev.detach())  # type: ignore[no-untyped-call]


def test_squashed_actions_are_valued_as_they_were_taken() -> None:
    algo = made("acer_continuous", ARM, squash=True)
    data = rollout(algo)
    batch = whole(algo, data)
    expected = algo.advantage(batch["obs"][: T * E], torch.from_numpy(data.action).flatten(0, 1))[0, :, 0]
    found = algo.advantages(algo.nets, batch, batch["action"].unsqueeze(1))[:, 0]
    torch.testing.assert_close(found, expected)
    _, aux = algo.loss(algo.nets, batch)
    assert aux["rho"].item() == pytest.approx(1, abs=1e-5)


def test_the_average_of_acer_follows_every_update() -> None:
    algo = made("acer", avg_tau=0.25, replay_ratio=0.0)
    before = weights(algo)
    algo.learn(rollout(algo), Progress(1000, env_steps=T * E))
    for (average, new), old in zip(algo.average.pairs(), before, strict=False):
        torch.testing.assert_close(average, 0.75 * old + 0.25 * new)
        assert not torch.equal(new, old)


@pytest.mark.parametrize("double", [True, False])
def test_the_loss_of_async_dqn_is_that_of_a_plain_loop(double: bool) -> None:
    algo = made("async_dqn", gamma=0.9, double=double, reduction="sum")
    data = rollout(algo, CUTS)
    with torch.no_grad():
        for parameter in algo.q.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter)))
    q = algo.q(torch.from_numpy(data.obs[:-1]).flatten(0, 1)).view(T, E, -1)
    after, target = algo.q(led_to(data)).view(T, E, -1), algo.q_target(led_to(data)).view(T, E, -1)
    assert (after.argmax(-1) != target.argmax(-1)).any()
    loss = torch.zeros(())
    for e in range(E):
        for t in range(T):
            total, weight = 0.0, 1.0
            for i in range(t, T):
                total, weight = total + weight * float(data.reward[i, e]), 0.9 * weight
                if data.terminated[i, e]:
                    break
                if data.truncated[i, e] or i == T - 1:
                    total += weight * target[i, e, (after if double else target)[i, e].argmax()].item()
                    break
            error = q[t, e, int(data.action[t, e])] - total
            loss = loss + torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5)
    must_agree(algo, data, loss)


def test_the_target_network_is_copied_every_so_many_updates() -> None:
    """Whether the learner takes the gradient or an actor did: before the fourth update, with an interval of three."""
    algo, progress, seen = made("async_dqn", sync_interval=3), Progress(1000, env_steps=T * E), []
    for seed in range(4):
        data = rollout(algo, seed=seed)
        algo.learn(data if seed % 2 else algo.gradients(data, env_steps=0), progress)
        seen.append([mine.clone() for mine, _ in algo.q_target.pairs()])
    same = [all(torch.equal(*pair) for pair in zip(seen[0], later, strict=True)) for later in seen]
    assert same == [True, True, True, False]


def test_what_actors_need_of_async_dqn() -> None:
    """Gradients take the target network; rollouts do not."""
    sends, keeps = made("async_dqn"), made("async_dqn", asynchronous=False)
    assert (sends.sends, keeps.sends) == ("gradients", "rollouts")
    assert {name.partition(".")[0] for name, _ in sends.published.named_parameters()} == {"q", "q_target"}
    assert keeps.published is keeps.q
    sent = sends.gradients(rollout(sends, CUTS), env_steps=0)
    assert {*sent.aux} == {*sends.gradient_aux}
    assert len(sent.values) == sends.gradient_size


def test_bounds_that_vtrace_does_not_converge_for_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"c_bar: V-trace converges .* got 1 and 0\.5\nwrite c_bar=0\.5"):
        IMPALAConfig(rho_bar=0.5)


# --- a network that remembers ----------------------------------------------------------------------------------------


def test_a_network_that_remembers_goes_through_each_episode_by_itself() -> None:
    """Its rows say what the agent would have said, step by step, with the memory that it had."""
    given = kit()
    given.network = lambda *args: build_gru(GruConfig(hidden=[5], memory_size=4), *args)
    algo = IMPALA(IMPALAConfig(n_steps=T, batch_rollouts=E), given)
    data, cuts = rollout_with_memory(algo), {where for where, kind in CUTS.items() if kind == "truncated"}
    batch = whole(algo, data)
    output, value = outputs(algo.network, batch)
    memory = data.extras["memory"]
    for t in range(T):
        (said, worth), after = algo.agent.forward(data.obs[t], memory[t])
        np.testing.assert_allclose(output[t * E : (t + 1) * E].detach().numpy(), said, atol=1e-5)
        np.testing.assert_allclose(value[t * E : (t + 1) * E].detach().numpy(), worth, atol=1e-5)
        for e in range(E):
            if (t, e) in cuts:
                row = (T + 1) * E + [where for where in data.final_obs if where in cuts].index((t, e))
                (_, worth), _ = algo.agent.forward(data.final_obs[t, e][None], after[e : e + 1])
                assert value[row].item() == pytest.approx(worth.item(), abs=1e-5)
            elif t == T - 1:
                (_, worth), _ = algo.agent.forward(data.obs[T, e][None], after[e : e + 1])
                assert value[T * E + e].item() == pytest.approx(worth.item(), abs=1e-5)
    metrics = algo.learn(data, Progress(1000, env_steps=T * E))
    assert float(metrics["rho"]) == pytest.approx(1, abs=1e-5)


def rollout_with_memory(algo: Any) -> Rollout:
    """As `rollout`, of an agent that remembers; where an episode ended its memory begins anew."""
    rng, memory = np.random.default_rng(0), algo.agent.initial_memory(E)
    obs = rng.normal(size=(T + 1, E, 3)).astype(np.float32)
    actions, columns = [], []
    for t in range(T):
        action, after, extras = algo.agent.act(obs[t], memory, explore=True, env_steps=0)
        actions.append(action)
        columns.append({**extras, "memory": memory})
        memory = after.copy()
        memory[[e for e in range(E) if (t, e) in CUTS]] = 0
    flags = {
        kind: np.array([[CUTS.get((t, e)) == kind for e in range(E)] for t in range(T)]) for kind in set(CUTS.values())
    }
    final = {where: rng.normal(size=3).astype(np.float32) for where in CUTS}
    extras = {key: np.stack([column[key] for column in columns]) for key in columns[0]}
    reward = rng.normal(size=(T, E)).astype(np.float32)
    return Rollout(obs, np.stack(actions), reward, flags["terminated"], flags["truncated"], final, extras)


# --- a network that is noisy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["factorised", "independent"])
@pytest.mark.parametrize("name", ["acer", "impala"])
def test_noise_is_that_with_which_the_agent_acted(name: str, kind: str) -> None:
    """So a policy that has not moved is the one that acted; observations behind the last step are seen without."""
    algo = made(name, network={"noisy": kind, "hidden": [5]})
    data = rollout(algo, CUTS)
    units = algo.network.units
    assert data.extras["noise"].shape == (T, E, units)
    assert algo.network.shares == [units, 0]  # of the policy alone
    batch = whole(algo, data)
    assert not batch["noise"][T * E :].any()
    assert len(batch["noise"]) == len(batch["obs"]) > T * E
    _, aux = algo.loss(algo.nets, batch)
    assert aux["rho"].item() == pytest.approx(1, abs=1e-5)
    before = weights(algo)
    algo.learn(data, Progress(1000, env_steps=T * E))
    changed = {
        name for (name, new), old in zip(algo.nets.named_parameters(), before, strict=True) if (new != old).any()
    }
    assert any(".weight_sigma" in name for name in changed)
    greedy = [algo.agent.act(data.obs[0], None, explore=False, env_steps=0)[0].tolist() for _ in range(2)]
    assert greedy[0] == greedy[1]


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("kind", ["factorised", "independent"])
def test_noise_of_online_and_target_network_is_not_the_same(kind: str, double: bool) -> None:
    algo = made("async_dqn", network={"noisy": kind, "dueling": True}, double=double)
    batch = whole(algo, rollout(algo, CUTS))
    each = (len(batch["obs"]), len(batch["obs"]) - T * E) if kind == "independent" else ((), ())
    units = algo.q.units
    shapes = [(rows, units) if rows else (units,) for rows in each]
    assert [tuple(batch[name].shape) for name in ("noise", "target_noise")] == shapes
    assert not torch.equal(batch["noise"][..., -1, None], batch["target_noise"][..., -1, None])
    assert algo.learn(rollout(algo, CUTS), Progress(1000, env_steps=T * E))["loss"] > 0


# --- batches ---------------------------------------------------------------------------------------------------------


def learned(algo: Any, *data: Rollout) -> list[dict[str, Any]]:
    """The batches that are learned from."""
    return [batch for each in data for batch in algo.batches(each)]


def test_what_is_left_of_a_rollout_waits_for_the_next() -> None:
    algo = made("impala", batch_rollouts=3)
    data = [rollout(algo, CUTS, seed) for seed in range(3)]
    batches = learned(algo, *data)
    assert algo.trajectories.waiting == 0
    rewards, obs = (np.concatenate([getattr(d, name) for d in data], 1) for name in ("reward", "obs"))
    assert len(batches) == 2
    for k, batch in enumerate(batches):
        np.testing.assert_array_equal(batch["reward"].numpy(), rewards[:, 3 * k : 3 * k + 3])
        flat = obs[:, 3 * k : 3 * k + 3].reshape(-1, 3)
        np.testing.assert_array_equal(batch["obs"][: len(flat)].numpy(), flat)
        assert len(batch["obs"]) == len(flat) + len(batch["cut"])
    assert [batch["cut"].tolist() for batch in batches] == [[21, 13, 23], [12, 22, 14]]


def test_a_rollout_that_was_cut_short_is_learned_from_by_itself() -> None:
    algo, progress = made("impala", batch_rollouts=3), Progress(1000, env_steps=6)
    data = rollout(algo)
    columns = {name: getattr(data, name)[:3] for name in ("action", "reward", "terminated", "truncated")}
    extras = {key: column[:3] for key, column in data.extras.items()}
    before = weights(algo)
    assert algo.learn(data._replace(obs=data.obs[:4], extras=extras, **columns), progress)["loss"]
    assert progress.gradient_steps == 1
    assert len(algo.trajectories) == 0
    assert not all(torch.equal(*pair) for pair in zip(before, weights(algo), strict=True))


def test_old_trajectories_are_drawn_a_poisson_number_of_times() -> None:
    algo = made("impala", replay_ratio=2.5, replay_min=9, replay_capacity=40)
    counts = [len(learned(algo, rollout(algo, CUTS, seed))) for seed in range(200)]
    assert counts[:4] == [1] * 4
    drawn = np.array(counts[4:]) - 1
    assert drawn.mean() == pytest.approx(2.5, abs=0.4)
    assert drawn.var() == pytest.approx(2.5, abs=0.8)
    assert len(algo.trajectories) == 40


def test_offline_only_what_is_drawn_is_learned_from() -> None:
    algo = made("impala", online=False, replay_ratio=4.0, replay_min=E)
    rewards = [rollout(algo, CUTS, seed).reward for seed in range(5)]
    batches = [batch for seed in range(5) for batch in learned(algo, rollout(algo, CUTS, seed))]
    known = {column.tobytes() for reward in rewards for column in reward.T}
    assert 8 < len(batches) < 40
    assert all(column.tobytes() in known for batch in batches for column in batch["reward"].numpy().T)
    with pytest.raises(ConfigError, match="online: nothing would be learned"):
        IMPALAConfig(online=False)


def test_a_ring_goes_on_from_its_state() -> None:
    """Overwritten, with trajectories that wait and episodes that were cut."""

    def filled(count: int) -> Trajectories:
        ring, algo = Trajectories(7, np.random.default_rng(0)), made("impala")
        for seed in range(count):
            ring.add(trajectories(rollout(algo, CUTS, seed), ["log_prob"]))
            if ring.waiting > 3:
                ring.next(3)
        return ring

    one, other = filled(6), Trajectories(7, np.random.default_rng(5))
    other.load_state_dict(one.state_dict())
    assert (other.added, other.waiting, len(other)) == (12, one.waiting, 7)
    assert one.waiting > 0
    for take in (lambda ring: ring.next(ring.waiting), lambda ring: ring.sample(20)):
        a, b = take(one), take(other)
        assert same(a, b)
        assert len(b.cut) > 0
    with pytest.raises(ValueError, match="8 trajectories are waiting, there is room for 7"):
        for seed in range(4):
            other.add(trajectories(rollout(made("impala"), CUTS, seed), ["log_prob"]))


def same(one: Batch, other: Batch) -> bool:
    columns = all(np.array_equal(column, other.columns[name]) for name, column in one.columns.items())
    return columns and {k: v.tolist() for k, v in one.cut.items()} == {k: v.tolist() for k, v in other.cut.items()}


# --- gradients -------------------------------------------------------------------------------------------------------


def test_a_gradient_that_was_sent_makes_the_step_that_the_learner_would() -> None:
    actor, learner, alone = (
        made("a3c", max_grad_norm=0.1),
        made("a3c", max_grad_norm=0.1),
        made("a3c", max_grad_norm=0.1),
    )
    assert (actor.sends, made("a3c", asynchronous=False).sends) == ("gradients", "rollouts")
    data, progress = rollout(actor, CUTS), Progress(1000, env_steps=T * E)
    before = weights(actor)
    sent = actor.gradients(data._replace(policy_version=3), env_steps=0)
    assert (sent.env_steps, sent.policy_version) == (T * E, 3)
    assert sent.values.shape == (actor.gradient_size,) == (sum(w.numel() for w in before),)
    assert {*sent.aux} == {*actor.gradient_aux}
    assert all(torch.equal(*pair) for pair in zip(before, weights(actor), strict=True))
    copied = sent.values.copy()
    metrics = learner.learn(sent, progress)
    expected = alone.learn(data, Progress(1000, env_steps=T * E))
    assert np.array_equal(sent.values, copied)
    assert {key: pytest.approx(float(value)) for key, value in expected.items()} == metrics
    assert progress.gradient_steps == 1
    torch.testing.assert_close(weights(learner), weights(alone))


def test_what_is_published_are_the_weights_that_actors_go_by() -> None:
    algo = made("a3c")
    assert algo.published is algo.agent.network is algo.network
