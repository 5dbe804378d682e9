"""Whose run it is: a foreign run's config is read and never obeyed unasked."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from rlrun import cli
from rlrun.errors import ConfigError
from rlrun.rundir import trust
from rlrun.rundir.layout import RunDir
from rlrun.rundir.trust import NotTrusted, read_config

VERBS = ["eval", "play", "inspect", "resume"]
OWN = "imported = True\nopen('ran', 'w').close()\n"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A copy of it, in a directory with a module of somebody's."""
    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    return RunDir(shutil.copytree(finished_run, tmp_path / "run", symlinks=True))


def edit(run: RunDir, **changes: object) -> None:
    """As somebody else would: key with `__` for a dot."""
    data = yaml.safe_load(run.config.read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        node = data
        for name in path:
            node = node[name]
        node[last] = value
    run.config.write_text(yaml.safe_dump(data))


def test_ones_own_run_is_known_wherever_it_lies(run: RunDir, tmp_path: Path) -> None:
    edit(run, imports=["theirs"])
    own = run.config.read_text()
    (run.path / trust.SIGNATURE).write_text(trust.signature(own)[trust.SIGNATURE])
    assert read_config(run)["imports"] == ["theirs"]
    moved = RunDir(run.path.rename(tmp_path / "elsewhere"))
    assert read_config(moved)["imports"] == ["theirs"]
    moved.config.write_text(own + "\n")
    with pytest.raises(NotTrusted):
        read_config(moved)


def test_a_run_that_training_made_is_known(run: RunDir) -> None:
    assert trust.is_signed(run.path, run.config.read_bytes())


@pytest.mark.parametrize("verb", VERBS)
def test_a_foreign_run_imports_nothing_unasked(run: RunDir, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run, imports=["theirs"])
    before = sorted(run.path.rglob("*"))
    assert cli.main([verb, "run"]) == 2
    error = capsys.readouterr().err
    assert "import theirs" in error and "--trust" in error and len(error.splitlines()) <= 5
    assert not Path("ran").exists()
    assert sorted(run.path.rglob("*")) == before


@pytest.mark.parametrize("verb", VERBS)
def test_trust_lets_it_once(run: RunDir, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run, imports=["theirs"])
    assert cli.main([verb, "run", "--trust", *(["total_timesteps=600"] if verb == "resume" else [])]) in (0, 1)
    Path("ran").unlink()
    assert cli.main([verb, "run"]) == 2


@pytest.mark.parametrize("verb", ["eval", "inspect"])
def test_a_foreign_run_that_names_nothing_of_its_own_just_works(run: RunDir, verb: str) -> None:
    edit(run, eval__episodes=2)
    assert cli.main([verb, "run"]) == 0


def test_what_resume_changes_stays_known(run: RunDir) -> None:
    assert cli.main(["resume", "run", "total_timesteps=600"]) == 0
    assert read_config(run)["total_timesteps"] == 600
    assert trust.is_signed(run.path, run.config.read_bytes())
    foreign = run.config.read_text().replace("600", "601")
    run.config.write_text(foreign)
    trust.change_config(run, foreign.replace("601", "602"))
    assert not trust.is_signed(run.path, run.config.read_bytes())


def test_a_run_stays_known_when_a_change_is_cut_off(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.config.read_text()
    monkeypatch.setattr(RunDir, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trust.change_config(run, before + "# more\n")
    assert trust.is_signed(run.path, before.encode()) and trust.is_signed(run.path, (before + "# more\n").encode())


DEMANDS = {
    "import theirs": {"imports": ["theirs"]},
    "import other.Net (network._target_)": {"network": {"_target_": "other.Net"}},
    "import deep.Thing (env.kwargs.x.0._target_)": {"env": {"kwargs": {"x": [{"_target_": "deep.Thing"}]}}},
    "import my_envs (env.id)": {"env": {"id": "my_envs:Thing"}},
    "import my_envs (env.kwargs.inner)": {"env": {"kwargs": {"inner": "my_envs:Thing-v0"}}},
    "import my.Wrapper (env.wrappers.0)": {"env": {"wrappers": ["my.Wrapper"]}},
    "import my.Wrapper (env.wrappers.0._target_)": {"env": {"wrappers": [{"_target_": "my.Wrapper"}]}},
    "import my.Torso (network.torso)": {"network": {"torso": "my.Torso"}},
    "import my.Torso (network.torso._target_)": {"network": {"torso": {"_target_": "my.Torso", "width": 3}}},
    "import my.Callback (callbacks.1)": {"callbacks": ["ours", "my.Callback"]},
    "fetch https://x.org/p.csv (env.probs)": {"env": {"probs": "https://x.org/p.csv"}},
    "fetch file:///etc/passwd (env.path)": {"env": {"path": "file:///etc/passwd"}},
    "read /home/them/run (init_from)": {"init_from": "/home/them/run"},
    "look up ${oc.env:SECRET} (algo.name)": {"algo": {"name": "${oc.env:SECRET}"}},
    "look up ${oc.env:SECRET} (env.kwargs)": {"env": {"kwargs": {"${oc.env:SECRET}": 1}}},
}


@pytest.mark.parametrize("line", DEMANDS)
def test_demands_are_named(line: str) -> None:
    assert list(trust.demands(DEMANDS[line])) == [line]


def test_what_runs_of_our_own_components_hold_demands_nothing(run: RunDir) -> None:
    harmless = {
        "init_from": None,
        "network": {"torso": None},
        "device": {"accelerator": "cuda:0"},
        "env": {"id": "ALE/Pong-v5", "kwargs": {"map": "SF\nFG"}},
    }
    assert list(trust.demands(harmless)) == []
    assert list(trust.demands(read_config(run))) == []


def test_many_demands_and_hostile_names_cost_five_lines(run: RunDir) -> None:
    edit(run, imports=["a\x1b[31m" + "b" * 1000, *(f"m{i}" for i in range(50))])
    with pytest.raises(NotTrusted) as caught:
        read_config(run)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 6 and max(map(len, lines)) < 200 and "\x1b" not in str(caught.value)


def test_a_foreign_config_is_bounded_and_ones_own_is_not(run: RunDir) -> None:
    long = run.config.read_text() + "#" * trust.LIMIT + "\n"
    run.config.write_text(long)
    with pytest.raises(ConfigError, match=r"config\.yaml: has .* bytes"):
        read_config(run)
    (run.path / trust.SIGNATURE).write_text(trust.signature(long)[trust.SIGNATURE])
    assert read_config(run)["seed"] == 0


@pytest.mark.parametrize(
    "text", ["algo: {name: [", "a: &x [1]\nb: *x", "[1, 2]", "", "\x00", "a: !!binary x", "a: \udcff"]
)
def test_a_damaged_config_is_named(run: RunDir, text: str) -> None:
    run.config.write_bytes(text.encode("utf-8", "surrogateescape"))
    for trusting in (False, True):
        with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read: ") as refused:
            read_config(run, trusting)
        assert "\n" not in str(refused.value)


# The key.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME")
    return tmp_path / "home"


def test_the_key_is_secret_and_stays(home: Path) -> None:
    first = trust.signature("seed: 0\n")
    assert first == trust.signature("seed: 0\n") != trust.signature("seed: 1\n")
    key = home / ".local/state/rlrun/key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    assert os.listdir(key.parent) == ["key"]
    key.unlink()
    assert trust.signature("seed: 0\n") != first


@pytest.mark.parametrize("home", ["", "/dev/null", "relative"])
def test_without_a_home_nothing_is_trusted_and_nothing_fails(home: str, run: RunDir, monkeypatch) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_STATE_HOME")
    assert trust.signature("seed: 0\n") == {}
    assert read_config(run)["seed"] == 0
    edit(run, imports=["theirs"])
    with pytest.raises(NotTrusted):
        read_config(run)
    assert read_config(run, trust=True)["imports"] == ["theirs"]


def test_a_damaged_key_is_no_key(home: Path) -> None:
    trust.signature("seed: 0\n")
    (home / ".local/state/rlrun/key").write_bytes(b"short")
    assert trust.signature("seed: 0\n") == {}
