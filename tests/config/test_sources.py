"""YAML files of users: mistakes are named with file and line and cost nobody else, imports count at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlrun import cli, registry
from rlrun.config import compose

HEAD = "# @package _global_\n"
FOLDER = "odd =földer"  # for the command line, a path is a path

# name -> what is in the file, the line of the mistake (0: the file alone is named), what is said
MISTAKES: dict[str, tuple[bytes, int, str]] = {
    "latin": (b"# @package _global_\nseed: 3 # caf\xe9\n", 2, "is not UTF-8"),
    "tab": (b"# @package _global_\nseed: 3\n\tfoo: 1\n", 3, "is not YAML"),
    "twice": (b"# @package _global_\nseed: 3\nseed: 4\n", 3, "duplicate key seed"),
    "syntax": (b"# @package _global_\nseed: [3\nstop: }\n", 3, "is not YAML"),
    "nul": (b"seed: 3\n\0\n", 2, "special characters are not allowed"),
    "two": (b"seed: 3\n---\nseed: 4\n", 2, "another document"),
    "object": (b"seed: 1\nimports: !!python/object:os.system x\n", 2, "could not determine a constructor"),
    "list": (b"- 1\n- 2\n", 0, "holds no keys"),
    "text": (b"# only words\nwhat I wanted to say\n", 0, "holds no keys"),
    "header": (b"# @package a b c\nseed: 1\n", 0, "has a line that begins with # @"),
    "no_list": (b"defaults: 3\n", 1, "'3' cannot be in a defaults list"),
    "no_entry": (b"seed: 1\ndefaults:\n  - 3\n", 2, "'3' cannot be in a defaults list"),
    "missing": (b"defaults:\n  - /network: nosuch\n", 2, "there is no network named 'nosuch'"),
    "missing_override": (b"defaults:\n  - override /network: mpl\n", 2, "there is no network named 'mpl'"),
    "missing_file": (b"defaults:\n  - other\n", 2, "there is no experiment named 'other'"),
    "no_group": (b"defaults:\n  - override /nogroup: mlp\n", 2, "there is no nogroup"),
    "imports": (b"imports: [no_such_module]\n", 0, "no_such_module cannot be imported"),
}


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The experiments of a folder of the user's."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / FOLDER / "experiment"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_file_with_a_mistake_is_named_with_its_line(
    name: str, experiments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, line, problem = MISTAKES[name]
    (experiments / f"{name}.yaml").write_bytes(content)
    assert cli.main(["--config-dir", FOLDER, f"experiment={name}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rlrun: {FOLDER}/experiment/{name}.yaml:{line or ''}") and problem in said
    assert len(said.splitlines()) <= 3
    assert not Path("outputs").exists()


def test_files_with_mistakes_cost_nobody_else(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, (content, _, _) in MISTAKES.items():
        (experiments / f"{name}.yaml").write_bytes(content)
    (experiments / "folder.yaml").mkdir()
    (experiments / "gone.yaml").symlink_to("nowhere")
    for words in (["list"], ["--help"], ["algo=random", "env=toy", "+smoke=on", "hydra.run.dir=run"]):
        assert cli.main([*words, "--config-dir", FOLDER]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        assert words != ["list"] or all(f"\n  {name}" in shown.out for name in MISTAKES)


@pytest.mark.parametrize("head", [HEAD, "", f"\ufeff{HEAD}"], ids=["package", "no package", "byte order mark"])
def test_an_experiment_is_about_the_run(head: str, experiments: Path) -> None:
    (experiments / "mine.yaml").write_text(f"{head}seed: 7\ntotal_timesteps: 60\n", encoding="utf-8")
    words = ["algo=random", "env=toy", "+smoke=on", "experiment=mine", "seed=7", "hydra.run.dir=run"]
    assert cli.main(["--config-dir", FOLDER, *words[:-2], words[-1]]) == 0
    assert json.loads(Path("run/meta.json").read_text())["seed"] == 7


@pytest.mark.parametrize("folder", ["", "nowhere", "file", "~nobody/conf"])
def test_a_folder_that_is_none_is_refused(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert cli.main(["list", f"--config-dir={folder}"]) == 2
    assert cli.main(["list", "--config-dir", folder]) == 2


def test_a_folder_that_would_not_be_read_is_refused(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", "last", "--config-dir", FOLDER]) == 2
    assert capsys.readouterr().err == "rlrun: --config-dir: has no say in eval\na run has its config with it\n"


def test_a_key_that_does_not_exist_gets_a_hint(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (experiments / "mine.yaml").write_text(f"{HEAD}total_timesteps: 60\nsede: 7\n")
    assert cli.main(["--config-dir", FOLDER, "experiment=mine"]) == 2
    assert "sede: there is no such key, but experiment/mine.yaml, line 3 sets it\n" in (said := capsys.readouterr().err)
    assert "did you mean seed?" in said


COMPONENT = """
from dataclasses import dataclass
from rlrun.networks import NetworkConfig
from rlrun.networks.builder import build_mlp
from rlrun.registry import register

