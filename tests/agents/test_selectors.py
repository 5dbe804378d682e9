from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlrun.agents.selectors import (
    ActionSelector,
    ArgmaxActionSelector,
    CategoricalActionSelector,
    EpsilonGreedyActionSelector,
    ProbabilityActionSelector,
    RandomArgmaxActionSelector,
    random_argmax,
)
from rlrun.schedules import Linear
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array

SCORES = np.array([[0.0, 3.0, 1.0], [5.0, 5.0, 2.0], [-1.0, -3.0, -2.0]])


class Scripted:
    """A generator whose uniform draws are known."""

    def __init__(self, *values: float):
        self.values = list(values)

    def random(self, size: Any) -> Array:
        drawn, self.values = self.values[: np.prod(size)], self.values[np.prod(size) :]
        return np.reshape(drawn, size)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shares(selector: ActionSelector, scores: Array, draws: int) -> Array:
    """How often each action was chosen, per row."""
    rows, actions = scores.shape
    count = np.zeros((rows, actions))
    for _ in range(draws):
        count[np.arange(rows), selector(scores)] += 1
    return count / draws


def test_argmax_takes_the_lowest_of_equals() -> None:
    action = ArgmaxActionSelector()(SCORES)
    assert action.tolist() == [1, 0, 0]
    assert action.dtype == np.int64


@pytest.mark.parametrize(
    "selector",
    [
        ArgmaxActionSelector(),
        RandomArgmaxActionSelector(rng()),
        EpsilonGreedyActionSelector(0.1, rng()),
        ProbabilityActionSelector(rng()),
        CategoricalActionSelector(rng()),
    ],
)
def test_one_row_without_its_dimension_is_refused(selector: ActionSelector) -> None:
    with pytest.raises(ValueError, match=r"\[E, A\], got shape \(3,\)"):
        selector(np.array([0.0, 0.5, 0.5]))


def test_epsilon_greedy_shares() -> None:
    """epsilon 0.3, 5 actions: greedy with 0.7 + 0.3 / 5, every other with 0.06; 8 rows, 20 000 draws in all."""
    scores = np.tile(np.array([0.0, 0.1, 0.9, 0.2, 0.3]), (8, 1))
    share = shares(EpsilonGreedyActionSelector(0.3, rng()), scores, 2500).mean(axis=0)
    assert share == pytest.approx([0.06, 0.06, 0.76, 0.06, 0.06], abs=0.01)


def test_epsilon_greedy_decides_row_by_row() -> None:
    """Each row leaves the greedy action with .5 * .9; rows being independent, both do at once with its square."""
    selector = EpsilonGreedyActionSelector(0.5, rng(), selector=ArgmaxActionSelector())
    scores = np.tile(np.eye(1, 10), (2, 1))
    draws = np.array([selector(scores) for _ in range(4000)]) != 0
    assert draws.mean() == pytest.approx(0.45, abs=0.03)
    assert (draws[:, 0] & draws[:, 1]).mean() == pytest.approx(0.45**2, abs=0.03)


def test_one_number_decides_and_names_the_action() -> None:
    selector = EpsilonGreedyActionSelector(0.5, Scripted(0.5, 0.0, 0.49999))
    assert selector(SCORES).tolist() == [1, 0, 2]  # not below epsilon: greedy; first of 3; last of 3


def test_epsilon_can_be_assigned_between_calls() -> None:
    selector = EpsilonGreedyActionSelector(0.0, rng())
    assert shares(selector, SCORES, 50)[0, 1] == 1
    selector.epsilon = 1.0
    assert selector.epsilon == 1.0
    assert shares(selector, SCORES, 3000)[0] == pytest.approx([1 / 3] * 3, abs=0.04)


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_epsilon_outside_its_range_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        EpsilonGreedyActionSelector(epsilon, rng())
    selector = EpsilonGreedyActionSelector(0.1, rng())
    with pytest.raises(ValueError, match="probability"):
        selector.epsilon = epsilon


def test_scheduled_epsilon_follows_the_env_steps() -> None:
    selector = EpsilonGreedyActionSelector(Linear(1.0, 0.0, 100), rng())
    assert selector.epsilon == 1.0
    selector(SCORES, env_steps=25)
    assert selector.epsilon == 0.75
    assert (selector(SCORES, env_steps=100) == [1, 0, 0]).all()
    selector.epsilon = Linear(1.0, 2.0, 100)
    with pytest.raises(ValueError, match="probability"):
        selector(SCORES, env_steps=50)


def test_an_epsilon_is_told_of_while_it_changes() -> None:
    selector = EpsilonGreedyActionSelector(Linear(1.0, 0.0, 100), rng())
    selector(SCORES, env_steps=25)
    assert selector.metrics() == {"exploration_rate": 0.75}
    constant = EpsilonGreedyActionSelector(0.05, rng())
    assert constant.metrics() == constant.fork(rng()).metrics() == {}


