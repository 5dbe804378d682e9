"""Composition and checking of configs: every answer is known beforehand."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import DATA, algorithms
from omegaconf import OmegaConf

from rlrun import registry
from rlrun.commands import help
from rlrun.config import compose, dialects, folders, plugins, tuned
from rlrun.config.compose import Composed
from rlrun.config.schema import RunConfig
from rlrun.config.validate import validate
from rlrun.config.values import flat, to_yaml
from rlrun.envs.bandits.datasets import UCI
from rlrun.errors import ConfigError
from rlrun.run.build import parts, setting
from rlrun.rundir import plainyaml


@pytest.fixture(autouse=True, scope="module")
def ready():
    compose.set_up([])


def data(*words: str) -> dict:
    return copy.deepcopy(composed(*words).data)


SAC = ("algo=sac", "env=pendulum")
TD3 = ("algo=td3", "env=pendulum")


@functools.cache
def composed(*words: str) -> Composed:
    return compose.compose(words)


def refused(*words: str) -> ConfigError:
    """The error that words lead to, in composition, in validation or where the environment is seen."""
    with pytest.raises(ConfigError) as caught:
        setting(validate(data(*words)))
    return caught.value


# --- composition -----------------------------------------------------------------------------------------------------


def test_without_words_it_is_dqn_on_cartpole():
    cfg = validate(data())
    assert (cfg.algo.name, cfg.env.id, cfg.network.name, cfg.buffer.name) == ("dqn", "CartPole-v1", "mlp", "uniform")
    assert cfg.seed == 0


def test_an_algorithm_chooses_its_buffer_and_network_but_the_user_has_the_last_word():
    assert data("algo=ppo")["buffer"] is None
    assert data("algo=ppo", "buffer=uniform")["buffer"]["name"] == "uniform"
    assert data("algo=random")["network"] is None and data("algo=random")["buffer"] is None
    assert data("algo=random", "network=mlp")["network"]["name"] == "mlp"


def test_a_network_with_running_statistics_takes_an_algorithm_that_gathers_them():
    error = str(refused("algo=ppo", "env=cartpole", "network=simba"))
    assert "network.normalize_obs: ppo gathers no statistics of observations" in error
    assert "dqn" in error and "env.normalize.obs=true" in error
    error = str(refused("algo=dqn", "network.batch_norm=before"))
    assert "network.batch_norm: dqn gathers no statistics of batches" in error
    assert data("algo=dqn", "network=simba")["network"]["normalize_obs"] is True


def test_tuned_values_lose_against_the_command_line_and_can_be_left_out():
    tuned = data("algo=dqn", "env=cartpole")["algo"]
    paper = data("algo=dqn", "env=cartpole", "~tuned")["algo"]
    mine = data("algo=dqn", "env=cartpole", "algo.learning_rate=7")["algo"]
    assert tuned["learning_rate"] != paper["learning_rate"] == 1e-4
    assert (mine["learning_rate"], mine["train_freq"]) == (7, tuned["train_freq"])


def test_an_environment_given_by_id_has_nothing_of_cartpole():
    found = composed("env.id=Acrobot-v1")
    assert found.data["env"]["id"] == "Acrobot-v1"
    assert not any("cartpole" in source for source in found.provenance.values())


def test_an_id_alone_is_one_of_the_experiment_s_kind_of_environment_unless_it_has_a_yaml_of_its_own():
    found = data("experiment=breakout_dqn", "env.id=ALE/Pong-v5")["env"]
    assert (found["name"], found["id"]) == ("atari", "ALE/Pong-v5")
    assert data("experiment=nature_dqn_cartpole", "env.id=Acrobot-v1")["env"]["id"] == "Acrobot-v1"
    assert not composed("experiment=nature_dqn_cartpole", "env.id=Acrobot-v1").provenance["env.id"].startswith("env/")
    own = data("experiment=pixel_cartpole_dqn", "env.id=Own-v0")["env"]  # options of CartPole's pictures are not its
    assert (own["name"], own["id"], own["kwargs"]) == ("gym", "Own-v0", {})


def test_an_experiment_chooses_components_and_loses_against_the_command_line():
    words = ["experiment=nature_dqn_cartpole"]
    assert data(*words)["algo"]["target_update_interval"] == 500
    assert data(*words, "algo.target_update_interval=3")["algo"]["target_update_interval"] == 3


def test_provenance_names_the_file_or_the_command_line_for_all_that_is_not_default():
    found = compose.compose(["seed=3", "algo.double=true", "env=cartpole"]).provenance
    assert found["seed"] == found["algo.double"] == "command line"
    assert found["env.id"] == "env/cartpole.yaml"
    assert found["algo.train_freq"] == "tuned/dqn-cartpole.yaml"
    assert "algo.random_steps" not in found and "logger.csv" not in found


def test_numbers_in_scientific_notation_are_whole_where_they_can_be():
    cfg = data("total_timesteps=2e5", "algo.learning_rate=1e-3", "network.hidden=[1e2,64]")
    assert cfg["total_timesteps"] == 200_000
    assert cfg["algo"]["learning_rate"] == 1e-3
    assert cfg["network"]["hidden"] == [100, 64]


def test_arguments_of_the_environment_need_no_plus_sign():
    assert data("env.kwargs.sutton_barto_reward=true")["env"]["kwargs"] == {"sutton_barto_reward": True}


@pytest.mark.parametrize(
    ("env_id", "label"),
    [
        ("CartPole-v1", "cartpole"),
        ("bandit/bernoulli", "bandit-bernoulli"),
        ("my.module:My-v0", "my"),
        ("ALE/Pong-v5", "ale-pong"),
        ("rlrun/Maze-v0", "maze"),
    ],
)
def test_label_of_an_environment(env_id, label):
    assert compose.env_label(env_id) == label


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["algo=ucb", "env=bandit/gaussian"], "bandit-gaussian/ucb"),
        (["algo=q_learning", "env=maze"], "maze/q_learning"),
        (["env=cartpole", "env.id=Acrobot-v1"], "acrobot/dqn"),
    ],
)
def test_folder_of_a_run(words, folder):
    assert str(compose.compose(words).dir.parent) == f"outputs/{folder}"


def test_run_directories_say_what_and_are_never_the_same():
    one, two = (compose.compose(["seed=4"]).dir for _ in range(2))
    assert one.parts[:3] == ("outputs", "cartpole", "dqn") and "_s4_" in one.name
    assert one != two


# --- every file ------------------------------------------------------------------------------------------------------


def yaml_files(group: str) -> list[str]:
    return sorted(folders.files(group))


def in_common(part, values):
    """A config's own values for these keys, of those that it has."""
    own = {key: (getattr(part, key, value), value) for key, value in values.items()}
    return {key: in_common(mine, value) if isinstance(value, dict) else mine for key, (mine, value) in own.items()}