@dataclass
class {name}Config(NetworkConfig):
    name: str = "{name}"
    odd: int = 1  # an option of its own

register("network", {name}Config)(lambda cfg, obs, *heads: build_mlp(cfg, obs, *heads))
"""


@pytest.mark.parametrize("name", ["bridge", "tunnel"])
def test_an_experiment_may_choose_what_it_imports(
    name: str, experiments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"own_{name}.py").write_text(COMPONENT.format(name=name))
    (experiments / "mine.yaml").write_text(
        f"{HEAD}defaults:\n  - override /network: {name}\nimports: [own_{name}]\nnetwork:\n  odd: 2\n"
    )
    words = ["--config-dir", FOLDER, "experiment=mine", "algo=dqn", "+smoke=on", "hydra.run.dir=run"]
    assert cli.main(words) == 0
    assert f"name: {name}\n" in (config := Path("run/config.yaml").read_text()) and "odd: 2\n" in config
    assert cli.main(["resume", "run", "total_timesteps=520"]) == 0
    assert cli.main([*words[:-1], "network.od=3"]) == 2
    assert "did you mean network.odd?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("algo", "network", "buffer"), [("dqn", "mlp", "uniform"), ("bootstrap", "mlp", None), ("ucb", None, None)]
)
def test_an_algorithm_brings_the_network_and_the_buffer_that_it_declares(
    algo: str, network: str | None, buffer: str | None
) -> None:
    compose.set_up([])

    def chosen(*words: str) -> tuple[str | None, str | None]:
        data = compose.compose([f"algo={algo}", "~tuned", *words]).data
        return tuple(data[kind] and data[kind]["name"] for kind in ("network", "buffer"))  # type: ignore[return-value]

    assert chosen() == (network, buffer)
    assert chosen("network=null", "buffer=null") == (None, None)
    assert chosen("network=mlp", "buffer=uniform") == ("mlp", "uniform")


INCOMPLETE = '''
from dataclasses import dataclass
from rlrun import Algorithm, register
from rlrun.types import HeadSpec

@dataclass
class {name}Config:
    name: str = "{name}"

@register("algo", {name}Config)
class {name}{base}:
    """Not whole."""
    def __init__(self, cfg, kit):
        {body}
'''


@pytest.mark.parametrize(
    ("name", "base", "body", "answer"),
    [
        ("duck", "", "pass", "algo: duck is no algorithm\nderive it from rlrun.Algorithm\n"),
        ("still", "(Algorithm)", "pass", "algo: still has nobody who acts\nset self.agent in its constructor\n"),
        (
            "mute",
            "(Algorithm)",
            'kit.nets(q=HeadSpec("q", 2))',
            "network: the algorithm builds one, and none is chosen\n"
            'write network=mlp, or declare it: register(…, network="mlp")\n',
        ),
    ],
)
def test_what_an_algorithm_of_ones_own_lacks_is_said(
    name: str,
    base: str,
    body: str,
    answer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"incomplete_{name}.py").write_text(INCOMPLETE.format(name=name, base=base, body=body))
    monkeypatch.setattr(registry, "_ENTRIES", {kind: dict(known) for kind, known in registry._ENTRIES.items()})
    assert cli.main([f"imports=[incomplete_{name}]", f"algo={name}", "+smoke=on", "hydra.run.dir=run"]) == 2
    assert capsys.readouterr().err == f"rlrun: {answer}"
    assert not (tmp_path / "run").exists()
