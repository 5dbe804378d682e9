"""What a step was worth to a policy other than the one that took it, as pure tensor code.

    bootstrapped    returns, if it was the same     Mnih et al. 2016, "A3C", arXiv:1602.01783, algorithm S3
    vtrace          values of states            Espeholt et al. 2018, "IMPALA", arXiv:1802.01561, equation 1
    retrace         values of actions           Munos et al. 2016, arXiv:1606.02647; Wang et al. 2017, "ACER",
                                                arXiv:1611.01224, equation 5
    truncation      ACER's importance weights   the same, equation 7
    trust_region    ACER's bounded step         the same, equation 12

Letters: T time steps, E trajectories side by side, A actions; pi is the policy that learns, mu the one that acted, and
rho = pi(a|s) / mu(a|s). Time-major tensors [T, E]:

    reward      r_t
    discount    gamma; 0 where the episode terminated, so that nothing follows
    next_value  V of the state that step t really led to: where an episode was cut from outside that of its true last
                observation, and in the last row that of the observation behind the trajectory
    ended       bool, an episode ended with step t, either way: nothing is carried back over it

Nothing is carried from beyond the last row. None of it has a gradient, unless what comes in has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


def bootstrapped(reward: Tensor, discount: Tensor, next_value: Tensor, ended: Tensor) -> Tensor:
    """Returns [T, E] to the end of the episode or the trajectory, and what its last state is worth if it goes on there.

    R_t = r_t + gamma R_{t+1}, or r_t + gamma V(s_{t+1}) where no later return follows
    """
    last = following(torch.zeros_like(reward), torch.ones_like(reward), ended)
    return accumulate(reward + discount * last * next_value, discount * (1 - last))


class VTrace(NamedTuple):
    """What V-trace says of T x E steps."""

    value: Tensor  # v_t: what V(s_t) should be
    advantage: Tensor  # r_t + gamma v_{t+1} - V(s_t): how much better a_t was; its policy gradient takes rho times it


def vtrace(
    reward: Tensor,
    discount: Tensor,
    value: Tensor,
    next_value: Tensor,
    ended: Tensor,
    rho: Tensor,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    lam: float = 1.0,
) -> VTrace:
    """V-trace targets and advantages, both [T, E] (equation 1, in the form of remark 1; advantages as in section 4.2).

        d_t = min(rho_bar, rho_t) (r_t + gamma V(s_{t+1}) - V(s_t))
        v_t = V(s_t) + d_t + gamma lam min(c_bar, rho_t) (v_{t+1} - V(s_{t+1}))

    With rho = 1 v_t are lambda returns: for lam = 1 the rewards to the end of the trajectory and what follows there.

    Args:
        value: V(s_t).
        rho_bar: what v_t converges to are the values of a policy between mu (0) and pi (infinite).
        c_bar: how far back a difference is carried; convergence is shown for c_bar <= rho_bar.
        lam: the share of it that is carried (remark 2).

    Raises:
        ValueError: rho_bar is below c_bar.
    """
    if rho_bar < c_bar:
        raise ValueError(f"V-trace takes rho_bar >= c_bar, got {rho_bar:g} and {c_bar:g}")
    difference = rho.clamp(max=rho_bar) * (reward + discount * next_value - value)
    target = value + accumulate(difference, discount * lam * rho.clamp(max=c_bar) * ~ended)
    return VTrace(target, reward + discount * following(target, next_value, ended) - value)


def retrace(
    reward: Tensor,
    discount: Tensor,
    q: Tensor,
    next_value: Tensor,
    ended: Tensor,
    rho: Tensor,
) -> Tensor:
    """Retrace targets Q^ret(s_t, a_t) [T, E].

        Q^ret_t = r_t + gamma [min(1, rho_{t+1}) (Q^ret_{t+1} - Q(s_{t+1}, a_{t+1})) + V(s_{t+1})]

    The weight is that of the next step's action: the one that is valued has been taken, whoever took it.

    Args:
        q: Q(s_t, a_t).
        next_value: V is the mean of Q under pi.
    """
    carried = following(rho.clamp(max=1.0), torch.zeros_like(rho), ended)
    return q + accumulate(reward + discount * next_value - q, discount * carried)


def truncation(log_pi: Tensor, log_mu: Tensor, action: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """ACER's weights of the policy gradient: min(c, rho(a_t)) [B] of what was done, and of what was not, [B, A],

        max(0, 1 - c / rho(a)) for every action,

    which corrects the bias that the truncation brings, in the mean over the policy's own actions.

    Args:
        log_pi, log_mu: log-probabilities [B, A] of all actions.
        action: int64 [B], a_t.
    """
    log_rho = log_pi - log_mu
    taken = log_rho.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    return taken.exp().clamp(max=c), (1 - c * (-log_rho).exp()).clamp(min=0)


def trust_region(gradient: Tensor, slope: Tensor, delta: float) -> Tensor:
    """The vectors [B, A] nearest to some gradients along which a divergence grows by at most `delta` (equation 12).

        z = g - max(0, (k'g - delta) / |k|^2) k

    Args:
        gradient: g, by the statistics of the policy, up which it would go.
        slope: k, the gradient of the divergence by the same.
    """
    excess = (slope * gradient).sum(-1, keepdim=True) - delta
    square = slope.square().sum(-1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    return gradient - (excess / square).clamp(min=0) * slope


def following(carried: Tensor, cut: Tensor, ended: Tensor) -> Tensor:
    """The next row [T, E] of one tensor, or where nothing follows (an episode's end, the last row) another's own."""
    return torch.where(ended, cut, torch.cat([carried[1:], cut[-1:]]))


def accumulate(term: Tensor, carry: Tensor) -> Tensor:
    """x_t = term_t + carry_t x_{t+1} [T, E], backwards from 0."""
    running, rows = torch.zeros_like(term[0]), []
    for now, share in zip(reversed(term.unbind()), reversed(carry.unbind()), strict=True):
        running = torch.addcmul(now, share, running)
        rows.append(running)
    return torch.stack(rows[::-1])