@pytest.mark.parametrize(("algo", "env"), sorted(algorithms().items()))
def test_every_algorithm_composes_and_smoke_shrinks_it(algo, env):
    cfg = setting(validate(data(f"algo={algo}", f"env={env}", "+smoke=on"))).cfg
    assert cfg.total_timesteps == 500 and cfg.eval.episodes == 2
    assert getattr(cfg.algo, "learning_starts", 0) < 500
    for kind in ("algo", "network", "buffer"):
        part = getattr(cfg, kind)
        shrunk = registry.get(kind, part.name).smoke if part else {}
        assert in_common(part, shrunk) == dict(shrunk), kind


NEEDS = {f"bandit/{name}": [f"env.path={DATA}"] for name in UCI} | {
    "gym": ["env.id=CartPole-v1"],
    "mujoco": ["env.id=HalfCheetah-v5"],
    "dm_control": ["env.id=dm_control/cheetah-run-v0"],
    "robotics": ["env.id=FetchReach-v4"],
    "bandit/csv": [f"env.path={DATA / 'adult.data'}", "env.header=false"],
}


@pytest.mark.parametrize("env", yaml_files("env"))
def test_every_environment_composes(env):
    try:
        cfg = setting(validate(data("algo=random", f"env={env}", *NEEDS.get(env, [])))).cfg
    except ConfigError as error:
        assert "pip install" in error.hint  # an extra is not installed here
    else:
        assert cfg.env.num_envs >= 1


