"""Agents for a loop of one's own: PTAN's contracts, and the Ornstein-Uhlenbeck process against its formulas."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit
from torch import nn

from rlrun.agents import (
    ActorCriticAgent,
    ArgmaxActionSelector,
    BaseAgent,
    CategoricalActionSelector,
    DQNAgent,
    EpsilonGreedyActionSelector,
    OrnsteinUhlenbeck,
    OrnsteinUhlenbeckAgent,
    PolicyAgent,
    ProbabilityActionSelector,
    default_states_preprocessor,
    float32_preprocessor,
)
from rlrun.envs.toy import CountingEnv, TargetEnv, ToyEnv
from rlrun.experience import ExperienceSource
from rlrun.schedules import Linear
from rlrun.types import Array


class Diagonal(nn.Module):
    """Says [B, 3] with a one on the diagonal, whatever it sees, and whether it was asked for a graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.graph, self.seen = torch.is_grad_enabled(), x
        return torch.eye(len(x), 3)


def test_a_dqn_agent_takes_a_batch_and_gives_one() -> None:
    net = Diagonal()
    actions, agent_states = DQNAgent(net, ArgmaxActionSelector())(torch.zeros(2, 5))
    assert actions.tolist() == [0, 1]
    assert agent_states == [None, None]
    assert not net.graph
    kept = DQNAgent(dqn_model=net, action_selector=ArgmaxActionSelector())([np.zeros(5)] * 3, ["a", "b", "c"])
    assert kept[0].tolist() == [0, 1, 2]
    assert kept[1] == ["a", "b", "c"]


def test_epsilon_may_be_changed_at_any_time() -> None:
    selector = EpsilonGreedyActionSelector(epsilon=1.0)
    agent = DQNAgent(Diagonal(), selector)
    assert len({tuple(agent(np.zeros((3, 5)))[0]) for _ in range(50)}) > 5
    selector.epsilon = 0.0
    assert {tuple(agent(np.zeros((3, 5)))[0]) for _ in range(50)} == {(0, 1, 2)}


def test_a_schedule_goes_by_the_sources_steps() -> None:
    """Epsilon falls to 0 within 100 env steps, of two environments together."""
    selector = EpsilonGreedyActionSelector(Linear(1.0, 0.0, 100), np.random.default_rng(0))
    source = ExperienceSource([CountingEnv(1000), CountingEnv(1000)], DQNAgent(Always(2), selector), steps_count=1)
    actions = [step.action for (step,) in islice(source, 300)]
    assert {0, 1} <= set(actions[:40])
    assert set(actions[100:]) == {1}
    assert source.env_steps == 300


class Always(nn.Module):
    """The last of `actions` is best."""

    def __init__(self, actions: int):
        super().__init__()
        self.actions = actions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arange(self.actions).float().expand(len(x), -1)


def test_without_exploration_the_best_is_taken_and_nothing_drawn() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    for agent in (
        DQNAgent(Always(3), EpsilonGreedyActionSelector(1.0, rng)),
        PolicyAgent(Always(3), CategoricalActionSelector(rng)),
        ActorCriticAgent(lambda x: (Always(3)(x), x), CategoricalActionSelector(rng)),
    ):
        action, memory, extras = agent.act(np.zeros((4, 1), np.float32), None, explore=False, env_steps=0)
        assert action.tolist() == [2, 2, 2, 2]
        assert memory is None and not extras
    assert rng.bit_generator.state == before


def shares(agent: BaseAgent, draws: int = 6000) -> Array:
    actions, _ = agent(np.zeros((draws, 1)))
    return np.bincount(actions, minlength=3) / draws


def test_a_policy_is_sampled_from_probabilities_or_from_logits() -> None:
    p = torch.tensor([0.2, 0.5, 0.3])

    def probabilities(x: torch.Tensor) -> torch.Tensor:
        return p.expand(len(x), 3)

    def logits(x: torch.Tensor) -> torch.Tensor:
        return p.log().expand(len(x), 3) + 5

    seed = np.random.default_rng(1)
    assert shares(PolicyAgent(probabilities, ProbabilityActionSelector(seed))) == pytest.approx(p.tolist(), abs=0.03)
    softmax = PolicyAgent(logits, ProbabilityActionSelector(seed), apply_softmax=True)
    assert shares(softmax) == pytest.approx(p.tolist(), abs=0.03)
    assert shares(PolicyAgent(logits, CategoricalActionSelector(seed))) == pytest.approx(p.tolist(), abs=0.03)
    with pytest.raises(ValueError, match="sum to 1"):
        PolicyAgent(logits)(np.zeros((1, 1)))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("flat", [True, False])
