"""README's command lines are ones that rlrun takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rlrun import cli
from rlrun.commands import table
from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.run.build import setting

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", "", TEXT).splitlines()
COMMANDS = [shlex.split(line, comments=True)[1:] for line in LINES if line.startswith("    rlrun ")]
TRAININGS = [words for words in COMMANDS if re.match("-m|.*=", words[0])]


def test_there_are_as_many_as_there_seem_to_be() -> None:
    assert len(TRAININGS) > 10
    assert {words[0] for words in COMMANDS} >= set(table.VERBS) - {"list"}


@pytest.mark.parametrize("words", TRAININGS, ids=" ".join)
def test_a_training_in_the_readme_is_valid(words: list[str], tmp_path: Path) -> None:
    """Of a sweep, its first job; of a data set, as far as there is no file."""
    one = [word if "[" in word else word.partition(",")[0] for word in words if word != "-m"]
    one = [re.sub(r"range\(.*\)", "0", word) for word in one if not word.startswith("hydra.sweep")]
    compose.set_up(one)
    if any(word.startswith("env.path=") for word in one):
        assert compose.compose(one).data["env"]["path"]
    else:
        setting(validate(compose.compose(one).data))


def test_a_mistake_in_the_readme_is_answered_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    answers = re.findall(r"    \$ rlrun (.*)\n((?:    [^$\n].*\n)+)", TEXT)
    assert len(answers) == 2
    for words, answer in answers:
        assert cli.main(words.split()) == 2
        assert capsys.readouterr().err == re.sub("(?m)^    ", "", answer)


def test_the_readme_says_nothing_of_an_algorithm_that_list_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "algo"]) == 0
    (shown,) = re.findall(r"What `rlrun list algo` says:\n\n```\n(.*?)```", TEXT, re.DOTALL)
    assert len(sentences(shown)) > 20 and sentences(shown) <= sentences(capsys.readouterr().out)


def sentences(listing: str) -> set[str]:
    """What stands behind each name, whatever the width."""
    return {" ".join(entry.split()) for entry in re.findall(r"^  \w+  .*(?:\n {4,}.*)*", listing, re.MULTILINE)}