EXTRAS = {
    **dict.fromkeys(("lunarlander", "lunarlander_continuous", "bipedalwalker"), "Box2D"),
    **dict.fromkeys(("halfcheetah", "hopper", "walker2d", "ant", "humanoid"), "mujoco"),
}


@pytest.mark.parametrize("name", [name for name in yaml_files("tuned") if "-" in name])
def test_every_tuned_file_fits_its_algorithm_and_environment(name):
    algo, _, env = name.partition("-")
    if env in EXTRAS:
        pytest.importorskip(EXTRAS[env])
    found = composed(f"algo={algo}", f"env={env}")
    parts(validate(found.data)).close()
    assert found.hydra.runtime.choices.tuned == name
    assert any(source.startswith("tuned/") for source in found.provenance.values())


@pytest.mark.parametrize("name", yaml_files("experiment"))
def test_every_experiment_composes_and_is_built(name):
    try:
        parts(validate(data(f"experiment={name}"))).close()
    except ConfigError as error:
        assert "pip install" in error.hint or "fits" in error.hint  # an extra, or memory, is not there


@pytest.mark.parametrize("group", ["network", "buffer", "device", "experience", "logger", "eval", "checkpoint"])
def test_every_other_choice_composes(group):
    for name in yaml_files(group):
        cfg = data(f"{group}={name}", "~tuned")
        assert plugins.entry_of(group, cfg[group]).kind == group


def test_every_choice_has_a_line_of_help():
    for group in folders.GROUPS:
        for name, text in folders.described(group):
            assert len(text) > 3, f"{group}={name}"


