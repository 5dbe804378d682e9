"""Bounds that stand in the annotation of a field: who is held to them, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from rlrun import checks
from rlrun.checks import Above0, Bounded, Count, Natural, NotNegative, OneOf, Positive, Share, Within
from rlrun.errors import ConfigError


@dataclass
class Ends:
    """What has extremes, as a schedule has them."""

    start: float = 1.0
    end: float | None = None
    steps: int = 7
    extremes = ("start", "end")


@dataclass
class Options(Bounded):
    share: Share = 0.5
    rate: Annotated[float, Above0(1)] = 0.1
    scale: Positive | None = None
    layers: list[Annotated[int, Within(1, 1000)]] = field(default_factory=lambda: [64])
    word: Annotated[str, OneOf("left", "right")] = "left"
    epsilon: Annotated[Ends, Within(0, 1)] = field(default_factory=Ends)
    count: Count = 1
    freq: Natural = 0
    std: NotNegative = 0.0
    free: float = -1e9


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"share": 1.5}, "share: must be in [0, 1], got 1.5"),
        ({"share": float("nan")}, "share: must be in [0, 1], got nan"),
        ({"rate": 0.0}, "rate: must be in (0, 1], got 0"),
        ({"rate": 2.0}, "rate: must be in (0, 1], got 2"),
        ({"rate": float("nan")}, "rate: must be in (0, 1], got nan"),
        ({"scale": 0.0}, "scale: must be greater than 0 and finite, got 0"),
        ({"scale": float("inf")}, "scale: must be greater than 0 and finite, got inf"),
        ({"layers": [64, 0]}, "layers: must be in [1, 1000], got 0"),
        ({"word": "rigth"}, "word: there is no 'rigth'\ndid you mean 'right'?"),
        ({"epsilon": Ends(start=2.0)}, "epsilon.start: must be in [0, 1], got 2"),
        ({"epsilon": Ends(end=-0.1)}, "epsilon.end: must be in [0, 1], got -0.1"),
        ({"count": 0}, "count: must be at least 1, got 0"),
        ({"freq": -1}, "freq: must be at least 0, got -1"),
        ({"std": -0.5}, "std: must be at least 0, got -0.5"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_by_its_key(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        Options(**values)
    assert str(error.value) == says


def test_values_at_their_bounds_and_nulls_pass() -> None:
    made = Options(share=1, rate=1, scale=None, layers=[1, 1000], word="right", epsilon=Ends(0, 1, steps=10**9))
    assert (made.share, made.scale, made.layers) == (1, None, [1, 1000])
    assert Options(layers=[]).layers == []


def test_a_subclass_inherits_bounds_and_may_state_others() -> None:
    @dataclass
    class Narrower(Options):
        share: Annotated[float, Within(0.5, 1)] = 0.75

    with pytest.raises(ConfigError, match=r"^share: must be in \[0.5, 1\], got 0.25"):
        Narrower(share=0.25)
    with pytest.raises(ConfigError, match=r"^freq: must be at least 0"):
        Narrower(freq=-1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("share", ["0 to 1"]),
        ("rate", ["above 0, at most 1"]),
        ("scale", ["above 0"]),
        ("layers", ["1 to 1,000"]),
        ("word", ["left | right"]),
        ("epsilon", ["0 to 1"]),
        ("freq", ["at least 0"]),
    ],
)
def test_bounds_are_found_at_the_field_and_said_in_words(name: str, words: list[str]) -> None:
    assert [str(bound) for bound in checks.bounds(Options)[name]] == words


def test_a_field_without_bounds_has_none() -> None:
    assert "free" not in checks.bounds(Options)
