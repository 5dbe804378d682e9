"""Dyna-Q and the planners on the environment's own model: hand-worked MDPs, brute force, and the book's numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tabular import chunks, discrete, environments, feed, greedy, make, random_stream, small, sweeps, train

from rlrun.algos.tabular.dyna_q import TabularModel
from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.errors import ConfigError, Diverged
from rlrun.run.build import setting
from rlrun.rundir.codec import decode, encode
from rlrun.schedules import ScheduleConfig
from rlrun.types import EnvSpec, Progress, TransitionModel

PLANNERS = ["value_iteration", "policy_iteration"]
STEP = sweeps([[0], [0]], [[0]], [[0.0]])  # what it holds makes no difference to a planner


# --- Dyna-Q ----------------------------------------------------------------------------------------------------------


def test_without_planning_dyna_q_is_q_learning() -> None:
    stream = random_stream(4, 2, 2, 200, seed=0)
    dyna, plain = small("dyna_q", num_envs=2, planning_steps=0), small("q_learning", num_envs=2)
    assert dyna.learn(stream, Progress(1000)) == plain.learn(stream, Progress(1000))
    assert (dyna.q == plain.q).all()
    obs = np.zeros(50, np.int64)
    acts = [algo.agent.act(obs, None, explore=True, env_steps=0)[0].tolist() for algo in (dyna, plain)]
    assert acts[0] == acts[1], "no random number was drawn for planning"


def test_planning_by_hand() -> None:
    """One visited pair, lr .5, r = 8 at the end: one update from experience and two from the model leave 8 / 2^3."""
    algo = small("dyna_q", planning_steps=2, learning_rate=0.5)
    metrics = feed(algo, [[1], [0]], [[0]], [[8.0]], terminated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q.tolist() == [[0, 0], [7, 0], [0, 0], [0, 0]]
    assert metrics["td_error"] == 8


def test_planning_begins_when_it_is_told_to() -> None:
    """At env step 0 there is the update from experience alone, at env step 1 two more."""
    algo, progress = small("dyna_q", planning_steps=2, planning_starts=1, learning_rate=0.5), Progress(100)
    step = sweeps([[1], [0]], [[0]], [[8.0]], terminated=[[True]], final_obs={(0, 0): np.array(3)})
    for expected in (4, 7.5):
        progress.env_steps += 1
        algo.learn(step, progress)
        assert algo.q[1, 0] == expected


def test_without_learning_only_the_model_moves_the_table() -> None:
    algo = small("dyna_q", planning_steps=2, learning_rate=0.5, learn=False)
    metrics = feed(algo, [[1], [0]], [[0]], [[8.0]], terminated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q[1, 0] == 6
    assert metrics["td_error"] == (8 + 4) / 2


def test_a_way_into_state_0_is_replayed_and_a_terminal_is_not_looked_behind() -> None:
    """1 -> 0 without reward, 0 -> end with 8: gamma .5 makes them 4 and 8, though the end's row says 100."""
    algo = small("dyna_q", planning_steps=50, learning_rate=1.0, gamma=0.5)
    algo.q[3] = 100
    feed(algo, [[1], [0]], [[0]], [[0.0]])
    feed(algo, [[0], [1]], [[1]], [[8.0]], terminated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q[:2].tolist() == [[0, 8], [4, 0]]


def test_a_truncated_step_is_remembered_with_its_last_state() -> None:
    algo = small("dyna_q", planning_steps=1, learning_rate=1.0, gamma=0.5)
    algo.q[1], algo.q[3] = 100, [6, 4]
    feed(algo, [[0], [1]], [[0]], [[2.0]], truncated=[[True]], final_obs={(0, 0): np.array(3)})
    assert algo.q[0, 0] == 5
    outcome = algo.model.outcomes[0, 0][0]
    assert (outcome.after, outcome.terminated) == (3, False)


def test_visited_pairs_are_drawn_evenly_however_often_they_were_visited() -> None:
    model = TabularModel(deterministic=True)
    for _ in range(9):
        model.observe(1, 0, 0.0, 2, False)
    model.observe(2, 1, 0.0, 0, False)
    drawn = [s for s, _, _ in model.draw(4000, np.random.default_rng(0))]
    assert np.mean([s == 1 for s in drawn]) == pytest.approx(0.5, abs=0.03)


def test_a_deterministic_model_believes_the_last_outcome() -> None:
    model = TabularModel(deterministic=True)
    model.observe(0, 0, 1.0, 1, False)
    model.observe(0, 0, 5.0, 2, True)
    ((s, a, outcome),) = model.draw(1, np.random.default_rng(0))
    assert (s, a, outcome.after, outcome.reward, outcome.terminated) == (0, 0, 2, 5.0, True)


def test_a_sampled_model_draws_outcomes_as_often_as_they_occurred() -> None:
    """0 -> 1 six times with rewards 1 and 3, 0 -> 2 twice, and once more as an end."""
    model = TabularModel(deterministic=False)
    for reward in (1.0, 3.0) * 3:
        model.observe(0, 0, reward, 1, False)
    for terminated in (False, False, True):
        model.observe(0, 0, 5.0, 2, terminated)
    drawn = [outcome for _, _, outcome in model.draw(9000, np.random.default_rng(0))]
    kinds = ((1, False), (2, False), (2, True))
    share = [np.mean([(o.after, o.terminated) == kind for o in drawn]) for kind in kinds]
    assert share == pytest.approx([6 / 9, 2 / 9, 1 / 9], abs=0.02)
    assert {o.reward for o in drawn if o.after == 1} == {2.0}


@pytest.mark.parametrize("model", ["deterministic", "sampled"])
def test_resume_continues_table_model_and_stream(model: str) -> None:
    options = {"model": model, "planning_steps": 3, "num_envs": 2}
    first, second = (list(chunks(random_stream(4, 2, 2, 40, seed), 1)) for seed in (1, 2))
    algo, again = small("dyna_q", **options), small("dyna_q", **options)
    for piece in first:
        algo.learn(piece, Progress(1000))
    again.load_state_dict(decode(*encode(algo.state_dict())))
    for piece in second:
        assert algo.learn(piece, Progress(1000)) == again.learn(piece, Progress(1000))
    assert (algo.q == again.q).all()
    assert algo.model.outcomes == again.model.outcomes


def test_a_state_before_the_first_step_can_be_restored() -> None:
    algo = small("dyna_q")
    algo.load_state_dict(decode(*encode(algo.state_dict())))
    assert algo.model.pairs == []


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"planning_steps": 0, "learn": False}, "planning_steps"),
        ({"planning_steps": -1}, "planning_steps"),
        ({"model": "neural"}, "model"),
    ],
)
def test_impossible_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        small("dyna_q", **options)
    assert error.value.key == key


