from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tabular import discrete, sweeps

from rlrun.agents.selectors import RandomArgmaxActionSelector
from rlrun.agents.table import Rows, TableAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.tabular.q_learning import QLearning, QLearningConfig
from rlrun.errors import ConfigError
from rlrun.schedules import ScheduleConfig
from rlrun.state import generator_state
from rlrun.types import EnvSpec, Metrics, Progress, Space


def box(low: Any, high: Any) -> Space:
    low = np.array(low, np.float32)
    return Space("box", low.shape, low.dtype, low=low, high=np.array(high, np.float32))


def build(states: int = 4, actions: int = 2, total_timesteps: int = 1000, seed: int = 0, **options: Any) -> QLearning:
    env = EnvSpec("test", discrete(states), discrete(actions))
    return QLearning(
        QLearningConfig(**options), Kit(env, rng=np.random.default_rng(seed), total_timesteps=total_timesteps)
    )


def learn(algo: QLearning, *rollout: Any, **kwargs: Any) -> Metrics:
    return algo.learn(sweeps(*rollout, **kwargs), Progress(1000))


def test_update_by_hand() -> None:
    """Q(0, 1) = 1, max Q(2) = 4, r = 3, gamma .5, lr .25: target 3 + 2 = 5, error 4, new value 2."""
    algo = build(gamma=0.5, learning_rate=0.25)
    algo.q[0], algo.q[2] = [9, 1], [4, -1]
    metrics = learn(algo, [[0], [2]], [[1]], [[3.0]])
    assert algo.q[0].tolist() == [9, 2]
    assert algo.q[[1, 2, 3]].tolist() == [[0, 0], [4, -1], [0, 0]]
    assert metrics["td_error"] == 4


