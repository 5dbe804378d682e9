"""What words mean: the same for training, sweeps, verbs and YAML files."""

from __future__ import annotations

import re

import pytest
import yaml

from rlrun import compose, config
from rlrun.errors import ConfigError
from rlrun.review import EvalOptions
from rlrun.words import assigned, parse, readable


@pytest.fixture(autouse=True, scope="module")
def ready():
    compose.set_up([])


def value(word: str) -> object:
    return assigned([word])[word.partition("=")[0]]


# --- the grammar -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "x=y",
        "ünï/ß",
        "~/runs",
        "a b",
        "a;b",
        "#1",
        "it's",
        'say "so"',
        "a\\b",
        "[half",
        "{half",
        "f(x",
        "日本",
        "-",
        "a!b^c&d",
    ],
)
def test_what_hydra_cannot_read_is_the_text_that_was_typed(text):
    assert value(f"hydra.run.dir={text}") == text
    assert parse(readable(f"env.path={text}")).value() == text


@pytest.mark.parametrize(
    "text", ["1e4", "007", "1_000", "3", "null", "true", "a,b", "[a]", "{a:1}", "range(3)", "outputs/1e4"]
)
def test_a_directory_is_never_anything_else(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(compose.compose([f"hydra.run.dir={text}"]).dir) == text


def test_home_is_where_a_tilde_points(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compose.compose(["hydra.run.dir=~/runs/x"]).dir == tmp_path / "runs" / "x"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("total_timesteps=1e5", 100_000),
        ("total_timesteps=2.5e3", 2500),
        ("total_timesteps=1_000", 1000),
        ("total_timesteps='1e5'", 100_000),
        ("total_timesteps=${oc.decode:'3e2'}", 300),
        ("total_timesteps = 300", 300),
        ("algo.gamma=1", 1.0),
        ("algo.gamma=9e-1", 0.9),
        ("network.hidden=[1e2,64]", [100, 64]),
        ("algo.epsilon.start=1e0", 1.0),
        ("algo.epsilon={start:1e0}", 1.0),
        ("logger.csv=0", False),
        ("logger.csv=yes", True),
        ("+seed=3", 3),
        ("++seed=3", 3),
        ("env.kwargs.a=1e2", 100.0),
    ],
)
def test_a_value_is_read_by_the_type_of_its_key(word, expected):
    data = compose.compose([word]).data
    key = re.split(r" ?=", word.lstrip("+"))[0]
    found = config.flat(data)["algo.epsilon.start" if key == "algo.epsilon" else key]
    assert found == expected and (type(found) is type(expected) or key == "logger.csv")
    if "kwargs" not in key:
        config.validate(data)


@pytest.mark.parametrize(
    ("text", "expected"), [("1e2", 100), ("100.0", 100), ("1_00", 100), ("'1e2'", 100), ("100", 100)]
)
def test_yaml_files_verbs_and_training_read_alike(text, expected, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\ntotal_timesteps: {text}\n")
    compose.set_up([], [str(tmp_path)])
    in_file = compose.compose(["experiment=mine"]).data["total_timesteps"]
    compose.set_up([])
    saved = compose.compose([]).data | {"total_timesteps": yaml.safe_load(text) if text != "1e2" else 1e2}
    assert in_file == compose.compose([f"total_timesteps={text}"]).data["total_timesteps"] == expected
    assert config.validate(saved).total_timesteps == expected
    assert config.in_types(config.merged(saved, [f"total_timesteps={text}"]))["total_timesteps"] == expected
    assert config.from_words(EvalOptions, [f"episodes={text}"]).episodes == expected


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_arguments_of_an_environment_are_set_with_and_without_a_plus(plus):
    toy = ["env=toy"]
    assert compose.compose([*toy, f"{plus}env.kwargs.a=1"]).data["env"]["kwargs"] == {"variant": "book", "a": 1}
    assert compose.compose([*toy, f"{plus}env.kwargs.variant=x"]).data["env"]["kwargs"] == {"variant": "x"}
    assert compose.compose([*toy, f"{plus}env.kwargs.a.b=[1]"]).data["env"]["kwargs"]["a"] == {"b": [1]}
    assert compose.compose([*toy, f"{plus}env.kwargs={{a:1}}"]).data["env"]["kwargs"]["a"] == 1


def test_arguments_of_an_environment_can_be_taken_away():
    assert compose.compose(["env=toy", "~env.kwargs.variant"]).data["env"]["kwargs"] == {}


def test_a_smoke_run_needs_no_plus_and_can_be_called_off():
    assert compose.compose(["smoke=on"]).data["total_timesteps"] == 500
    assert compose.compose(["smoke=null"]).data["total_timesteps"] != 500


@pytest.mark.parametrize("choice", ["algo=ppo", "+algo=ppo", "++algo=ppo"])
def test_a_choice_needs_no_plus_and_none_hurts(choice):
    assert compose.compose([choice]).data["algo"]["name"] == "ppo"


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["experience=3"], "experience"),
        (["network=-1"], "network"),
        (["buffer=int(3)"], "buffer"),
        (["algo=[dqn,ppo]"], "algo"),
        (["algo="], "algo"),
        (["algo={a:1}"], "algo"),
        (["env=1.5"], "env"),
        (["experiment=3"], "experiment"),
        (["tuned=3"], "tuned"),
        (["smoke=true"], "smoke"),
        (["=3"], "=3"),
        (["hydra=1"], "hydra"),
        (["schema=1"], "schema"),
        (["schema/algo=dqn"], "schema/algo"),
        (["algo@env=dqn"], "algo@env"),
        (["imports=3"], "imports"),
        (["imports=["], "imports"),
        (["imports=[3]"], "imports"),
        (["imports={a:1}"], "imports"),
        (["imports=''"], "imports"),
        (["stop=3"], "stop"),
        (["stop=[1]"], "stop"),
        (["algo.epsilon=x"], "algo.epsilon"),
        (["a[0]=3"], "a[0]"),
        (["network.hidden=[64,64"], "network.hidden"),
        (["seed=" + "9" * 5000], "seed"),
        (["seed=${oc.env:HOME}"], "seed"),
        (["seed=${nothing}"], "seed"),
        (["seed=${oc.env:NO_SUCH_VARIABLE}"], "seed"),
        (["seed=${"], "seed"),
        (["logger.csv=9223372036854775808"], "logger.csv"),
        (["logger.csv=2"], "logger.csv"),
        (["algo.gamma=true"], "algo.gamma"),
        (["~nothing"], "nothing"),
        (["~algo.gamma"], "algo.gamma"),
        (["~env.kwargs.a"], "env.kwargs.a"),
    ],
)
def test_words_of_the_wrong_kind_are_refused_by_their_key(words, key):
    with pytest.raises(ConfigError) as refused:
        compose.set_up(words)
        config.validate(compose.compose(words).data)
    assert refused.value.key == key
    assert len(str(refused.value)) < 1000 and len(str(refused.value).splitlines()) <= 5
