from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from rlrun.checks import Bounded
from rlrun.errors import ConfigError
from rlrun.schedules import Constant, Every, Exponential, Linear, Probability, Ratio, ScheduleConfig, WarmUp, make


@pytest.mark.parametrize("how", [{"rate": 0.001}, {"time_constant": 1000}])
@pytest.mark.parametrize(("t", "value"), [(0, 1), (100, 0.90579), (1000, 0.37420), (5000, 0.01667)])
def test_exponential_golden_values(how: dict[str, float], t: float, value: float) -> None:
    assert Exponential(1, 0.01, **how)(t) == pytest.approx(value, abs=5e-6)


@pytest.mark.parametrize(("t", "value"), [(0, 1), (5, 0.55), (9, 0.19), (10, 0.1), (1_000_000, 0.1)])
def test_linear_interpolates_then_stays(t: float, value: float) -> None:
    assert Linear(1, 0.1, 10)(t) == pytest.approx(value)


def test_linear_ends_on_exactly_the_end_value() -> None:
    assert Linear(0.3, 0.1, 7)(7) == 0.1


def test_exponential_wants_one_way_to_say_how_fast() -> None:
    with pytest.raises(ValueError, match="rate or time_constant"):
        Exponential(1, 0)
    with pytest.raises(ValueError, match="rate or time_constant"):
        Exponential(1, 0, rate=0.1, time_constant=10)


def test_make_reads_the_fields_of_the_kind() -> None:
    assert make(ScheduleConfig(start=0.1), 1000) == Constant(0.1)
    assert make(ScheduleConfig("linear", 1, 0.05, fraction=0.16), 50_000) == Linear(1, 0.05, 8000)
    assert make(ScheduleConfig("linear", 1, 0.05, steps=300), 50_000) == Linear(1, 0.05, 300)
    assert make(ScheduleConfig("exponential", 1, 0.01, rate=0.001), 50_000)(100) == pytest.approx(0.90579, abs=5e-6)
    assert make(ScheduleConfig("exponential", 1, 0.0, time_constant=50), 9)(50) == pytest.approx(math.exp(-1))


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        ({"kind": "lineer"}, "kind", "'linear'"),
        ({"kind": "linear", "end": 0, "fraction": 0.5, "steps": 10}, "fraction", "exactly one of fraction and steps"),
        ({"kind": "linear", "end": 0}, "fraction", "exactly one of fraction and steps"),
        ({"kind": "linear", "steps": 10}, "end", "needs it"),
        ({"kind": "linear", "end": 0, "steps": 10, "rate": 0.1}, "rate", "null to rate"),
        (
            {"kind": "exponential", "end": 0, "rate": 0.1, "time_constant": 10},
            "rate",
            "exactly one of rate and time_constant",
        ),
        ({"kind": "exponential", "end": 0}, "rate", "exactly one of rate and time_constant"),
        ({"kind": "constant", "end": 0.1, "fraction": 0.5}, "end", "null to end and fraction"),
        ({"kind": "linear", "end": 0, "fraction": 1.5}, "fraction", "1.5"),
        ({"kind": "linear", "end": 0, "fraction": 0.0}, "fraction", "in (0, 1]"),
        ({"kind": "linear", "end": 0, "steps": -3}, "steps", "-3"),
        ({"kind": "exponential", "end": 0, "rate": 0.0}, "rate", "greater than 0"),
    ],
)
def test_contradictions_name_the_key(options: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        ScheduleConfig(**options)
    assert error.value.key == key
    assert says in str(error.value)


@dataclass
class Explores(Bounded):
    epsilon: Probability


def test_a_bound_on_a_schedule_looks_at_both_ends() -> None:
    Explores(ScheduleConfig("linear", 1, 0.05, steps=10))
    with pytest.raises(ConfigError, match=r"epsilon\.end"):
        Explores(ScheduleConfig("linear", 1, -0.05, steps=10))
    with pytest.raises(ConfigError, match=r"epsilon\.start"):
        Explores(ScheduleConfig(start=2))


def fired(every: Every, chunk: int, until: int) -> list[int]:
    """The env steps at which a trigger fires when time goes by in chunks."""
    places = []
    for t in range(chunk, until + 1, chunk):
        if every.due(t):
            every.consume(t)
            places.append(t)
    return places


def test_every_fires_on_crossing_whatever_the_chunk() -> None:
    assert fired(Every(10), 1, 35) == [10, 20, 30]
    assert fired(Every(10), 4, 36) == [12, 20, 32]
    assert fired(Every(10), 25, 75) == [25, 50, 75]  # several multiples in one chunk: once


def test_every_zero_never_fires() -> None:
    assert fired(Every(0), 1, 100) == []
    with pytest.raises(ValueError, match="interval"):
        Every(-1)


def test_every_stays_due_until_consumed_and_remembers_it() -> None:
    every = Every(10)
    assert [every.due(t) for t in (9, 10, 11)] == [False, True, True]
    every.consume(11)
    again = Every(10)
    again.load_state_dict(every.state_dict())
    assert [again.due(t) for t in (11, 19, 20)] == [False, False, True]


@pytest.mark.parametrize("num_envs", [1, 3, 4, 7, 16])
def test_ratio_does_not_depend_on_how_env_steps_arrive(num_envs: int) -> None:
    ratio = Ratio(gradient_steps=2, per=4)
    total, owed = 0, 0
    while total < 1000:
        total, owed = total + num_envs, owed + ratio.owed(num_envs)
    assert owed == total // 4 * 2


def test_ratio_comes_in_whole_rounds_and_resumes_between_them() -> None:
    ratio = Ratio(gradient_steps=3, per=4)
    assert [ratio.owed(1) for _ in range(6)] == [0, 0, 0, 3, 0, 0]
    again = Ratio(gradient_steps=3, per=4)
    again.load_state_dict(ratio.state_dict())
    assert [again.owed(1), again.owed(1), again.owed(9)] == [0, 3, 6]
    with pytest.raises(ValueError, match="per"):
        Ratio(1, 0)


def test_a_warm_up_goes_before_another_schedule() -> None:
    chance = WarmUp(10, Linear(1.0, 0.0, 100))
    assert [chance(at) for at in (0, 9, 10, 50, 100)] == [1, 1, 0.9, 0.5, 0]