def test_nothing_follows_a_terminated_step() -> None:
    algo = build(gamma=0.5, learning_rate=0.5, initial_value=8)
    learn(algo, [[0], [1]], [[0]], [[2.0]], terminated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q[0, 0] == 8 + 0.5 * (2 - 8)


def test_a_truncated_step_bootstraps_from_the_last_state_not_the_reset_one() -> None:
    algo = build(gamma=0.5, learning_rate=1.0)
    algo.q[1], algo.q[3] = 100, [6, 4]
    learn(algo, [[0], [1]], [[0]], [[2.0]], truncated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q[0, 0] == 5


def test_terminated_and_truncated_at_once_is_terminated() -> None:
    algo = build(gamma=0.5, learning_rate=1.0, initial_value=8)
    learn(algo, [[0], [1]], [[0]], [[2.0]], [[True]], [[True]], {(0, 0): np.array(3)})
    assert algo.q[0, 0] == 2


def test_environments_in_the_same_state_update_one_after_the_other() -> None:
    """lr .5 from 0 with rewards 4 and 8, gamma 0: 2 after the first, 2 + .5 * (8 - 2) = 5 after the second."""
    algo = build(gamma=0.0, learning_rate=0.5)
    metrics = learn(algo, [[1, 1], [0, 0]], [[1, 1]], [[4.0, 8.0]])
    assert algo.q[1, 1] == 5
    assert metrics["td_error"] == (4 + 6) / 2


def test_later_rows_of_a_rollout_see_the_earlier_ones() -> None:
    """0 -> 1 -> end, visited twice: the second pass carries the end's reward back to state 0."""
    algo = build(gamma=0.5, learning_rate=1.0)
    obs, action, reward = [[0], [1], [0], [1], [0]], [[0]] * 4, [[0.0], [8.0], [0.0], [8.0]]
    ends = [[False], [True], [False], [True]]
    learn(algo, obs, action, reward, terminated=ends, final_obs={(1, 0): np.array(2), (3, 0): np.array(2)})
    assert algo.q[:, 0].tolist() == [4, 8, 0, 0]


def test_an_endless_state_cut_every_five_steps_is_worth_ten() -> None:
    """One state, one action, reward 1, gamma .9, truncated every 5 steps: V = 1 / (1 - gamma), not 3.57."""
    algo = build(states=1, actions=1, gamma=0.9, learning_rate=0.5)
    for step in range(1, 501):
        cut = step % 5 == 0
        learn(algo, [[0], [0]], [[0]], [[1.0]], truncated=[[cut]], final_obs={(0, 0): np.array(0)} if cut else None)
    assert algo.q[0, 0] == pytest.approx(10, abs=1e-5)


def test_q_star_of_a_corridor() -> None:
    """States 0..3, action 0 goes left (0 stays), 1 goes right; stepping right from 3 earns 1 and ends the episode.

    With gamma .5: Q*(s, right) = .5^(3 - s), and Q*(s, left) = .5 V*(max(s - 1, 0)).
    """
    algo = build(gamma=0.5, learning_rate=1.0, epsilon=ScheduleConfig(start=0.5))
    state = 0
    for step in range(2000):
        action, _, extras = algo.agent.act(np.array([state]), None, explore=True, env_steps=step)
        assert not extras
        move = int(action[0])
        end = state == 3 and move == 1
        after = min(state + 1, 3) if move else max(state - 1, 0)
        start = 0 if end else after
        learn(
            algo,
            [[state], [start]],
            [[move]],
            [[float(end)]],
            terminated=[[end]],
            final_obs={(0, 0): np.array(3)} if end else None,
        )
        state = start
    right, left = [1 / 8, 1 / 4, 1 / 2, 1], [1 / 16, 1 / 16, 1 / 8, 1 / 4]
    assert algo.q.tolist() == np.transpose([left, right]).tolist()
    greedy, _, _ = algo.agent.act(np.arange(4), None, explore=False, env_steps=0)
    assert greedy.tolist() == [1, 1, 1, 1]


def test_epsilon_is_the_probability_of_a_random_action() -> None:
    algo = build(actions=4, epsilon=ScheduleConfig("linear", start=1.0, end=0.2, fraction=0.5))
    algo.q[:] = [0, 0, 5, 0]
    obs = np.zeros(5000, np.int64)
    for env_steps, greedy in ((0, 0.25), (250, 0.55), (500, 0.85), (900, 0.85)):
        action, _, _ = algo.agent.act(obs, None, explore=True, env_steps=env_steps)
        assert (action == 2).mean() == pytest.approx(greedy, abs=0.03)
    assert algo.agent.metrics(900) == {"exploration_rate": pytest.approx(0.2)}


def test_an_empty_table_is_explored_evenly_but_evaluated_without_a_draw() -> None:
    algo = build(actions=4, epsilon=ScheduleConfig(start=0.0))
    obs = np.zeros(4000, np.int64)
    before = generator_state(algo.rng)
    action, _, _ = algo.agent.act(obs, None, explore=False, env_steps=0)
    assert (action == 0).all()
    assert generator_state(algo.rng) == before
    action, _, _ = algo.agent.act(obs, None, explore=True, env_steps=0)
    assert np.bincount(action, minlength=4) / 4000 == pytest.approx([0.25] * 4, abs=0.03)


def play(algo: QLearning, steps: int, seed: int) -> list[list[int]]:
    """Random transitions, actions by the agent; returns the actions."""
    world = np.random.default_rng(seed)
    taken = []
    for _ in range(steps):
        obs = world.integers(4, size=(2, 3))
        action, _, _ = algo.agent.act(obs[0], None, explore=True, env_steps=0)
        taken.append(action.tolist())
        algo.learn(sweeps(obs, action[None], world.normal(size=(1, 3))), Progress(1000))
    return taken


def test_resume_continues_table_and_stream() -> None:
    algo = build(epsilon=ScheduleConfig(start=0.5))
    play(algo, 20, seed=1)
    state = algo.state_dict()
    expected = play(algo, 20, seed=2)
    again = build(epsilon=ScheduleConfig(start=0.5), seed=99)
    agent = again.agent
    again.load_state_dict(state)
    assert play(again, 20, seed=2) == expected
    assert (again.q == algo.q).all()
    assert agent.values is again.q  # an agent handed out before still sees the table


def test_a_table_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(4, 2\)"):
        build().load_state_dict(build(states=1).state_dict())


def test_a_fork_shares_the_table_and_has_a_stream_of_its_own() -> None:
    algo = build(actions=50, epsilon=ScheduleConfig(start=1.0))
    before = generator_state(algo.rng)
    fork = algo.agent.fork(np.random.default_rng(5))
    obs = np.zeros(20, np.int64)
    first, _, _ = fork.act(obs, None, explore=True, env_steps=0)
    second, _, _ = algo.agent.fork(np.random.default_rng(5)).act(obs, None, explore=True, env_steps=0)
    assert (first == second).all()
    assert generator_state(algo.rng) == before
    algo.q[0, 7] = 1
    assert fork.act(obs, None, explore=False, env_steps=0)[0].tolist() == [7] * 20


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"gamma": 1.5}, "gamma"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": 2.0}, "learning_rate"),
        ({"epsilon": ScheduleConfig(start=1.5)}, "epsilon.start"),
    ],
)
def test_impossible_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        QLearningConfig(**options)
    assert error.value.key == key


def test_rows_of_discrete_and_one_hot_observations() -> None:
    rows = Rows(EnvSpec("test", discrete(5), discrete(2)))
    assert rows.count == 5
    assert rows(np.array([3, 0])).tolist() == [3, 0]
    rows = Rows(EnvSpec("test", box([0, 0, 0], [1, 1, 1])._replace(one_hot=True), discrete(2)))
    assert rows.count == 3
    assert rows(np.eye(3, dtype=np.float32)[[[2, 0], [1, 1]]]).tolist() == [[2, 0], [1, 1]]


@pytest.mark.parametrize("space", [box([-1, 0], [1, 1]), box([0, 0], [1, 1]), box([[0, 0]], [[1, 1]]), box(0, 1)])
def test_observations_that_number_no_row_are_refused(space: Space) -> None:
    with pytest.raises(ConfigError, match="row of a table"):
        Rows(EnvSpec("test", space, discrete(2)))


def test_exploring_scores_may_differ_from_the_greedy_values() -> None:
    values = np.array([[0.0, 1.0], [1.0, 0.0]])
    selector = RandomArgmaxActionSelector(np.random.default_rng(0))
    agent = TableAgent(
        Rows(EnvSpec("test", discrete(2), discrete(2))), values, selector, scores=lambda row: -values[row]
    )
    obs = np.array([0, 1, 1])
    assert agent.act(obs, None, explore=True, env_steps=0)[0].tolist() == [0, 1, 1]
    assert agent.act(obs, None, explore=False, env_steps=0)[0].tolist() == [1, 0, 0]
    assert agent.fork(np.random.default_rng(1)).act(obs, None, explore=True, env_steps=0)[0].tolist() == [0, 1, 1]