def test_more_planning_needs_fewer_steps_in_the_maze() -> None:
    """Figure 8.2: after the first episode, which is a walk in the dark for all, 50 < 5 < 0 planning steps."""
    maze = environments("rlrun/Maze-v0")
    options = {"gamma": 0.95, "learning_rate": 0.1, "epsilon": ScheduleConfig(start=0.1)}
    steps = {0: 0.0, 5: 0.0, 50: 0.0}
    for planning, seed in itertools.product(steps, range(5)):
        _, episodes = train("dyna_q", maze, seed=seed, episodes=10, planning_steps=planning, **options)
        steps[planning] += np.mean([e.length for e in episodes[1:]]) / 5
    assert steps[0] > 4 * steps[5] > 4 * steps[50] > 4 * 14
    assert steps[50] < 25


# --- planning on the environment's own model -------------------------------------------------------------------------


def plan(algo: str, model: TransitionModel, chunks: int = 3000, **options: Any) -> Any:
    """A planner that has been given time."""
    env = EnvSpec("test", discrete(len(model)), discrete(len(model[0])), model=model)
    planner = make(algo, env, **options)
    for _ in range(chunks):
        planner.learn(STEP, Progress(1000))
    return planner


def random_model(states: int, actions: int, seed: int) -> TransitionModel:
    """Three outcomes per pair, of which some end the episode."""
    rng = np.random.default_rng(seed)

    def outcomes() -> list[tuple[float, int, float, bool]]:
        return [(p, int(rng.integers(states)), rng.normal(), rng.random() < 0.1) for p in rng.dirichlet(np.ones(3))]

    return {s: {a: outcomes() for a in range(actions)} for s in range(states)}


