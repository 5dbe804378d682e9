"""Agents of action values: what they ask the network, and that not asking it changes no action."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlrun.agents.q import QAgent
from rlrun.agents.selectors import EpsilonGreedyActionSelector
from rlrun.schedules import Constant, WarmUp
from rlrun.types import MASK, Array

MASKED = np.dtype([("obs", np.float32, 3), (MASK, np.bool_, 5)])
STEPS, RANDOM_STEPS = 40, 24


class Counted:
    """A network of action values that counts how often it is asked; with `units`, its noise moves them."""

    def __init__(self, units: int = 0):
        self.network, self.units, self.calls = self, units, 0
        self.weight = np.random.default_rng(1).normal(size=(3 + units, 5)).astype(np.float32)

    def __call__(self, obs: Array, *noise: Array) -> Array:
        self.calls += 1
        seen = obs["obs"] if obs.dtype.names else obs
        return np.concatenate([seen, *noise], 1) @ self.weight


def played(network: Counted, explorer: EpsilonGreedyActionSelector, asks_always: bool, **how: Any) -> Array:
    """Actions [STEPS, 2] in two environments."""
    agent, stream, actions = QAgent(network, explorer, 5, **how), np.random.default_rng(2), []
    if asks_always:
        explorer.all_random = lambda env_steps: False  # type: ignore[method-assign]
    for step in range(STEPS):
        obs: Array = stream.normal(size=(2, 3)).astype(np.float32)
        if explorer.masked:
            obs, bare = np.zeros(2, MASKED), obs
            obs["obs"], obs[MASK] = bare, stream.random((2, 5)) < 0.5
            obs[MASK][:, step % 5] = True
        actions.append(agent.act(obs, None, explore=True, env_steps=step)[0])
    return np.array(actions)


@pytest.mark.parametrize("units", [0, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_a_network_is_not_asked_while_every_action_is_random(units: int, masked: bool) -> None:
    def explorer() -> EpsilonGreedyActionSelector:
        chance = WarmUp(RANDOM_STEPS, Constant(0.3))
        made = EpsilonGreedyActionSelector(chance, np.random.default_rng(3), masked=masked, spread=1.0)
        made.station(range(2), 2)
        return made

    asked, spared = Counted(units), Counted(units)
    expected = played(asked, explorer(), asks_always=True)
    np.testing.assert_array_equal(played(spared, explorer(), asks_always=False), expected)
    assert (asked.calls, spared.calls) == (STEPS, STEPS - RANDOM_STEPS)
    assert len(np.unique(expected)) == 5


def test_values_that_are_recorded_are_asked_for() -> None:
    network = Counted()
    played(network, EpsilonGreedyActionSelector(1.0, np.random.default_rng(3)), asks_always=False, records=True)
    assert network.calls == STEPS
