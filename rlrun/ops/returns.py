"""What a step was worth, computed backwards over rollouts that may contain the ends of episodes.

Letters: T time steps, E environments. All functions take time-major numpy arrays [T, E]:

    reward      r_t
    next_value  V of the state that step t really led to: at a truncated step V(final_obs), not V of the reset state
    terminated  the MDP ended at t: nothing follows, V is 0 whatever `next_value` says
    truncated   the episode was cut at t from outside: V(final_obs) stands for what would have followed

Nothing is carried over an episode's end, nor beyond the last row. Results have the rewards' dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray


def gae(
    reward: Array, value: Array, next_value: Array, terminated: Array, truncated: Array, gamma: float, lam: float
) -> Array:
    """Generalised advantage estimates [T, E]: A_t = d_t + gamma lam A_{t+1}, d_t = r_t + gamma V(s_{t+1}) - V(s_t).

    Schulman et al. 2016, eq. 16. `value` is V(s_t) [T, E]; `gae + value` is the lambda return, the critic's target.
    """
    delta = reward + gamma * np.where(terminated, 0, next_value) - value
    return _accumulate(delta, gamma * lam * ~(terminated | truncated), reward.dtype)


def lambda_returns(
    reward: Array, next_value: Array | float, terminated: Array, truncated: Array, gamma: float, lam: float
) -> Array:
    """Lambda returns [T, E]: G_t = r_t + gamma ((1 - lam) V(s_{t+1}) + lam G_{t+1}) (Sutton & Barto 2018, eq. 12.2)."""
    last = terminated | truncated
    goes_on = ~last
    last[-1] = True
    share = np.where(last, 1, 1 - lam)  # of the value, where there is no later return to mix it with
    term = reward + gamma * share * np.where(terminated, 0, next_value)
    return _accumulate(term, gamma * lam * goes_on, reward.dtype)


def discounted_returns(
    reward: Array, next_value: Array | float, terminated: Array, truncated: Array, gamma: float
) -> Array:
    """Rewards to go [T, E]: G_t = r_t + gamma G_{t+1}, ending in V(s_{t+1}) where the episode or the rollout is cut.

    Mnih et al. 2016 (A3C), algorithm S3. `next_value=0` gives the plain sum that REINFORCE uses.
    """
    return lambda_returns(reward, next_value, terminated, truncated, gamma, lam=1)


def _accumulate(term: Array, carry: Array, dtype: np.dtype) -> Array:
    """x_t = term_t + carry_t x_{t+1}, backwards from 0."""
    result = np.empty(term.shape, dtype)
    running = np.zeros(term.shape[1:])
    for t in range(len(term) - 1, -1, -1):
        running = term[t] + carry[t] * running
        result[t] = running
    return result