def value_of(policy: tuple[int, ...], model: TransitionModel, gamma: float) -> np.ndarray:
    """Values of a policy by plain repetition."""
    v = np.zeros(len(model))
    for _ in range(600):
        v = np.array(
            [sum(p * (r + gamma * v[s2] * (not over)) for p, s2, r, over in model[s][a]) for s, a in enumerate(policy)]
        )
    return v


@pytest.mark.parametrize("algo", PLANNERS)
@pytest.mark.parametrize("seed", range(3))
def test_no_policy_is_better(algo: str, seed: int) -> None:
    """Against all 2^4 deterministic policies of a random MDP."""
    model = random_model(4, 2, seed)
    planner = plan(algo, model, gamma=0.9)
    values = {policy: value_of(policy, model, 0.9) for policy in itertools.product(range(2), repeat=4)}
    best = np.max([*values.values()], axis=0)
    assert planner.q.max(axis=1) == pytest.approx(best, abs=1e-6)
    assert values[tuple(planner.policy.argmax(axis=1).tolist())] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("algo", PLANNERS)
def test_values_by_hand(algo: str) -> None:
    """In state 0 stay for 1, or try to leave, which earns 4 and succeeds every other time; gamma .5.

    Who always tries has v = .5 * 4 + .5 * .5 * v, so v = 8 / 3. To stay once before that is worth 1 + .5 * 8 / 3, which
    is 7 / 3, less. State 1 stands for the end.
    """
    end = [(1.0, 1, 0.0, True)]
    model = {0: {0: [(1.0, 0, 1.0, False)], 1: [(0.5, 1, 4.0, True), (0.5, 0, 0.0, False)]}, 1: {0: end, 1: end}}
    planner = plan(algo, model, chunks=100, gamma=0.5)
    assert planner.q == pytest.approx(np.array([[7 / 3, 8 / 3], [0, 0]]))
    assert planner.agent.act(np.array([0]), None, explore=True, env_steps=0)[0].tolist() == [1]


@pytest.mark.parametrize("algo", PLANNERS)
def test_the_frozen_lake_without_discount(algo: str) -> None:
    """The chance of ever reaching the goal is .8235; in 100 steps the policy makes it in 74 % of the episodes."""
    lake = environments("FrozenLake-v1")
    planner, _ = train(algo, lake, env_steps=1000, gamma=1.0)
    assert planner.q.max(axis=1)[0] == pytest.approx(0.823529, abs=1e-4)
    policy, model = planner.policy.argmax(axis=1), lake.spec(1).model
    assert model is not None
    assert success(policy.tolist(), model, steps=100) == pytest.approx(0.740, abs=0.002)
    assert greedy(planner, lake, episodes=1000).mean == pytest.approx(0.740, abs=0.04)


def success(policy: list[int], model: TransitionModel, steps: int) -> float:
    """The chance to reach the reward 1 from state 0 in so many steps, by following the probabilities."""
    at, won = np.eye(len(model))[0], 0.0
    for _ in range(steps):
        after = np.zeros(len(model))
        for s, a in enumerate(policy):
            for p, s2, r, over in model[s][a]:
                won += at[s] * p * r
                after[s2] += at[s] * p * (not over)
        at = after
    return won


@pytest.mark.parametrize("algo", PLANNERS)
@pytest.mark.parametrize(("env", "gamma", "steps"), [("rlrun/Maze-v0", 0.95, 14), ("CliffWalking-v1", 1.0, 13)])
def test_the_shortest_way(algo: str, env: str, gamma: float, steps: int) -> None:
    envs = environments(env)
    planner, _ = train(algo, envs, env_steps=50, gamma=gamma)
    assert greedy(planner, envs, max_steps=100).mean_length == steps


@pytest.mark.parametrize("algo", PLANNERS)
def test_without_cost_of_time_the_policy_still_arrives(algo: str) -> None:
    """With gamma 1 every action in the maze is worth 1, the one into the wall as well."""
    maze = environments("rlrun/Maze-v0")
    planner, _ = train(algo, maze, env_steps=50, gamma=1.0)
    assert greedy(planner, maze, max_steps=100).mean_length == 14


def test_only_an_action_that_is_better_by_more_than_rounding_takes_over() -> None:
    planner = plan("value_iteration", circle(0.0), chunks=0)
    planner.q[:] = [[0, 1e-12], [1, 1 + 1e-6]]
    assert planner.improve() == 1
    assert planner.policy.tolist() == [[1, 0], [0, 1]]
    planner.q[:] = [[1e6, 1e6 + 1e-6], [1e6 + 1e-6, 1e6]]  # the same differences, but these are rounding now
    assert planner.improve() == 0


