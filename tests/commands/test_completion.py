"""What TAB offers: `rlrun -sc query=bash` as bash asks it."""

from __future__ import annotations

import pytest

from rlrun import cli
from rlrun.commands.table import VERBS
from rlrun.config import folders


def offered(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert cli.main(["-sc", "query=bash"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out.split()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("rlrun ", {*VERBS, "algo=", "env=", "seed="}),
        ("rlrun ev", {"eval", "eval=", "eval."}),
        ("rlrun algo=d", {"algo=dqn", "algo=dyna_q"}),
        ("rlrun algo=dqn algo.gam", {"algo.gamma="}),
        ("rlrun algo=dqn env=bandit/w", {"env=bandit/wine"}),
        ("rlrun eval last ep", {"episodes="}),
        ("rlrun eval ", {"last", "ckpt="}),
        ("rlrun resume last eval.f", {"eval.freq="}),
        ("rlrun list alg", {"algo"}),
        ("rlrun list algo dq", {"dqn"}),
        ("rlrun -m algo=dq", {"algo=dqn"}),
    ],
)
def test_what_is_offered(
    line: str, some: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = offered(line, monkeypatch, capsys)
    assert some <= set(found)
    assert all(word.startswith(line.split(" ")[-1]) for word in found)


@pytest.mark.parametrize(
    "line", ["rlrun eval out", "rlrun resume outputs/x=y/", "rlrun algo=dqm al", "rlrun nosuchverb ", "rlrun list dq"]
)
def test_nothing_is_said_where_there_is_nothing_to_offer(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the shell offers files."""
    assert not {word for word in offered(line, monkeypatch, capsys) if word in folders.options("algo")}


def test_without_a_line_nothing_is_offered_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COMP_LINE", raising=False)
    assert cli.main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().err == ""
