"""SARSA(lambda) and expected SARSA: hand-worked numbers, a plain loop of the book's formula, and the book's cliff."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tabular import chunks, environments, feed, greedy, random_stream, small, sweeps, train

from rlrun.errors import ConfigError
from rlrun.registry import get
from rlrun.schedules import ScheduleConfig
from rlrun.types import Progress, Rollout

HALF = ScheduleConfig(start=0.5)


# --- SARSA(lambda) ---------------------------------------------------------------------------------------------------


def test_an_update_waits_for_the_action_that_is_really_taken() -> None:
    """0 -> 1 with r = 3; then action 0 is taken, worth 2, though action 1 is worth 8. Target 3 + .5 * 2 = 4."""
    algo = small("sarsa", gamma=0.5, learning_rate=0.5, trace_decay=0.0)
    algo.q[1] = [2, 8]
    assert "td_error" not in feed(algo, [[0], [1]], [[1]], [[3.0]])
    assert algo.q[0].tolist() == [0, 0]
    metrics = feed(algo, [[1], [2]], [[0]], [[0.0]])
    assert algo.q[0].tolist() == [0, 2]
    assert metrics["td_error"] == 4


def test_a_terminated_step_is_updated_at_once_and_nothing_follows_it() -> None:
    algo = small("sarsa", gamma=0.5, learning_rate=0.5, initial_value=8.0)
    feed(algo, [[0], [1]], [[0]], [[2.0]], terminated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q[0, 0] == 8 + 0.5 * (2 - 8)
    assert algo.waiting == [None]


def test_a_truncated_step_takes_the_mean_over_the_policy_at_the_last_state() -> None:
    """Q(3) = 6, 4 and epsilon .5: .5 * 6 + .5 * 5 = 5.5. Target 2 + .5 * 5.5, not with the reset state's 100."""
    algo = small("sarsa", gamma=0.5, learning_rate=1.0, epsilon=HALF)
    algo.q[1], algo.q[3] = 100, [6, 4]
    feed(algo, [[0], [1]], [[0]], [[2.0]], truncated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q[0, 0] == 4.75
    assert algo.waiting == [None]


def test_traces_by_hand() -> None:
    """0 -> 1 -> end with r = 0, 8; gamma, lambda and lr .5, Q(1, 1) = 4.

    First error 0 + .5 * 4 - 0 = 2: Q(0, 0) = 1, and its trace falls to .25. Second error 8 - 4 = 4: Q(1, 1) = 6 and
    Q(0, 0) = 1 + .5 * 4 * .25 = 1.5. Nothing else moves.
    """
    algo = small("sarsa", gamma=0.5, learning_rate=0.5, trace_decay=0.5)
    algo.q[1, 1] = 4
    feed(algo, [[0], [1]], [[0]], [[0.0]])
    feed(algo, [[1], [2]], [[1]], [[8.0]], terminated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q.tolist() == [[1.5, 0], [0, 6], [0, 0], [0, 0]]
    assert not algo.traces.any()


@pytest.mark.parametrize(("trace", "value"), [("accumulating", 5.0), ("replacing", 4.0)])
def test_a_repeated_visit(trace: str, value: float) -> None:
    """0 -> 0 -> end: the trace is .25 when the pair comes again, then 1.25 or 1. Q = .5 * 8 * trace."""
    algo = small("sarsa", gamma=0.5, learning_rate=0.5, trace_decay=0.5, trace=trace)
    feed(algo, [[0], [0], [0]], [[0], [0]], [[0.0], [8.0]], [[False], [True]], final_obs={(1, 0): np.array(3)})
    assert algo.q[0, 0] == value


def reference(stream: Rollout, states: int, actions: int, lambda_: float, replacing: bool, epsilon: float) -> Any:
    """The book's box "Sarsa(lambda)", for every pair in turn; gamma .9, lr .3; two environments share the table."""
    gamma, lr = 0.9, 0.3
    steps, num_envs = stream.action.shape
    q = [[0.5] * actions for _ in range(states)]
    z = [[[0.0] * actions for _ in range(states)] for _ in range(num_envs)]
    last: list[Any] = [None] * num_envs

    def update(e: int, s: int, a: int, target: float) -> None:
        error = target - q[s][a]
        z[e][s][a] = 1.0 if replacing else z[e][s][a] + 1.0
        for i in range(states):
            for j in range(actions):
                q[i][j] += lr * error * z[e][i][j]
                z[e][i][j] *= gamma * lambda_

    for t in range(steps):
        for e in range(num_envs):
            s, a, r = int(stream.obs[t, e]), int(stream.action[t, e]), float(stream.reward[t, e])
            if last[e]:
                update(e, last[e][0], last[e][1], last[e][2] + gamma * q[s][a])
            last[e] = (s, a, r)
            if stream.terminated[t, e]:
                update(e, s, a, r)
            elif stream.truncated[t, e]:
                row = q[int(stream.final_obs[t, e])]
                update(e, s, a, r + gamma * ((1 - epsilon) * max(row) + epsilon * sum(row) / actions))
            if stream.terminated[t, e] or stream.truncated[t, e]:
                last[e] = None
                z[e] = [[0.0] * actions for _ in range(states)]
    return q


@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("trace", ["accumulating", "replacing"])
@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_the_table_is_that_of_a_plain_loop(decay: float, trace: str, length: int) -> None:
    algo = small(
        "sarsa",
        *(6, 3, 2),
        gamma=0.9,
        learning_rate=0.3,
        initial_value=0.5,
        trace_decay=decay,
        trace=trace,
        epsilon=ScheduleConfig(start=0.4),
    )
    stream = random_stream(6, 3, num_envs=2, steps=350, seed=3)
    assert (stream.terminated & stream.truncated).any() and (stream.terminated ^ stream.truncated).any()
    for piece in chunks(stream, length):
        algo.learn(piece, Progress(1000))
    expected = reference(stream, 6, 3, decay, trace == "replacing", epsilon=0.4)
    assert np.abs(algo.q - expected).max() < 1e-9


def test_an_episode_that_a_resume_cut_off_does_not_run_on_into_the_next() -> None:
    """The step led to state 1, but the next one comes from state 2: the step ended in a truncation at state 1."""
    algo = small("sarsa", gamma=0.5, learning_rate=1.0, epsilon=HALF)
    algo.q[1] = [6, 4]
    feed(algo, [[0], [1]], [[0]], [[2.0]])
    feed(algo, [[2], [3]], [[0]], [[0.0]])
    assert algo.q[0, 0] == 4.75
    assert not algo.traces.any()


def test_a_state_in_mid_episode_holds_traces_and_the_waiting_step() -> None:
    options = {"gamma": 0.9, "trace_decay": 0.8, "epsilon": HALF}
    first, second = (list(chunks(random_stream(4, 2, 2, 40, seed), 1)) for seed in (1, 2))
    algo, again = small("sarsa", num_envs=2, **options), small("sarsa", num_envs=2, **options)
    for piece in first:
        algo.learn(piece, Progress(1000))
    again.load_state_dict(algo.state_dict())
    assert algo.traces.any() and any(algo.waiting)
    for piece in second:
        assert algo.learn(piece, Progress(1000)) == again.learn(piece, Progress(1000))
    assert (algo.q == again.q).all()


@pytest.mark.parametrize(
    ("options", "key"),
    [({"trace_decay": 1.5}, "trace_decay"), ({"trace": "dutch"}, "trace"), ({"gamma": 2.0}, "gamma")],
)
def test_impossible_options_name_their_key(options: dict[str, Any], key: str) -> None:
    schema = get("algo", "sarsa").config
    assert schema is not None
    with pytest.raises(ConfigError) as error:
        schema(**options)
    assert error.value.key == key


# --- expected SARSA --------------------------------------------------------------------------------------------------


def test_expected_sarsa_by_hand() -> None:
    """Q(2) = 4, -2, 4 and epsilon .6: .4 * 4 + .6 * 2 = 2.8 however the tie is broken. Target 3 + .5 * 2.8 = 4.4."""
    algo = small("expected_sarsa", actions=3, gamma=0.5, learning_rate=0.5, epsilon=ScheduleConfig(start=0.6))
    algo.q[2] = [4, -2, 4]
    feed(algo, [[0], [2]], [[1]], [[3.0]])
    assert algo.q[0].tolist() == pytest.approx([0, 2.2, 0])


def test_expected_sarsa_uses_the_epsilon_in_force() -> None:
    fading = ScheduleConfig("linear", start=1.0, end=0.0, steps=100)
    algo = small("expected_sarsa", gamma=1.0, learning_rate=1.0, epsilon=fading)
    algo.q[2] = [4, 0]
    for env_steps, mean in ((0, 2.0), (50, 3.0), (100, 4.0)):
        algo.agent.act(np.array([0]), None, explore=True, env_steps=env_steps)
        feed(algo, [[0], [2]], [[1]], [[0.0]])
        assert algo.q[0, 1] == mean


def test_without_exploration_expected_sarsa_is_q_learning() -> None:
    options = {"gamma": 0.9, "learning_rate": 0.3, "epsilon": ScheduleConfig(start=0.0)}
    ours, theirs = small("expected_sarsa", num_envs=2, **options), small("q_learning", num_envs=2, **options)
    stream = random_stream(4, 2, 2, 200, seed=0)
    assert ours.learn(stream, Progress(1000)) == theirs.learn(stream, Progress(1000))
    assert (ours.q == theirs.q).all()
    assert len(np.unique(ours.q)) == 8


@pytest.mark.parametrize("algo", ["expected_sarsa", "sarsa"])
def test_an_endless_state_cut_every_five_steps_is_worth_ten(algo: str) -> None:
    """One state, one action, reward 1, gamma .9, truncated every 5 steps: V = 1 / (1 - gamma), not 3.57."""
    learner = small(algo, states=1, actions=1, gamma=0.9, learning_rate=0.5)
    for step in range(1, 501):
        cut = step % 5 == 0
        learner.learn(
            sweeps([[0], [0]], [[0]], [[1.0]], truncated=[[cut]], final_obs={(0, 0): np.array(0)} if cut else None),
            Progress(1000),
        )
    assert learner.q[0, 0] == pytest.approx(10, abs=1e-5)


# --- the book's cliff ------------------------------------------------------------------------------------------------


def test_on_the_cliff_q_learning_finds_the_edge_and_sarsa_earns_more_on_the_way() -> None:
    """Example 6.6: 500 episodes, epsilon .1, lr .5."""
    cliff = environments("CliffWalking-v1", time_limit=1000)
    options = {"gamma": 1.0, "learning_rate": 0.5, "epsilon": ScheduleConfig(start=0.1), "episodes": 500}
    shortest, late = 0, {"q_learning": 0.0, "sarsa": 0.0, "expected_sarsa": 0.0}
    seeds = 4
    for seed in range(seeds):
        q_learning, episodes = train("q_learning", cliff, seed=seed, **options)
        shortest += greedy(q_learning, cliff, max_steps=100).mean == -13
        late["q_learning"] += np.mean([e.episode_return for e in episodes[400:]]) / seeds
        for algo, more in (("sarsa", {"trace_decay": 0.0}), ("expected_sarsa", {})):
            _, episodes = train(algo, cliff, seed=seed, **options, **more)
            late[algo] += np.mean([e.episode_return for e in episodes[400:]]) / seeds
    assert shortest >= seeds - 1
    assert late["sarsa"] >= late["q_learning"] + 10
    assert late["expected_sarsa"] >= late["sarsa"]
