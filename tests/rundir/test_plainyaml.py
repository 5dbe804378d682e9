"""YAML from strangers: what is read, and what is refused, quickly."""

from __future__ import annotations

import math

import pytest

from rlrun.config.values import to_yaml
from rlrun.rundir import plainyaml


def test_plain_data_are_read_as_in_our_other_yaml() -> None:
    text = (
        "a: 1e-3\nb: -1\nc: .5\nd: 1.0e+5\ne:\nf: ''\ng: ~\nh: [1, x, true, off]\ni: 1_000\nj: 0x1f\nk: .inf\nl: 3.\n"
    )
    assert plainyaml.load(text) == {
        **{"a": 0.001, "b": -1, "c": 0.5, "d": 1e5, "e": None, "f": "", "g": None, "h": [1, "x", True, False]},
        **{"i": 1000, "j": 31, "k": math.inf, "l": 3.0},
    }
    assert plainyaml.load("a: 2020-01-01\nb: 1:30\n") == {"a": "2020-01-01", "b": "1:30"}  # neither date nor base 60


def test_what_we_write_is_read_back() -> None:
    data = {"a": [1, 2.5, -1e-20, 1e300, None, True], "b": {"c": "1e5", "d": "true", "e": "null", "f": "1:30", "g": ""}}
    data["h"] = {"x": "ünï\n\ttab", "y": "${oc.env:HOME}", "z": "# no comment", "1": "2020-01-01", "long": "w " * 500}
    assert plainyaml.load(to_yaml(data)) == data


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x [1]\nb: *x\n", "line 1 uses an anchor"),
        ("a: *x\n", "anchor"),
        ("\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 64))]), "anchor"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1 uses the tag"),
        ("!!binary aGk=", "tag"),
        ("a: !!set {x, y}", "tag"),
        ("[" * 20_000 + "]" * 20_000, "nested more than 50 deep"),
        ("\n".join(" " * i + "a:" for i in range(1000)), "line 51 is nested more than 50 deep"),
        ("a: 1\na: 2\n", "line 1 begins a mapping that has a key twice"),
        ("a: [", "while parsing"),
        ("a: 1\n---\nb: 2\n", "single document"),
        ("? [a]\n: b", "unhashable key"),
        ("a: \x00", "not allowed"),
        ("a: 08", "invalid literal"),
    ],
)
def test_what_is_not_plain_is_refused_in_a_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        plainyaml.load(text)
    assert "\n" not in str(caught.value)


def test_numbers_of_endless_digits_are_text() -> None:
    assert plainyaml.load("a: " + "9" * 100_000)["a"] == "9" * 100_000
    assert plainyaml.load("a: 1" + ":59" * 100_000)["a"].startswith("1:59")