@pytest.mark.parametrize("algo", PLANNERS)
def test_planning_ends(algo: str) -> None:
    planner = plan(algo, random_model(5, 3, seed=1), gamma=0.9)
    q, metrics = planner.q.copy(), planner.learn(STEP, Progress(1000))
    assert (planner.q == q).all()
    counter = "sweeps" if algo == "value_iteration" else "iterations"
    assert metrics[counter] < 400
    assert metrics[counter] == planner.learn(STEP, Progress(1000))[counter]


def test_sweeps_are_counted_per_env_step() -> None:
    model = random_model(5, 3, seed=1)
    env = EnvSpec("test", discrete(5), discrete(3), num_envs=2, model=model)
    planner = make("value_iteration", env, gamma=0.9, sweeps=3)
    two = sweeps([[0, 0], [0, 0]], [[0, 0]], [[0.0, 0.0]])
    assert planner.learn(two, Progress(1000))["sweeps"] == 6


@pytest.mark.parametrize("algo", PLANNERS)
def test_resume_continues_planning(algo: str) -> None:
    model = random_model(5, 3, seed=2)
    through, first, second = (plan(algo, model, chunks=n, gamma=0.9) for n in (5, 2, 0))
    second.load_state_dict(decode(*encode(first.state_dict())))
    for _ in range(3):
        second.learn(STEP, Progress(1000))
    assert (second.q == through.q).all()
    assert (second.policy == through.policy).all()
    assert second.learn(STEP, Progress(1000)) == through.learn(STEP, Progress(1000))


# --- what cannot be planned ------------------------------------------------------------------------------------------


def circle(reward: float) -> TransitionModel:
    """Two states: go round for `reward` a step, or leave from state 1 for 1."""
    return {
        0: {0: [(1.0, 1, reward, False)], 1: [(1.0, 1, reward, False)]},
        1: {0: [(1.0, 0, reward, False)], 1: [(1.0, 1, 1.0, True)]},
    }


def test_a_circle_that_pays_has_no_value_without_discount() -> None:
    with pytest.raises(Diverged, match=r"algo\.gamma"):
        plan("policy_iteration", circle(0.5), gamma=1.0)
    assert plan("policy_iteration", circle(0.5), gamma=0.5).q.max(axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize("reward", [0.0, -0.5])
def test_a_circle_that_does_not_pay_is_left(reward: float) -> None:
    planner = plan("policy_iteration", circle(reward), gamma=1.0)
    assert planner.q.max(axis=1) == pytest.approx([1 + reward, 1])
    assert planner.policy.argmax(axis=1)[1] == 1


def test_without_discount_every_state_needs_an_end() -> None:
    model = {**circle(0.0), 2: {0: [(1.0, 2, 0.0, False)], 1: [(1.0, 2, 0.0, False)]}}
    with pytest.raises(ConfigError, match="none from state 2") as error:
        plan("policy_iteration", model, gamma=1.0)
    assert error.value.key == "algo.gamma"
    assert plan("policy_iteration", model, gamma=0.5).q[2].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda model: None, "does not tell its model"),
        (lambda model: {**model, 1: {**model[1], 0: []}}, r"no outcome for \(s, a\) = \(1, 0\)"),
        (lambda model: {**model, 1: {**model[1], 0: [(0.5, 0, 0.0, False)]}}, r"P\[1\]\[0\] sum to 0.5"),
    ],
)
def test_a_model_that_is_none(change: Callable[[TransitionModel], TransitionModel | None], answer: str) -> None:
    env = EnvSpec("test", discrete(2), discrete(2), model=change(circle(0.0)))
    with pytest.raises(ConfigError, match=answer):
        make("value_iteration", env)


def test_a_planner_is_refused_where_there_is_no_model() -> None:
    compose.set_up([])
    with pytest.raises(ConfigError) as error:
        setting(validate(compose.compose(["algo=value_iteration", "env=blackjack"]).data))
    assert str(error.value).startswith("algo: value_iteration plans on the environment's model, Blackjack-v1 does not")
    assert "q_learning" in error.value.hint
    assert "iteration" not in error.value.hint