def test_every_option_has_a_line_of_help():
    for title, rows in help.options(data(*SAC), composed(*SAC).hydra.runtime.choices):
        for key, text in rows:
            assert text and "type: ignore" not in text and "object at" not in text, f"{title} {key}"


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key", "says"),
    [
        # misspelt
        (["algo.learnin_rate=1"], "algo.learnin_rate", "did you mean algo.learning_rate?"),
        (["alg=dqn"], "alg", "did you mean algo?"),
        (["algo=dqnn"], "algo", "did you mean 'dqn'?"),
        (["env=cartpol"], "env", "did you mean 'cartpole'?"),
        (["algo.epsilon.strt=1"], "algo.epsilon.strt", "did you mean algo.epsilon.start?"),
        (["algo.epsilon={strt:1}"], "algo.epsilon.strt", "did you mean algo.epsilon.start?"),
        (["tuned=dqn-cartpol"], "tuned", "did you mean 'dqn-cartpole'?"),
        (["++algo.learnin_rate=1"], "algo.learnin_rate", "did you mean algo.learning_rate?"),
        # in the wrong place
        (["learning_rate=1e-3"], "learning_rate", "did you mean algo.learning_rate?"),
        (["algo.capacity=5"], "algo.capacity", "did you mean buffer.capacity?"),
        (
            ["algo.n_steps=4"],
            "algo.n_steps",
            "(a2c, a3c, acer, acer_continuous, appo, async_dqn, impala, ppo, pqn, trpo, vpg have it)",
        ),
        # other libraries' words
        (["algo.lr=1e-3"], "algo.lr", "rlrun calls it algo.learning_rate"),
        (["env.max_episode_steps=9"], "env.max_episode_steps", "rlrun calls it env.time_limit"),
        (["n_envs=4"], "n_envs", "rlrun calls it env.num_envs"),
        (["algo=ppo", "algo.clip_coef=0.1"], "algo.clip_coef", "rlrun calls it algo.clip_range"),
        (
            ["algo.clip_coef=0.1"],
            "algo.clip_coef",
            "algo.clip_range, which this run does not have (appo, ppo have it)",
        ),
        ([*SAC, "algo.noise.sigma=0.1"], "algo.noise.sigma", "algo.noise has dt, kind, std, theta"),
        (["polyak=0.995"], "polyak", "tau = 1 - polyak"),
        (["device=gpu"], "device", "write device=cuda"),
        (["env=Swimmer-v5"], "env", "write env.id=Swimmer-v5"),
        # wrong type
        (["algo.gamma=abc"], "algo.gamma", "'abc' is not a number"),
        (["seed=1.5"], "seed", "1.5 is not a whole number"),
        (["algo.target_update_interval=x"], "algo.target_update_interval", "'x' is not a whole number or null"),
        (["logger.csv=perhaps"], "logger.csv", "'perhaps' is not true or false"),
        (["network.hidden=64"], "network.hidden", "64 is not a list like [64,64]"),
        (["network.hidden=[64,a]"], "network.hidden", "is not a list like [64,64]"),
        (["algo.epsilon=3"], "algo.epsilon", "write algo.epsilon.KEY=VALUE"),
        # impossible
        (["algo.gamma=2"], "algo.gamma", "must be in [0, 1], got 2"),
        (["seed=-1"], "seed", "must be at least 0"),
        (["total_timesteps=0"], "total_timesteps", "must be at least 1"),
        (["algo.epsilon.start=2"], "algo.epsilon.start", "must be in [0, 1], got 2"),
        (["env=gym"], "env.id", "needs a value"),
        (["env.id=CartPole-v9"], "env.id", "'CartPole-v1'"),
        # impossible together
        ([*SAC, "algo.noise.std=0.3"], "algo.noise.std", "write algo.noise.std=0.1, or algo.noise.kind=gaussian"),
        (
            [*SAC, "network=gru"],
            "network",
            "these fit: bandit_mlp, cnn_impala, cnn_nature, cnn_nips, mlp, mlp_256, simba",
        ),
        (
            [*SAC, "env.normalize.clip=3"],
            "env.normalize.clip",
            "write env.normalize.clip=10, or env.normalize.obs=true",
        ),
        (["env=bit_flip", "env.kwargs.n=0"], "env.kwargs.n", "must be a whole number, at least 1, got 0"),
        ([*TD3, "algo.policy_noise=0.1"], "algo.policy_noise", "rlrun calls it algo.target_noise"),
        (
            [*TD3, "algo.critics.atoms=51"],
            "algo.critics.atoms",
            "write algo.critics.atoms=101, or algo.critics.loss=cat",
        ),
        (["network.max_pool=3"], "network.max_pool", "write network.max_pool=0, or network.conv=impala"),
        (["algo=acer", "algo.replay_capacity=1"], "algo.replay_min", "or algo.replay_capacity=100"),
        (["algo=ppo", "buffer=uniform"], "buffer", "write buffer=null"),
        (["algo=ppo", "buffer=rollout"], "buffer", "write buffer=null"),
        (["algo=dqn", "buffer=null", "~tuned"], "buffer", "choose one of: prioritized, uniform"),
        (["algo=random", "buffer=uniform"], "buffer", "write buffer=null"),
        (["algo=q_learning"], "algo", "these fit: "),
        (["algo=dqn", "env=pendulum"], "algo", "ppo"),
        # not what Hydra would make of it
        (["seed=1,2"], "seed", "add -m"),
        (["algo.name=ppo"], "algo.name", "write algo=ppo"),
        (["~algo"], "algo", "cannot be left out"),
        (["cartpole"], "cartpole", "key=value"),
        (["experience=subprocess"], "experience", "write env.vector=subprocess"),
        (["experience=native"], "experience", "write env.vector=native"),
        (["env.vector=childs"], "env.vector", "choose one of: in_process, native, subprocess"),
        (["hydra/launcher=ray"], "hydra/launcher", "pip install hydra-ray-launcher"),
        (["hydra/launcher=submitit_local"], "hydra/launcher", "pip install hydra-submitit-launcher"),
        (["hydra/sweeper=optuna"], "hydra/sweeper", "pip install hydra-optuna-sweeper"),
    ],
)
def test_an_error_names_the_key_and_what_would_do(words, key, says):
    error = refused(*words)
    assert error.key == key
    assert says in str(error)
    assert len(str(error).splitlines()) <= 5


