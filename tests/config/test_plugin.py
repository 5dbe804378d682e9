"""A third-party package extends rlrun without touching it: through its entry point, `imports=[…]` and `_target_`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TESTS, Rlrun

PACKAGE = TESTS / "plugin_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH of a folder into which pip has installed the package."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(PACKAGE)], check=True)
    return os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])


def test_its_components_are_listed_beside_ours(rlrun: Rlrun, installed: str) -> None:
    listed = rlrun("list", PYTHONPATH=installed).stdout
    for name in ("hill_climbing", "dqn", "linear", "mlp", "corridor", "cartpole"):
        assert name in listed
    assert "Random local search over the weights of a policy" in listed


def test_without_the_package_they_are_unknown(rlrun: Rlrun) -> None:
    assert "there is no algo named 'hill_climbing'" in rlrun("algo=hill_climbing", code=2).stderr


def test_it_learns_is_evaluated_and_resumed(rlrun: Rlrun, installed: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = rlrun("algo=hill_climbing", "env=corridor", f"hydra.run.dir={run}", PYTHONPATH=installed)
    assert "tuned/hill_climbing-corridor.yaml" in trained.stdout
    summary = json.loads((run / "summary.json").read_text())
    assert summary["env_steps"] == 2000
    assert summary["final_eval"]["mean"] == pytest.approx(1 - 0.02 * 6)  # seven steps to the last of eight rooms

    evaluated = rlrun("eval", str(run), "episodes=3", "json=true", PYTHONPATH=installed)
    assert json.loads(evaluated.stdout)["mean_length"] == 7

    rlrun("resume", str(run), "total_timesteps=2400", PYTHONPATH=installed)
    assert json.loads((run / "status.json").read_text())["env_steps"] == 2400


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["algo.noise=-1"], "algo.noise: must be greater than 0"),
        (["algo.noize=1"], "did you mean algo.noise?"),
        (["env=pendulum"], "hill_climbing handles discrete action spaces, Pendulum-v1 has a box one"),
        (["network=lineal"], "did you mean 'linear'?"),
    ],
)
def test_mistakes_get_the_same_answers(rlrun: Rlrun, installed: str, words: list[str], answer: str) -> None:
    refused = rlrun("algo=hill_climbing", "env=corridor", *words, code=2, PYTHONPATH=installed)
    assert answer in refused.stderr
    assert len(refused.stderr.strip().split("\n")) <= 5


def test_our_algorithm_on_its_environment_with_its_network(rlrun: Rlrun, installed: str, tmp_path: Path) -> None:
    words = ["algo=dqn", "env=corridor", "network=linear", "network.bias=false", "+smoke=on", "hydra.run.dir=run"]
    rlrun(*words, PYTHONPATH=installed)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"


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


def test_a_module_named_in_imports(rlrun: Rlrun, tmp_path: Path) -> None:
    decorated = {
        "imports": "from rlrun.registry import register",
        "decorator": "@register('network', 'thin', config=ThinConfig)",
    }
    (tmp_path / "my_network.py").write_text(NETWORK.format(**decorated))
    done = rlrun("algo=dqn", "imports=[my_network]", "network=thin", "network.width=3", "~tuned", "+smoke=on")
    assert "a thin network of width 3" in done.stdout


def test_a_class_named_by_target_in_a_users_yaml(rlrun: Rlrun, tmp_path: Path) -> None:
    (tmp_path / "my_network.py").write_text(NETWORK.format(imports="", decorator=""))
    yaml = tmp_path / "my_conf" / "network" / "mine.yaml"
    yaml.parent.mkdir(parents=True)
    yaml.write_text("_target_: my_network.Thin\nwidth: 5\n")
    done = rlrun("--config-dir", "my_conf", "algo=dqn", "network=mine", "~tuned", "+smoke=on")
    assert "a thin network of width 5" in done.stdout
    done = rlrun("algo=dqn", "network=mine", "network.width=4", "~tuned", "+smoke=on", RLRUN_CONF="my_conf")
    assert "a thin network of width 4" in done.stdout


def test_a_module_that_cannot_be_imported_is_named(rlrun: Rlrun, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import there_is_no_such_module\n")
    refused = rlrun("imports=[broken]", code=2)
    assert "imports: broken cannot be imported" in refused.stderr
    assert "there_is_no_such_module" in refused.stderr