def test_an_actor_critic_keeps_values_as_its_states(batch: int, flat: bool) -> None:
    def model(x: torch.Tensor) -> Any:
        return torch.eye(len(x), 3), x.sum(1) if flat else x.sum(1, keepdim=True)

    obs = np.arange(2.0 * batch).reshape(batch, 2)
    agent = ActorCriticAgent(model)
    actions, agent_states = agent(obs)
    assert actions.tolist() == list(range(batch))
    assert agent_states == obs.sum(1).tolist()
    assert agent.value(obs).tolist() == obs.sum(1).tolist()


def test_what_the_network_sees() -> None:
    assert default_states_preprocessor([np.zeros(3), np.ones(3)]).dtype == torch.float32  # not NumPy's float64
    assert default_states_preprocessor([np.zeros((2, 2), np.uint8)]).dtype == torch.uint8
    assert default_states_preprocessor([1, 2]).tolist() == [1, 2]
    assert float32_preprocessor([1, 2]).dtype == torch.float32
    fields = default_states_preprocessor(np.zeros(2, [("a", np.float32, (3,)), ("b", np.int64)]))
    assert fields["a"].shape == (2, 3) and fields["b"].tolist() == [0, 0]
    net = Diagonal()
    DQNAgent(net, ArgmaxActionSelector(), preprocessor=None)([1, 2])
    assert net.seen == [1, 2]
    DQNAgent(net, ArgmaxActionSelector(), preprocessor=float32_preprocessor)([1, 2])
    assert net.seen.dtype == torch.float32


def test_an_overridden_call_is_what_a_source_makes() -> None:
    class Stubborn(DQNAgent):
        def __call__(self, states: Any, agent_states: Any = None) -> Any:
            actions, agent_states = super().__call__(states, agent_states)
            return np.zeros_like(actions), agent_states

    source = ExperienceSource(ToyEnv(), Stubborn(Always(3), ArgmaxActionSelector()), steps_count=1)
    assert {step.action for (step,) in islice(source, 15)} == {0}


def test_the_noise_follows_its_formula() -> None:
    """A-09: from 0, mu .5, sigma .2, theta .15, dt .01; after 100 steps of 4000 paths."""
    process, rng = OrnsteinUhlenbeck(mu=0.5, sigma=0.2, theta=0.15, dt=0.01), np.random.default_rng(0)
    x = np.zeros(4000)
    for _ in range(100):
        x = process(x, rng)
    kept = 1 - 0.15 * 0.01
    assert 0.5 * (1 - kept**100) == pytest.approx(0.0697, abs=1e-4)
    assert x.mean() == pytest.approx(0.0697, abs=0.012)
    assert x.var() == pytest.approx(0.2**2 * 0.01 * (1 - kept**200) / (1 - kept**2), rel=0.06)
    assert x.var() == pytest.approx(0.0346, rel=0.06)
    for wrong in ({"dt": 0.0}, {"sigma": -1.0}, {"theta": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            OrnsteinUhlenbeck(**wrong)


def still(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(x), 2)


def test_noise_begins_anew_with_each_episode_of_its_own_environment() -> None:
    """Without pull or spread, but for a drift of .1 a step: the action tells the step of the episode."""
    agent = OrnsteinUhlenbeckAgent(still, [-1, -1], [1, 1], OrnsteinUhlenbeck(mu=1e6, theta=1e-7, sigma=0.0))
    envs = [TimeLimit(TargetEnv(2, 100), length) for length in (3, 5)]
    for episode in islice(ExperienceSource(envs, agent).episodes(), 6):
        assert [step.action.tolist() for step in episode] == [
            pytest.approx([0.1 * t, 0.1 * t], rel=1e-3) for t in range(1, len(episode) + 1)
        ]


def test_noisy_actions_stay_inside_the_bounds() -> None:
    agent = OrnsteinUhlenbeckAgent(still, [-0.1, 0], [0, 0.3], rng=np.random.default_rng(0))
    actions, noise = agent([np.zeros(2)] * 200)
    assert np.unique(actions[:, 0]).min() == np.float32(-0.1) and actions[:, 0].max() == 0
    assert actions[:, 1].min() == 0 and 0.1 < actions[:, 1].max() <= 0.3
    assert len(noise) == 200 and noise[0].shape == (2,)
    agent.epsilon = 0.0
    assert not agent([np.zeros(2)] * 3, noise[:3])[0].any()
    greedy, memory, _ = agent.act(np.zeros((3, 2)), np.ones((3, 2)), explore=False, env_steps=0)
    assert not greedy.any() and (memory == 1).all()