def test_environments_explore_with_epsilons_of_their_own() -> None:
    """Ape-X's: 0.4^(1 + 7 i / (N - 1)); an actor is told which of them are its own. Alone, i is 0."""
    selector = EpsilonGreedyActionSelector(0.4, rng(), spread=7)
    assert selector.at(0) == 0.4
    selector.station(range(4), 4)
    expected = [0.4, 0.4 ** (1 + 7 / 3), 0.4 ** (1 + 14 / 3), 0.4**8]
    assert selector.at(0) == pytest.approx(np.mean(expected))
    scores = np.tile([0.0, 1.0], (4, 1))
    random = np.mean([selector(scores) == 0 for _ in range(4000)], axis=0) * 2
    assert random.tolist() == pytest.approx(expected, abs=0.025)
    other = selector.fork(rng())
    assert other.at(0) == 0.4
    other.station(range(2, 4), 4)
    assert other.at(0) == pytest.approx(np.mean(expected[2:]))
    other.station(range(1), 1)
    assert other.at(0) == 0.4


def test_inner_selector_chooses_the_rest() -> None:
    class Last:
        def __call__(self, scores: Array, env_steps: int = 0) -> Array:
            return np.full(len(scores), scores.shape[1] - 1)

    assert EpsilonGreedyActionSelector(0.0, rng(), Last())(SCORES).tolist() == [2, 2, 2]


def test_ties_are_broken_evenly_and_nothing_is_drawn_without_one() -> None:
    scores = np.array([[2.0, 1.0, 2.0, 2.0], [0.0, 0.0, -1.0, -1.0]])
    share = shares(RandomArgmaxActionSelector(rng()), scores, 6000)
    assert share[0] == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.03)
    assert share[1] == pytest.approx([0.5, 0.5, 0, 0], abs=0.03)
    generator = rng()
    before = generator_state(generator)
    assert random_argmax(np.array([[1.0, 2.0], [4.0, 3.0]]), generator).tolist() == [1, 0]
    assert generator_state(generator) == before


def test_ties_at_infinity() -> None:
    share = shares(RandomArgmaxActionSelector(rng()), np.array([[np.inf, 1.0, np.inf]]), 2000)
    assert share[0] == pytest.approx([0.5, 0, 0.5], abs=0.05)


def test_probabilities_are_drawn_in_proportion_and_zero_never() -> None:
    rows = np.array([[0.2, 0.0, 0.8, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.5, 0.0, 0.5]], np.float32)
    share = shares(ProbabilityActionSelector(rng()), rows, 6000)
    assert share == pytest.approx(rows, abs=0.03)
    assert (share[rows == 0] == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_edges_of_the_draw_stay_inside(dtype: type) -> None:
    """The lowest and the highest number a generator can give, on rows that begin and end with zeros and round badly."""
    row = np.array([0.0, *[0.1] * 9, 0.1, 0.0], dtype)
    lowest, highest = 0.0, np.nextafter(1.0, 0.0)
    assert ProbabilityActionSelector(Scripted(lowest))(row[None]).tolist() == [1]
    assert ProbabilityActionSelector(Scripted(highest))(row[None]).tolist() == [10]


@pytest.mark.parametrize("row", [[0.5, 0.2], [1.5, -0.5], [np.nan, 1.0], [0.0, 0.0]])
def test_what_is_no_distribution_is_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        ProbabilityActionSelector(rng())(np.array([row]))


def test_logits_are_drawn_by_their_softmax() -> None:
    p = np.array([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]])
    with np.errstate(divide="ignore"):
        logits = np.log(p) + np.array([[1000.0], [-1000.0]])  # a common shift changes nothing, however large
    share = shares(CategoricalActionSelector(rng()), logits, 6000)
    assert share == pytest.approx(p, abs=0.03)
    assert share[1, 2] == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: EpsilonGreedyActionSelector(0.5, rng, RandomArgmaxActionSelector(rng)),
        RandomArgmaxActionSelector,
        ProbabilityActionSelector,
        CategoricalActionSelector,
    ],
)
def test_streams_resume_and_forks_leave_them_alone(make: Callable[..., Any]) -> None:
    scores = np.full((4, 5), 0.2)

    def play(selector: ActionSelector) -> list[list[int]]:
        return [selector(scores).tolist() for _ in range(5)]

    generator = rng(3)
    selector = make(generator)
    play(selector)
    state = generator_state(generator)
    assert play(selector.fork(rng(7))) == play(make(rng(7)))
    assert generator_state(generator) == state
    expected = play(selector)
    restore_generator(generator, state)
    assert play(selector) == expected


def test_many_rows_are_chosen_as_few_are() -> None:
    """Ties are frequent among so few values; the loop and the masks draw the same numbers for them."""
    scores = rng(3).integers(3, size=(200, 5)).astype(float)
    scores[7], scores[9] = np.inf, -np.inf
    few, many = rng(5), rng(5)
    one_by_one = np.concatenate([random_argmax(row[None], few) for row in scores])
    together = random_argmax(scores, many)
    assert together.dtype == np.int64
    assert together.tolist() == one_by_one.tolist()
    assert generator_state(few) == generator_state(many)


def test_selectors_make_a_stream_of_their_own_where_none_is_given() -> None:
    selector = EpsilonGreedyActionSelector(epsilon=1.0)
    assert set(np.concatenate([selector(SCORES) for _ in range(100)]).tolist()) == {0, 1, 2}
    selector.epsilon = 0.0
    assert selector(SCORES).tolist() == [1, 0, 0]
    assert EpsilonGreedyActionSelector().epsilon == 0.05
    assert ProbabilityActionSelector()(np.eye(3)).tolist() == [0, 1, 2]
