"""What `--help` and `list` say, read on a terminal of 80 columns."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import algorithms

from rlrun import cli, text
from rlrun.commands import table
from rlrun.config import folders
from rlrun.config.comments import field_comments
from rlrun.config.schema import KINDS


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(words) == 0
    return capsys.readouterr().out


def test_help_is_short_and_fits_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--help").splitlines()
    assert len(lines) < 400
    assert max(map(len, lines)) <= 80


def test_help_says_what_there_is_and_every_option_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "--help", "algo=ppo", "algo.clip_range=0.3")
    for group in folders.GROUPS:
        assert re.search(rf"^  {group} +\S", shown, re.MULTILINE), group
    for kind in set(KINDS) - {"buffer"}:  # PPO has none
        assert re.search(rf"^{kind}=", shown, re.MULTILINE), kind
    assert re.search(r"^  algo\.clip_range=0\.3 +how far the probability ratio", shown, re.MULTILINE)
    assert "algo.epsilon.start" not in shown
    rows = re.split(r"^  (?=\S)", shown.partition("\nrun\n")[2], flags=re.MULTILINE)[1:]
    assert len(rows) > 50
    assert [row for row in rows if not re.search(r"\s[a-z]{2}", row, re.IGNORECASE)] == []


def test_an_option_and_its_sentence_take_three_lines_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "--help").partition("\nrun\n")[2]
    rows = re.split(r"^  (?=\S)", shown, flags=re.MULTILINE)[1:]
    assert len(rows) > 50
    assert [row for row in rows if len(row.partition("\n\n")[0].splitlines()) > 3] == []  # behind it, the next title


def test_examples_in_the_usage_paste_into_a_shell() -> None:
    commands = re.findall(r"^  (rlrun -m .*?)   ", table.usage(), re.MULTILINE)
    assert commands
    for command in commands:
        assert not set("()*&;<>|$`") & set(re.sub(r"'[^']*'", "", command)), f"bash would not take {command}"
        assert "range(" in "".join(shlex.split(command))


@pytest.mark.parametrize("verb", table.VERBS)
def test_every_verb_has_help_that_names_its_options_and_flags(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, verb, "--help")
    assert shown.startswith("\n".join(f"rlrun {verb} {line}" for line, _ in table.usages(table.VERBS[verb])) + "\n\n")
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) > 2
    for flag in table.VERBS[verb].flags:
        assert re.search(rf"^  {flag} +\w+", shown, re.MULTILINE)
    if table.VERBS[verb].options:
        for key, comment in field_comments(table.found(table.VERBS[verb].options)).items():
            assert re.search(rf"^  {key}=\S* +{re.escape(comment.split()[0])}", shown, re.MULTILINE), key


def test_the_list_has_every_choice_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "list")
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) < 450
    for group in folders.GROUPS:
        named = [
            name
            for block in re.findall(rf"^{group}\b.*\n((?: .*\n?)*)", shown, re.MULTILINE)
            for name in names_in(block)
        ]
        algos = {name.partition("-")[0] for name in folders.options(group) if "-" in name}
        assert sorted(named) == sorted(algos if group == "tuned" else folders.options(group)), group


def names_in(block: str) -> list[str]:
    return re.findall(r"^  (\S+)", block, re.MULTILINE)


def test_the_list_of_algorithms_is_the_registry_by_family(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "list", "algo")
    assert sorted(names_in(shown)) == folders.options("algo") and set(algorithms()) <= set(names_in(shown))
    families = dict(re.findall(r"^algo, (.+)\n((?:  .*\n?)+)", shown, re.MULTILINE))
    learned = ["value", "policy", "continuous", "actor_learner", "tabular", "bandits", "contextual"]
    assert list(families) == [*learned, "baselines"]
    assert {"dqn", "rainbow"} <= set(names_in(families["value"]))
    assert "ucb" in names_in(families["bandits"]) and "lin_ucb" in names_in(families["contextual"])


def test_an_algorithm_s_sentence_stands_beside_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    rows = re.split(r"^  (?=\S)", said(capsys, "list", "algo"), flags=re.MULTILINE)[1:]
    assert [row for row in rows if len(row.partition("\n\n")[0].splitlines()) > 2] == []
    assert [row for row in rows if not re.match(r"\S+  +\S", row)] == []


def test_help_names_the_algorithms_by_family(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "--help").partition("\n  network ")[0]
    assert re.search(r"^  algo        value: .*\bdqn\b", shown, re.MULTILINE)
    assert re.search(r"^ {14}tabular: dyna_q expected_sarsa ", shown, re.MULTILINE)


def test_one_choice_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "list", "algo", "dqn")
    assert "Q-learning from replay with a frozen target network." in shown  # the module's docstring
    assert "    L = E[ w * h( r + discount * Q_target(s', a*) - Q(s, a) ) ]" in shown  # formulas stay as they are
    assert re.search(r"^  algo\.gamma=0\.99 +discount factor per step", shown, re.MULTILINE)
    assert re.search(r"^Tuned for: .*\bcartpole\b", shown, re.MULTILINE)
    assert "conf/algo/dqn.yaml" in shown


def test_lines_of_a_docstring_fit_the_screen() -> None:
    told = "Two rules:\n\n    first   of a few words\n    second  " + "word " * 16 + "end\n\nThat is all."
    assert text.paragraphs(told).splitlines()[2:6] == [
        "    first   of a few words",
        "    second  " + "word " * 12 + "word",
        "            word word word end",
        "",
    ]


def test_a_terminal_of_no_width_costs_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "3")
    assert "rlrun resume RUN" in said(capsys, "resume", "--help")


@pytest.mark.parametrize("group", folders.GROUPS)
def test_a_choice_of_every_group_can_be_told(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = folders.options(group)[0]
    shown = said(capsys, "list", group, name)
    assert shown.startswith(f"{group}={name}: ") and len(shown) > 80


def test_a_list_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    everything = json.loads(said(capsys, "list", "json=true"))
    assert {group: sorted(found) for group, found in everything.items()} == {
        group: folders.options(group) for group in folders.GROUPS
    }
    assert list(json.loads(said(capsys, "list", "env", "json=true"))) == ["env"]
    told = json.loads(said(capsys, "list", "algo", "ppo", "json=true"))["algo"]["ppo"]
    assert told["options"]["gae_lambda"] == 0.95
    assert told["summary"].startswith("Proximal policy") and "arXiv:1707.06347" in told["about"]
    assert "cartpole" in told["tuned"] and Path(told["file"]).name == "ppo.yaml"


def test_choices_of_a_folder_of_ones_own_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# My first try. It failed.\nseed: 7\n")
    assert re.search(r"mine +My first try\.\n", said(capsys, "list", "experiment", "--config-dir", str(tmp_path)))


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["algos"], "algos: is not a group of choices\ndid you mean 'algo'?"),
        (["algo", "dqm"], "algo: there is no algo named 'dqm'\ndid you mean 'dqn'?"),
        (["dqn"], "dqn: is not a group of choices"),
        (["jsn=true"], "jsn"),
    ],
)
def test_what_cannot_be_listed_is_refused(words: list[str], answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", *words]) == 2
    assert answer in capsys.readouterr().err


def test_a_table_wraps_beside_the_name_or_below_it() -> None:
    assert text.table([("ab", "one"), ("c", "x" * 30 + " " + "y" * 60)]).splitlines() == [
        "  ab  one",
        "  c   " + "x" * 30,
        "      " + "y" * 60,
    ]
    assert text.table([("a", "b" * 70 + " " + "c" * 70 + " " + "d" * 70)]).splitlines()[0] == "  a"
    assert text.table([]) == ""


def test_comments_of_fields_are_found_on_their_lines() -> None:
    from rlrun.algos.policy.ppo import PPOConfig

    comments = field_comments(PPOConfig)
    assert comments["gamma"] == "discount factor per step"
    assert comments["clip_range_vf"].startswith("how far a value may gain")  # on a line of its own
    made_at_run_time = type("Made", (PPOConfig,), {"__module__": "no.such.module"})
    assert field_comments(made_at_run_time) == comments


ASKEW = '''
from dataclasses import dataclass

@dataclass(
    frozen=True
)
class Askew(
    object,
):
    """Options.
This line is not indented.
    """

    # above
    first: int = 1
# nobody's
    second: int = 2  # beside
class Next: pass
'''


def test_comments_are_found_however_a_class_is_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "askew.py").write_text(ASKEW)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert field_comments(importlib.import_module("askew").Askew) == {"first": "above", "second": "beside"}
