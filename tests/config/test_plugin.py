"""A third-party package extends rlrun without touching it: through its entry point, `imports=[…]` and `_target_`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TESTS, Nursery, Rlrun, session

PACKAGE = TESTS / "plugin_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH of a folder into which pip has installed the package."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(PACKAGE)], check=True)
    return os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])


def test_its_components_are_like_ours(installed: str, tmp_path: Path) -> None:
    answers = session(
        tmp_path,
        ["list"],
        ["algo=hill_climbing", "env=corridor", "hydra.run.dir=run"],
        ["eval", "run", "episodes=3", "json=true"],
        ["resume", "run", "total_timesteps=2400"],
        ["algo=dqn", "env=corridor", "network=linear", "network.bias=false", "+smoke=on", "hydra.run.dir=dqn"],
        *(["algo=hill_climbing", "env=corridor", *words] for words, _ in MISTAKES),
        PYTHONPATH=installed,
    )
    assert [code for code, _ in answers] == [0] * 5 + [2] * len(MISTAKES), answers
    listed, trained, evaluated, _, _, *refused = (said for _, said in answers)
    for name in ("hill_climbing", "dqn", "linear", "mlp", "corridor", "cartpole"):
        assert name in listed.stdout
    assert "Random local search over the weights of a policy" in listed.stdout

    assert "tuned/hill_climbing-corridor.yaml" in trained.stdout
    assert json.loads(evaluated.stdout)["mean"] == pytest.approx(1 - 0.02 * 6)  # seven steps to the last of eight rooms
    assert json.loads(evaluated.stdout)["mean_length"] == 7
    assert json.loads((tmp_path / "run" / "status.json").read_text())["env_steps"] == 2400
    assert json.loads((tmp_path / "dqn" / "status.json").read_text())["state"] == "finished"
    for (_, answer), said in zip(MISTAKES, refused, strict=True):
        assert answer in said.stderr
        assert len(said.stderr.strip().split("\n")) <= 5


def test_its_algorithm_holds_the_contract_of_all(installed: str, tmp_path: Path) -> None:
    command = [sys.executable, str(PACKAGE / "contract.py")]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": installed}, check=True)


MISTAKES = [
    (["algo.noise=-1"], "algo.noise: must be greater than 0"),
    (["algo.noize=1"], "did you mean algo.noise?"),
    (["env=pendulum"], "hill_climbing handles discrete action spaces, Pendulum-v1 has a box one"),
    (["network=lineal"], "did you mean 'linear'?"),
]


def test_without_the_package_they_are_unknown(rlrun: Rlrun) -> None:
    assert "there is no algo named 'hill_climbing'" in rlrun("algo=hill_climbing", code=2).stderr


NETWORK = '''
"""A user's own network, in the current directory."""
from dataclasses import dataclass
from torch import nn
{imports}

@dataclass
class ThinConfig:
    """One narrow layer."""
    name: str = "thin"
    width: int = 2  # units of the hidden layer

{decorator}
class Thin(nn.Module):
    """One narrow layer."""
    config = ThinConfig

    def __init__(self, cfg, obs_space, head):
        super().__init__()
        print("a thin network of width", cfg.width)
        self.layers = nn.Sequential(nn.Linear(obs_space.shape[0], cfg.width), nn.Linear(cfg.width, head.size))

    def forward(self, obs):
        return self.layers(obs)
'''


def test_a_module_named_in_imports(tmp_path: Path, nursery: Nursery) -> None:
    decorated = {
        "imports": "from rlrun.registry import register",
        "decorator": "@register('network', ThinConfig)",
    }
    (tmp_path / "my_network.py").write_text(NETWORK.format(**decorated))
    (tmp_path / "broken.py").write_text("import there_is_no_such_module\n")
    words = ["algo=dqn", "imports=[my_network]", "network=thin", "network.width=3", "~tuned", "+smoke=on"]
    (trained, said), (code, refused) = session(tmp_path, words, ["imports=[broken]"], nursery=nursery)
    assert trained == 0 and "a thin network of width 3" in said.stdout
    assert code == 2 and "imports: broken cannot be imported" in refused.stderr
    assert "there_is_no_such_module" in refused.stderr


def test_a_class_named_by_target_in_a_users_yaml(tmp_path: Path, nursery: Nursery) -> None:
    (tmp_path / "my_network.py").write_text(NETWORK.format(imports="", decorator=""))
    for folder, name in (("given", "mine"), ("known", "yours")):
        yaml = tmp_path / folder / "network" / f"{name}.yaml"
        yaml.parent.mkdir(parents=True)
        yaml.write_text("_target_: my_network.Thin\nwidth: 5\n")
    words = ["algo=dqn", "~tuned", "+smoke=on"]
    answers = session(
        tmp_path,
        ["--config-dir", "given", *words, "network=mine"],
        [*words, "network=yours", "network.width=4"],
        nursery=nursery,
        RLRUN_CONF="known",
    )
    assert [code for code, _ in answers] == [0, 0], answers
    assert "a thin network of width 5" in answers[0][1].stdout
    assert "a thin network of width 4" in answers[1][1].stdout