def test_a_mistake_in_a_yaml_file_names_the_file(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "bad.yaml").write_text("# @package _global_\nalgo:\n  learnin_rate: 1\n")
    compose.set_up([], [str(tmp_path)])
    error = refused("experiment=bad")
    compose.set_up([])
    assert error.key == "algo.learnin_rate" and "experiment/bad.yaml" in str(error)


def test_saved_data_are_checked_like_composed_ones():
    saved = data()
    saved["algo"]["gama"] = 0.5
    with pytest.raises(ConfigError, match=r"algo.gama: there is no such key\ndid you mean algo.gamma\?"):
        validate(saved)
    saved = data()
    saved["eval"]["episodes"] = "many"
    with pytest.raises(ConfigError, match=r"eval.episodes: 'many' is not a whole number"):
        validate(saved)


def test_a_config_survives_its_yaml():
    saved = data("algo.learning_rate=1e-5", "stop.mean_return=475")
    assert plainyaml.load(to_yaml(saved)) == saved


def test_every_word_of_another_library_leads_to_a_key_that_some_component_has():
    schemas = [(k, registry.get(k, n).config) for k in registry.kinds() for n in registry.names(k)] + [("", RunConfig)]
    known = {f"{k}.{key}" for k, s in schemas for key in flat(OmegaConf.to_container(OmegaConf.structured(s)))}
    for word, ours in dialects.DIALECT.items():
        assert any(key == ours or key.endswith(f".{ours}") for key in known), f"{word} -> {ours}"
        assert word not in {key.rpartition(".")[2] for key in known}, f"{word} is ours, too"


# --- components of others --------------------------------------------------------------------------------------------

MODULE = '''
"""A component of somebody else's."""
from dataclasses import dataclass
from rlrun.algos.baselines.random import Random
from rlrun.checks import within
from rlrun.registry import register

@dataclass
class LazyConfig:
    name: str = "lazy"
    laziness: float = 0.5  # share of the time spent idle

    def __post_init__(self):
        within("laziness", self.laziness, 0, 1)

{decorator}
class Lazy(Random):
    """Mostly does nothing."""
    {attributes}
'''


def write_module(folder: Path, name: str, decorator: str = "", attributes: str = "") -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(MODULE).format(decorator=decorator, attributes=attributes))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory with modules of its own; what they register is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    entries = {kind: {name: registry.get(kind, name) for name in registry.names(kind)} for kind in registry.kinds()}
    monkeypatch.setattr(registry, "_ENTRIES", entries)
    yield tmp_path
    compose.set_up([])


def test_an_imported_component_is_a_choice_like_ours(elsewhere):
    write_module(elsewhere, "lazy_one", '@register("algo", LazyConfig)')
    words = ["imports=[lazy_one]", "algo=lazy"]
    compose.set_up(words)
    assert validate(data(*words, "algo.laziness=0.25")).algo.laziness == 0.25
    assert "did you mean algo.laziness?" in str(refused(*words, "algo.lazines=0.25"))
    assert "algo.laziness: must be in [0, 1]" in str(refused(*words, "algo.laziness=7"))
    assert ("lazy", "Mostly does nothing.") in folders.described("algo")


def test_a_registration_in_the_earlier_form_is_answered_with_the_new_one(elsewhere):
    write_module(elsewhere, "lazy_old", '@register("algo", "lazy", config=LazyConfig, action={"discrete"})')
    with pytest.raises(ConfigError) as caught:
        compose.set_up(["imports=[lazy_old]"])
    said = str(caught.value).splitlines()
    assert said[0] == "imports: lazy_old cannot be imported"
    assert "is written register(\"algo\", LazyConfig, needs=Needs(action={'discrete'}))" in said[1]


