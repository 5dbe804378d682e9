"""Values from the environment: used by the run, never written down, looked up again when it goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from rlrun import cli
from rlrun.config.unresolved import ELSEWHERE, for_the_record, looked_up
from rlrun.errors import ConfigError

SECRET = "/data/set=1/hush hush"

VAULT = """
import gymnasium as gym

class Vault(gym.Env):
    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)
    tokens = []

    def __init__(self, token, url="", render_mode=None):
        self.tokens.append((token, url))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1, 1.0, True, False, {}

gym.register("Vault-v0", Vault, max_episode_steps=5)
"""


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `vault`, whose environment remembers what it was opened with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUSH", SECRET)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "vault.py").write_text(VAULT)
    import vault  # type: ignore[import-not-found]

    yield vault.Vault
    del sys.modules["vault"]


WORDS = [
    "algo=random",
    "env.id=vault:Vault-v0",
    "env.kwargs.token='${oc.env:HUSH}'",
    "env.kwargs.url='https://${env.kwargs.token}@host'",
    "+smoke=on",
    "hydra.run.dir=run",
]


def test_a_secret_reaches_the_environment_and_no_file(vault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(WORDS) == 0
    assert set(vault.tokens) == {(SECRET, f"https://{SECRET}@host")}
    holding = [file for file in Path("run").rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert holding == []
    assert yaml.safe_load(Path("run/config.yaml").read_text())["env"]["kwargs"] == {
        "token": "${oc.env:HUSH}",
        "url": "https://${env.kwargs.token}@host",
    }
    assert yaml.safe_load(Path("run/overrides.yaml").read_text()) == WORDS[:-1]

    monkeypatch.setenv("HUSH", "another")
    vault.tokens.clear()
    assert cli.main(["resume", "run", "total_timesteps=600"]) == 0
    assert cli.main(["eval", "run", "episodes=2"]) == 0
    assert set(vault.tokens) == {("another", "https://another@host")}
    assert "${oc.env:HUSH}" in Path("run/config.yaml").read_text()


def test_a_variable_that_is_gone_is_named(
    vault: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(WORDS) == 0
    monkeypatch.delenv("HUSH")
    for words in (["resume", "run", "total_timesteps=600"], ["eval", "run"], WORDS[:-1]):
        capsys.readouterr()
        assert cli.main(words) == 2
        assert "env.kwargs" in (said := capsys.readouterr().err) and "HUSH" in said


def test_only_what_depends_on_the_environment_stays_unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "32")
    cfg = OmegaConf.create(
        {
            "seed": 3,
            "twice": "${seed}",
            "size": "${oc.decode:${oc.env:SIZE}}",
            "missing": "${oc.env:NOT_THERE,7}",
            "list": ["${seed}", "a ${size}"],
            "node": "${other}",
            "other": {"deep": "${oc.env:SIZE}", "plain": "x"},
            "price": r"\${5}",
            "none": None,
        }
    )
    assert for_the_record(cfg) == {
        "seed": 3,
        "twice": 3,
        "size": "${oc.decode:${oc.env:SIZE}}",
        "missing": "${oc.env:NOT_THERE,7}",
        "list": [3, "a ${size}"],
        "node": "${other}",
        "other": {"deep": "${oc.env:SIZE}", "plain": "x"},
        "price": r"\${5}",
        "none": None,
    }
    assert looked_up(for_the_record(cfg)) == OmegaConf.to_container(cfg, resolve=True)
    assert OmegaConf.create({"x": "${oc.env:SIZE}"}).x == "32"  # the environment is back


def test_what_is_recorded_resolves_to_itself() -> None:
    data = {"a": "costs ${5}", "b": "\\${x}", "c": ["plain", {"d": "${"}]}
    cfg = OmegaConf.create({"a": r"costs \${5}", "b": r"\\\${x}", "c": ["plain", {"d": r"\${"}]})
    assert OmegaConf.to_container(cfg, resolve=True) == data
    assert looked_up(for_the_record(cfg)) == data


def test_a_lookup_that_fails_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^env\.kwargs\.x: .*'GONE'"):
        looked_up({"env": {"kwargs": {"x": "${oc.env:GONE}"}}})
    assert ELSEWHERE not in str(looked_up({"a": 1}))
