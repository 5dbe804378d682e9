"""V-trace, Retrace and ACER's coefficients against plain loops of the papers' equations, and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rlrun.ops.offpolicy import bootstrapped, retrace, truncation, trust_region, vtrace
from rlrun.ops.returns import discounted_returns

T, E, GAMMA = 9, 3, 0.9


def made(seed: int = 0, spread: float = 1.0) -> dict[str, np.ndarray]:
    """Three trajectories: one of one episode, one that terminates twice, one that is cut twice, the last time at its
    end."""
    rng = np.random.default_rng(seed)
    terminated, truncated = np.zeros((T, E), bool), np.zeros((T, E), bool)
    terminated[[2, 5], 1] = True
    truncated[[3, T - 1], 2] = True
    columns = {key: rng.normal(size=(T, E)) for key in ("reward", "value", "next_value", "q")}
    rho = np.exp(spread * rng.normal(size=(T, E)))
    columns["next_value"][:-1] = np.where(
        (terminated | truncated)[:-1], columns["next_value"][:-1], columns["value"][1:]
    )
    return columns | {"terminated": terminated, "truncated": truncated, "rho": rho}


def tensors(data: dict[str, np.ndarray], *names: str) -> dict[str, Any]:
    ended = data["terminated"] | data["truncated"]
    given = {name: torch.from_numpy(data[name]) for name in ("reward", "next_value", "rho", *names)}
    discount = torch.from_numpy(GAMMA * ~data["terminated"])
    return given | {"discount": discount, "ended": torch.from_numpy(ended)}


def test_a_vector_worked_by_hand() -> None:
    """All ratios are 1, so the targets are discounted returns to the bootstrap of 0.3."""
    reward, value = torch.tensor([[1, -0.5, 0.25, 2, 0]]).T, torch.tensor([[0.5, 0.2, -0.1, 1, 0.7]]).T
    next_value = torch.cat([value[1:], torch.tensor([[0.3]])])
    same = torch.ones(5, 1)
    found = vtrace(reward, 0.9 * same, value, next_value, same < 0, same)
    expected = [2.387647, 1.54183, 2.2687, 2.243, 0.27]
    assert found.value[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert found.advantage[:, 0].tolist() == pytest.approx((torch.tensor(expected) - value[:, 0]).tolist(), abs=1e-6)


@pytest.mark.parametrize(("rho_bar", "c_bar", "lam"), [(1.0, 1.0, 1.0), (2.0, 0.5, 1.0), (math.inf, 1.2, 0.8)])
def test_vtrace_is_the_sum_of_the_paper(rho_bar: float, c_bar: float, lam: float) -> None:
    """v_s = V(s) + sum_t gamma^{t-s} (prod_{i<t} c_i) rho_t (r_t + gamma V(s_{t+1}) - V(s_t)), as far as the episode
    goes."""
    data = made()
    expected, advantage = np.zeros((T, E)), np.zeros((T, E))
    for e in range(E):
        for s in reversed(range(T)):
            total, weight = 0.0, 1.0
            for t in range(s, T):
                ends = data["terminated"][t, e] or data["truncated"][t, e]
                after = 0.0 if data["terminated"][t, e] else GAMMA * data["next_value"][t, e]
                rho = data["rho"][t, e]
                total += weight * min(rho_bar, rho) * (data["reward"][t, e] + after - data["value"][t, e])
                weight *= GAMMA * lam * min(c_bar, rho)
                if ends:
                    break
            expected[s, e] = data["value"][s, e] + total
            if data["terminated"][s, e]:
                after = 0.0
            elif data["truncated"][s, e] or s == T - 1:
                after = GAMMA * data["next_value"][s, e]
            else:
                after = GAMMA * expected[s + 1, e]
            advantage[s, e] = data["reward"][s, e] + after - data["value"][s, e]
    found = vtrace(**tensors(data, "value"), rho_bar=rho_bar, c_bar=c_bar, lam=lam)
    np.testing.assert_allclose(found.value.numpy(), expected)
    np.testing.assert_allclose(found.advantage.numpy(), advantage)


def test_on_its_own_policy_vtrace_is_the_return() -> None:
    data = made() | {"rho": np.ones((T, E))}
    flags = {name: data[name] for name in ("terminated", "truncated")}
    expected = discounted_returns(data["reward"], data["next_value"], **flags, gamma=GAMMA)
    given = tensors(data, "value")
    np.testing.assert_allclose(vtrace(**given).value.numpy(), expected)
    del given["value"], given["rho"]
    np.testing.assert_allclose(bootstrapped(**given).numpy(), expected)


def test_vtrace_refuses_bounds_that_do_not_converge() -> None:
    with pytest.raises(ValueError, match=r"rho_bar >= c_bar, got 0\.5 and 1"):
        vtrace(**tensors(made(), "value"), rho_bar=0.5)


def test_retrace_is_the_sum_of_the_paper() -> None:
    """Q^ret_s = Q_s + sum_t gamma^{t-s} (prod_{s<i<=t} min(1, rho_i)) (r_t + gamma V(s_{t+1}) - Q_t) (Munos et al.,
    equation 3): the product begins with the step after the one that is valued."""
    data = made(1)
    expected = np.zeros((T, E))
    for e in range(E):
        for s in range(T):
            total, weight = 0.0, 1.0
            for t in range(s, T):
                weight *= 1.0 if t == s else GAMMA * min(1.0, data["rho"][t, e])
                after = 0.0 if data["terminated"][t, e] else GAMMA * data["next_value"][t, e]
                total += weight * (data["reward"][t, e] + after - data["q"][t, e])
                if data["terminated"][t, e] or data["truncated"][t, e]:
                    break
            expected[s, e] = data["q"][s, e] + total
    np.testing.assert_allclose(retrace(**tensors(data, "q")).numpy(), expected)


def test_retrace_by_the_recursion_of_acer() -> None:
    """Q^ret <- r_i + gamma Q^ret; Q_i learns from it; Q^ret <- min(1, rho_i) (Q^ret - Q_i) + V_i (algorithm 2)."""
    data = made(2)
    data["terminated"][:], data["truncated"][:] = False, False
    value, expected = np.random.default_rng(0).normal(size=T + 1), []
    running = value[T]
    for i in reversed(range(T)):
        running = data["reward"][i, 0] + GAMMA * running
        expected.insert(0, running)
        running = min(1.0, data["rho"][i, 0]) * (running - data["q"][i, 0]) + value[i]
    data["next_value"][:, 0] = value[1:]
    np.testing.assert_allclose(retrace(**tensors(data, "q"))[:, 0].numpy(), expected)


def test_truncated_weights_and_their_correction_by_hand() -> None:
    pi, mu = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]), torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.45, 0.05]])
    taken, correction = truncation(pi.log(), mu.log(), torch.tensor([0, 1]), c=2.0)
    assert taken.tolist() == pytest.approx([2.0, 0.2 / 0.45])
    expected = [[1 - 2 / 3, 0, 0], [0, 0, 1 - 2 / 12]]
    torch.testing.assert_close(correction, torch.tensor(expected))


def test_truncated_and_corrected_the_gradient_has_no_bias() -> None:
    """E_mu[min(c, rho) f] + E_pi[max(0, 1 - c / rho) f] = E_pi[f] for whatever c (equation 7)."""
    generator = torch.Generator().manual_seed(0)
    log_pi, log_mu, f = (torch.randn(1, 5, generator=generator).double() for _ in range(3))
    log_pi, log_mu = log_pi.log_softmax(-1), (2 * log_mu).log_softmax(-1)
    pi, mu = log_pi.exp(), log_mu.exp()
    for c in (0.3, 1.0, 10.0):
        every = torch.arange(5)
        taken, correction = truncation(log_pi.expand(5, 5), log_mu.expand(5, 5), every, c)
        total = (mu[0] * taken * f[0]).sum() + (pi * correction[:1] * f).sum()
        torch.testing.assert_close(total, (pi * f).sum())


def test_an_action_that_was_never_taken_is_corrected_in_full() -> None:
    log_mu = torch.tensor([[0.0, torch.finfo(torch.float32).min]])
    taken, correction = truncation(torch.tensor([[0.5, 0.5]]).log(), log_mu, torch.tensor([0]), c=10.0)
    assert taken.tolist() == [0.5]
    assert correction.tolist() == [[0.0, 1.0]]


def test_a_trust_region_by_hand() -> None:
    """k'g = 11 and |k|^2 = 5: with delta = 1 the gradient loses twice the slope; with 11 and with 20 nothing."""
    g, k = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0]])
    assert trust_region(g, k, 1.0).tolist() == [[1.0, 0.0]]
    assert (k * trust_region(g, k, 1.0)).sum().item() == 1.0
    for delta in (11.0, 20.0):
        assert trust_region(g, k, delta).tolist() == g.tolist()
    assert trust_region(g, torch.zeros(1, 2), 1.0).tolist() == g.tolist()