def test_a_target_in_a_yaml_file_is_checked_like_ours(elsewhere):
    write_module(elsewhere, "lazy_two", attributes="config = LazyConfig")
    (elsewhere / "conf" / "algo").mkdir(parents=True)
    (elsewhere / "conf" / "algo" / "idle.yaml").write_text("# Idle\n_target_: lazy_two.Lazy\nlaziness: 0.75\n")
    compose.set_up([], ["conf"])
    words = ["algo=idle"]
    assert validate(data(*words)).algo.laziness == 0.75
    assert data(*words, "network=mlp")["network"]["name"] == "mlp"
    assert "algo.laziness: 'x' is not a number" in str(refused(*words, "algo.laziness=x"))
    assert "did you mean algo.laziness?" in str(refused(*words, "+algo.lazines=1"))


def test_a_target_that_is_no_component_is_refused(elsewhere):
    words = ["++algo._target_=os.system", "algo=random"]
    assert "os.system is not a component" in str(refused(*words))


def test_a_module_that_fails_to_import_is_named(elsewhere):
    (elsewhere / "broken_module.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"imports: broken_module cannot be imported\nZeroDivisionError: division"):
        compose.set_up(["imports=[broken_module]"])


def test_a_folder_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("RLRUN_CONF", "/no/such/folder")
    with pytest.raises(ConfigError, match="RLRUN_CONF: there is no folder /no/such/folder"):
        compose.set_up([])


def test_a_sweep_over_components_leaves_their_values_to_the_jobs():
    """Hydra would try `env.bandits` on CartPole, which is not among the environments swept over."""
    words = ["env=bandit/bernoulli,bandit/gaussian", "env.bandits=3", "seed=1,2", "total_timesteps=10"]
    with compose.session() as loader:
        assert compose.postponed(words, loader) == [words[0], "env.bandits=choice(3)", *words[2:]]
        assert compose.postponed(["seed=1,2", "algo.gamma=0.9"], loader) == ["seed=1,2", "algo.gamma=0.9"]


def test_tuned_values_are_left_out_for_another_network_than_theirs():
    """They would be `network.hidden` of something that has no such key."""
    words = ["algo=ppo", "env=cartpole"]
    with compose.session() as loader:
        assert tuned.fitting([*words, "network=mlp"], loader) == [*words, "network=mlp"]
        assert tuned.fitting([*words, "buffer=uniform"], loader) == [*words, "buffer=uniform", "~tuned"]
        assert tuned.fitting([*words, "buffer=uniform", "tuned=ppo-cartpole"], loader)[-1] == "tuned=ppo-cartpole"
        assert tuned.fitting(words, loader) == words


def test_no_rate_is_infinite():
    with pytest.raises(ConfigError, match=r"algo\.learning_rate: must be a finite number, got inf"):
        validate(data("algo.learning_rate=inf"))


def test_the_keys_of_a_run_are_known_in_a_process_that_has_composed_nothing():
    """As `rlrun resume RUN key=value` needs them."""
    code = "from rlrun.config import values; print('algo.tau' in values.keys({'algo': {'name': 'dqn'}}))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "True\n"


def test_tuned_values_that_a_smoke_run_overrides_are_not_said_to_be_left_out():
    found = composed("algo=linear_posterior", "env=bandit/wine", "+smoke=on")
    assert found.tuned([]) == "tuned: tuned/linear_posterior-bandit/wine.yaml, all of whose values are overridden"


def test_what_pairs_with_an_environment_share_stands_once():
    found = composed("algo=ucb", "env=bandit/bernoulli")
    assert (found.data["total_timesteps"], found.data["algo"]["confidence"]) == (10_000, 1.0)
    assert found.provenance["total_timesteps"] == "tuned/bandit/bernoulli.yaml"
    assert found.provenance["algo.confidence"] == "tuned/ucb-bandit/bernoulli.yaml"
    assert found.tuned([]).startswith("tuned: tuned/ucb-bandit/bernoulli.yaml (6 values; ")
    assert composed("algo=random", "env=bandit/bernoulli").data["total_timesteps"] == 50_000  # no pair
