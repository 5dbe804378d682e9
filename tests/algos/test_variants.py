"""Algorithms that are a YAML file: what each one puts together, and that it learns."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from conftest import Rlrun

from rlrun import registry
from rlrun.config import compose, folders, plugins
from rlrun.config.values import flat
from rlrun.testing import check_algorithm, learner

VARIANTS: dict[str, dict[str, Any]] = {
    "double_dqn": {"algo.name": "dqn", "algo.double": True, "buffer.name": "uniform", "network.dueling": False},
    "dueling_dqn": {"algo.name": "dqn", "algo.double": True, "network.dueling": True},
    "noisy_dqn": {"algo.name": "dqn", "network.noisy": "factorised"},
    "nstep_dqn": {"algo.name": "dqn", "buffer.name": "uniform", "buffer.n_step": 3},
    "per_dqn": {"algo.name": "dqn", "algo.double": True, "buffer.name": "prioritized", "buffer.n_step": 1},
    "rainbow": {
        "algo.name": "c51",
        "algo.double": True,
        "network.dueling": True,
        "network.noisy": "factorised",
        "buffer.name": "prioritized",
        "buffer.n_step": 3,
    },
    "btr": {
        "algo.name": "iqn",
        "algo.munchausen": True,
        "algo.optimizer": "adamw",
        "network.name": "cnn",
        "network.conv": "impala",
        "network.spectral_norm": True,
        "network.max_pool": 6,
        "network.dueling": True,
        "network.noisy": "factorised",
        "buffer.name": "prioritized",
        "buffer.n_step": 3,
        "env.num_envs": 64,
    },
    "pqn": {"algo.name": "pqn", "network.layer_norm": True},
}
# Of actors and critics: all are SAC.
ACTORS: dict[str, dict[str, Any]] = {
    "redq": {
        "algo.critics.count": 10,
        "algo.critics.aggregate": "subset",
        "algo.critics.subset": 2,
        "algo.gradient_steps": 20,
        "algo.policy_delay": 20,
    },
    "droq": {
        "algo.critics.count": 2,
        "algo.critics.dropout": 0.01,
        "algo.critics.layer_norm": True,
        "algo.gradient_steps": 20,
        "algo.policy_delay": 20,
    },
    "tqc": {
        "algo.critics.count": 5,
        "algo.critics.loss": "quantile",
        "algo.critics.quantiles": 25,
        "algo.critics.aggregate": "truncated",
        "algo.critics.dropped": 2,
    },
    "crossq": {
        "algo.tau": None,
        "algo.policy_delay": 3,
        "network.batch_norm": "after",
        "network.renorm_after": 100_000,
    },
    "xqc": {
        "algo.tau": 0.005,
        "algo.critics.loss": "categorical",
        "algo.critics.atoms": 101,
        "algo.return_bound": 5.0,
        "network.batch_norm": "before",
        "network.weight_norm": True,
    },
    "simba": {
        "algo.optimizer": "adamw",
        "network.name": "simba",
        "network.normalize_obs": True,
        "algo.gradient_steps": 2,
    },
}
ALL = VARIANTS | {name: {"algo.name": "sac"} | found for name, found in ACTORS.items()}


def test_every_one_is_looked_at() -> None:
    plugins.load_installed()
    beyond = {name for name in folders.files("algo") if not registry.has("algo", name)}
    assert beyond <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_what_it_puts_together(name: str) -> None:
    compose.set_up([])
    found = flat(compose.compose([f"algo={name}", "~tuned"]).data)
    assert {key: found[key] for key in ALL[name]} == ALL[name]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "btr"])
def test_it_learns(name: str) -> None:
    with closing(learner(f"algo={name}", "env=cartpole")) as one:
        assert one.learn(2).progress.gradient_steps >= 2


@pytest.mark.parametrize("name", ACTORS)
def test_it_goes_on_like_the_one_it_was(name: str) -> None:
    """Statistics, random subsets and dropped units included: the contract of every algorithm."""
    beside = {"simba": ["algo.reset_every=100"], "xqc": ["network.hidden=[16,16]"]}.get(name, [])
    check_algorithm(name, "env=pendulum", *beside)


def test_what_is_asked_for_beside_comes_first() -> None:
    """Whatever the file says of a group, a word of the user says it better."""
    compose.set_up([])
    words = ["algo=rainbow", "buffer=uniform", "network.noisy=none", "buffer.n_step=5", "~tuned"]
    found = compose.compose(words).data
    assert found["buffer"]["name"] == "uniform"
    assert (found["network"]["noisy"], found["buffer"]["n_step"]) == ("none", 5)


def test_its_page_says_what_it_sets_beside(rlrun: Rlrun) -> None:
    said = " ".join(rlrun("list", "algo", "rainbow").stdout.split())
    assert "It also sets: buffer=prioritized network.dueling=true network.noisy=factorised buffer.n_step=3" in said
    assert "It also sets" not in rlrun("list", "algo", "dqn").stdout
    listed = rlrun("list", "algo").stdout.split("algo, policy")[0]
    assert all(f"  {name} " in listed for name in VARIANTS), "all stand among the algorithms of values"
