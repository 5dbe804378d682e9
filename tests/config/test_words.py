"""What words mean: the same for training, sweeps, verbs and YAML files."""

from __future__ import annotations

import copy
import inspect
import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import get_type_hints

import pytest
import yaml
from omegaconf import OmegaConf

from rlrun import cli, registry
from rlrun.commands.evaluate import EvalOptions
from rlrun.config import compose, plugins, values
from rlrun.config.cautions import cautions
from rlrun.config.schema import KINDS
from rlrun.config.validate import component, parsed, validate
from rlrun.config.values import flat, from_words
from rlrun.config.words import assigned, parse, readable
from rlrun.errors import ConfigError
from rlrun.run.build import setting


@pytest.fixture(autouse=True, scope="module")
def ready():
    compose.set_up([])


def value(word: str) -> object:
    return assigned([word])[word.partition("=")[0]]


# --- the grammar -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "x=y",
        "ünï/ß",
        "~/runs",
        "a b",
        "a;b",
        "#1",
        "it's",
        'say "so"',
        "a\\b",
        "[half",
        "{half",
        "f(x",
        "日本",
        "-",
        "a!b^c&d",
    ],
)
def test_what_hydra_cannot_read_is_the_text_that_was_typed(text):
    assert value(f"hydra.run.dir={text}") == text
    assert parse(readable(f"env.path={text}")).value() == text


@pytest.mark.parametrize(
    "text", ["1e4", "007", "1_000", "3", "null", "true", "a,b", "[a]", "{a:1}", "range(3)", "outputs/1e4"]
)
def test_a_directory_is_never_anything_else(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(compose.compose([f"hydra.run.dir={text}"]).dir) == text


def test_home_is_where_a_tilde_points(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compose.compose(["hydra.run.dir=~/runs/x"]).dir == tmp_path / "runs" / "x"


def test_a_home_that_nobody_has_is_part_of_a_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(compose.compose(["hydra.run.dir=~nobody-is-called-this/x"]).dir) == "~nobody-is-called-this/x"
    for verb in ("runs", "eval"):
        assert cli.main([verb, "~nobody-is-called-this"]) == 2
        assert "~nobody-is-called-this" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("total_timesteps=1e5", 100_000),
        ("total_timesteps=2.5e3", 2500),
        ("total_timesteps=1_000", 1000),
        ("total_timesteps='1e5'", 100_000),
        ("total_timesteps=${oc.decode:'3e2'}", 300),
        ("total_timesteps = 300", 300),
        ("algo.gamma=1", 1.0),
        ("algo.gamma=9e-1", 0.9),
        ("network.hidden=[1e2,64]", [100, 64]),
        ("algo.epsilon.start=1e0", 1.0),
        ("algo.epsilon={start:1e0}", 1.0),
        ("logger.csv=0", False),
        ("logger.csv=yes", True),
        ("+seed=3", 3),
        ("++seed=3", 3),
        ("env.kwargs.a=1e2", 100.0),
    ],
)
def test_a_value_is_read_by_the_type_of_its_key(word, expected):
    data = compose.compose([word]).data
    key = re.split(r" ?=", word.lstrip("+"))[0]
    found = flat(data)["algo.epsilon.start" if key == "algo.epsilon" else key]
    assert found == expected and (type(found) is type(expected) or key == "logger.csv")
    if "kwargs" not in key:
        validate(data)


@pytest.mark.parametrize(
    ("text", "expected"), [("1e2", 100), ("100.0", 100), ("1_00", 100), ("'1e2'", 100), ("100", 100)]
)
def test_yaml_files_verbs_and_training_read_alike(text, expected, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\ntotal_timesteps: {text}\n")
    compose.set_up([], [str(tmp_path)])
    in_file = compose.compose(["experiment=mine"]).data["total_timesteps"]
    compose.set_up([])
    saved = compose.compose([]).data | {"total_timesteps": yaml.safe_load(text) if text != "1e2" else 1e2}
    assert in_file == compose.compose([f"total_timesteps={text}"]).data["total_timesteps"] == expected
    assert validate(saved).total_timesteps == expected
    assert values.in_types(values.merged(saved, [f"total_timesteps={text}"]))["total_timesteps"] == expected
    assert from_words(EvalOptions, [f"episodes={text}"]).episodes == expected


@pytest.mark.parametrize("plus", ["", "+", "++", "+++"])
def test_arguments_of_an_environment_are_set_with_and_without_a_plus(plus):
    toy = ["env=toy"]
    assert compose.compose([*toy, f"{plus}env.kwargs.a=1"]).data["env"]["kwargs"] == {"variant": "book", "a": 1}
    assert compose.compose([*toy, f"{plus}env.kwargs.variant=x"]).data["env"]["kwargs"] == {"variant": "x"}
    assert compose.compose([*toy, f"{plus}env.kwargs.a.b=[1]"]).data["env"]["kwargs"]["a"] == {"b": [1]}
    assert compose.compose([*toy, f"{plus}env.kwargs={{a:1}}"]).data["env"]["kwargs"]["a"] == 1


def test_arguments_of_an_environment_can_be_taken_away():
    assert compose.compose(["env=toy", "~env.kwargs.variant"]).data["env"]["kwargs"] == {}


def test_a_smoke_run_needs_no_plus_and_can_be_called_off():
    assert compose.compose(["smoke=on"]).data["total_timesteps"] == 500
    assert compose.compose(["smoke=null"]).data["total_timesteps"] != 500


@pytest.mark.parametrize("choice", ["algo=ppo", "+algo=ppo", "++algo=ppo"])
def test_a_choice_needs_no_plus_and_none_hurts(choice):
    assert compose.compose([choice]).data["algo"]["name"] == "ppo"


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["experience=3"], "experience"),
        (["network=-1"], "network"),
        (["buffer=int(3)"], "buffer"),
        (["algo=[dqn,ppo]"], "algo"),
        (["algo="], "algo"),
        (["algo={a:1}"], "algo"),
        (["env=1.5"], "env"),
        (["experiment=3"], "experiment"),
        (["tuned=3"], "tuned"),
        (["smoke=true"], "smoke"),
        (["=3"], "=3"),
        (["hydra=1"], "hydra"),
        (["schema=1"], "schema"),
        (["schema/algo=dqn"], "schema/algo"),
        (["algo@env=dqn"], "algo@env"),
        (["imports=3"], "imports"),
        (["imports=["], "imports"),
        (["imports=[3]"], "imports"),
        (["imports={a:1}"], "imports"),
        (["imports=''"], "imports"),
        (["stop=3"], "stop"),
        (["stop=[1]"], "stop"),
        (["algo.epsilon=x"], "algo.epsilon"),
        (["a[0]=3"], "a[0]"),
        (["network.hidden=[64,64"], "network.hidden"),
        (["seed=" + "9" * 5000], "seed"),
        (["seed=${oc.env:HOME}"], "seed"),
        (["seed=${nothing}"], "seed"),
        (["seed=${oc.env:NO_SUCH_VARIABLE}"], "seed"),
        (["seed=${"], "seed"),
        (["logger.csv=9223372036854775808"], "logger.csv"),
        (["logger.csv=2"], "logger.csv"),
        (["algo.gamma=true"], "algo.gamma"),
        (["~nothing"], "nothing"),
        (["~algo.gamma"], "algo.gamma"),
        (["~env.kwargs.a"], "env.kwargs.a"),
        (["+network.hidden.x=1"], "network.hidden.x"),
        (["~network=[1,2]"], "network"),
    ],
)
def test_words_of_the_wrong_kind_are_refused_by_their_key(words, key):
    with pytest.raises(ConfigError) as refused:
        compose.set_up(words)
        setting(validate(compose.compose(words).data))
    assert refused.value.key == key
    assert len(str(refused.value)) < 1000 and len(str(refused.value).splitlines()) <= 5


# --- nonsense in every field -----------------------------------------------------------------------------------------

NONSENSE = ["???", 2**63, -(2**63), math.inf, math.nan, 1e300, {"a": 1}]


def every_field() -> list[tuple[str, str, tuple[str, ...]]]:
    """Kind, component and path of every field, once per class that declares it."""
    plugins.load_installed()
    found = {}
    for kind in KINDS:
        for name in registry.names(kind):
            schema = registry.get(kind, name).config
            for path in paths(schema):
                owner = next(cls for cls in schema.__mro__ if path[0] in inspect.get_annotations(cls))
                found.setdefault((owner, path), (kind, name, path))
    return list(found.values())


def paths(schema: type) -> Iterator[tuple[str, ...]]:
    for name, hint in get_type_hints(schema).items():
        if name != "name":
            yield (name,)
        if is_dataclass(hint):
            yield from ((name, *inner) for inner in paths(hint))


def test_nonsense_is_taken_by_no_field_or_refused_by_its_key():
    """Free text and free arguments aside, a value beyond all bounds is never taken."""
    free = {"id", "path", "action", "label", "kwargs", "accelerator"}
    for kind, name, path in every_field():
        plain = OmegaConf.to_container(OmegaConf.structured(registry.get(kind, name).config))
        for nonsense in NONSENSE:
            node = data = copy.deepcopy(plain) | ({"id": "X-v0"} if kind == "env" else {})
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = nonsense
            try:
                component(kind, data)
            except ConfigError as error:
                assert error.key.startswith(f"{kind}.{path[0]}"), f"{kind}={name} {path}={nonsense}: {error}"
                assert len(str(error).splitlines()) <= 3
            else:
                taken = f"{kind}={name} {path}={nonsense!r}"
                assert path[-1] in free, taken


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["seed=1" + "0" * 30], "seed"),
        (["seed=9223372036854775808"], "seed"),
        (["total_timesteps=1e300"], "total_timesteps"),
        (["stop.window=9223372036854775808"], "stop.window"),
        (["stop.mean_return=nan"], "stop.mean_return"),
        (["logger.window=9223372036854775808"], "logger.window"),
        (["env.num_envs=1000000000"], "env.num_envs"),
        (["eval.episodes=1000000000"], "eval.episodes"),
        (["checkpoint.keep_last=18446744073709551616"], "checkpoint.keep_last"),
        (["network.hidden=[1000000000]"], "network.hidden"),
        (["network.hidden=[[64]]"], "network.hidden"),
        (["env.rescale_action=[[0],[1]]"], "env.rescale_action"),
        (["logger.info_keys=[{a: b}]"], "logger.info_keys"),
        (["algo=ucb", "env=bandit/gaussian", "env.drift=inf"], "env.drift"),
        (["algo=neural_greedy", "env=bandit/wine", "algo.lr_decay=1e300"], "algo.lr_decay"),
        (["env.kwargs.a=???"], "env.kwargs.a"),
        (["algo.gamma=???"], "algo.gamma"),
    ],
)
def test_numbers_have_bounds(words, key):
    with pytest.raises(ConfigError) as refused:
        setting(validate(compose.compose(words).data))
    assert refused.value.key == key


def test_a_large_seed_is_a_seed():
    assert validate(compose.compose(["seed=9223372036854775807"]).data).seed == 2**63 - 1


def test_a_long_value_is_quoted_in_part():
    for word in ("algo.gamma=" + "x" * 5000, "x" * 5000 + "=1", "network.hidden=[" + "1," * 200 + "x]", "x" * 5000):
        with pytest.raises(ConfigError) as refused:
            compose.compose([word])
            validate(compose.compose([word]).data)
        assert len(str(refused.value)) < 1000 and " … " in str(refused.value)


# --- hints -----------------------------------------------------------------------------------------------------------

MISTAKES = """
    --lr 3e-4|--learning-rate=1e-3|--algo ppo|--total-timesteps 100|--n-envs 2|--gamma 0.9|--epsilon 0.1|--hidden [32]
    --buffer-size 1000|--multirn|--config-name x|--list|-v|--verbose|-n 3|--env-id Acrobot-v1|--cuda|--lam 0.9
    algo.lr=1e-3|n_envs=2|learnin_rate=1e-3|algo.gama=0.5|epsilon=0.1|algo.eps_start=1.0|net_arch=[32]|n_eval_episodes=3
    episodes=3|window=5|alg=ppo|polyak=0.5|algo.clip_coef=0.1|steps=100|console=off|cuda=cpu|algo=PPO|algo=ddqn|algo=dqnn
    env=CartPole|env=HalfCheetah-v9|device=gpu|buffer=replay|network=mpl|smoke=true|seed = 3|algo.gamma= 0.9|cartpole|on
    eval.episods=3|stop.mean=3|env.kwarg.a=1|experiment=nature_dqn|evl.freq=5|algo.optimizer.name=adam|network.sizes=3
    algo.learning_rate.start=1e-3|algo.nam=dqn
"""


@pytest.mark.parametrize("mistake", [word for line in MISTAKES.split("\n") for word in line.strip().split("|") if word])
def test_a_hint_can_be_followed(mistake, capsys, tmp_path, monkeypatch):
    """What it says exists: a flag, a verb, or a key, which some value may not fit."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(mistake)) == 2
    for word in hinted(capsys.readouterr().err):
        if word.startswith("--") or word == "list":
            assert word in (*cli.FLAGS, "list")
            continue
        needs = ["algo=ppo"] if word.startswith(("algo.clip_range", "algo.n_steps", "algo.gae_lambda")) else []
        try:
            parsed(compose.compose([*needs, word]).data)
        except ConfigError as error:
            assert "no such key" not in error.problem and "is set by" not in error.problem
            assert " named " not in error.problem or word == "algo=1"


def hinted(said: str) -> list[str]:
    """The words that a message asks for; a key without a value gets one."""
    key = said.removeprefix("rlrun: ").partition(":")[0]
    if option := re.search(r"did you mean '([^']+)'\?", said):
        return [f"{key}={option[1]}"]
    for pattern in (r"did you mean (\S+?)\?", r"write (?:rlrun )?(.+)", r"rlrun calls it ([\w.]+)"):
        if found := re.search(pattern, said):
            words = shlex.split(found[1])
            return [word if "=" in word or word.startswith("--") or word == "list" else f"{word}=1" for word in words]
    return []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("eval RUN --episodes 10", "did you mean episodes=10?"),
        ("eval RUN n_eval_episodes=10", "rlrun calls it episodes"),
        ("eval RUN eval.episodes=10", "did you mean episodes?"),
        ("eval RUN gamma=0.5", "the options are ckpt, episodes"),
        ("eval RUN env.id=CartPole-v1", "the options are ckpt, episodes"),
        ("eval RUN --check", "--check: has no say in eval"),
        ("-m eval RUN", "--multirun: has no say in eval"),
        ("--cfg job eval RUN", "--cfg: has no say in eval"),
        ("resume RUN evl.freq=3", "did you mean eval.freq?"),
        ("eval RUN --gamma 0.5", "rlrun eval --help"),
        ("play RUN --record", "did you mean record=VALUE?"),
        ("resume RUN --total-timesteps 1e6", "did you mean total_timesteps=1e6?"),
        ("resume RUN --n-eval-episodes=3", "did you mean eval.episodes=3?"),
        ("resume RUN --lr 1", "rlrun resume --help"),
        ("list --algo", "rlrun list --help"),
        ("list dqn", "write rlrun list algo dqn"),
        ("list algo=dqn", "write rlrun list algo dqn"),
        ("eval episodes=3", "needs the directory of a run"),
        ("seed = 3", "write seed=3"),
        ("algo=ppo algo.learning_rate = 1e-3", "write algo.learning_rate=1e-3"),
        ("cartpole", "did you mean env=cartpole?"),
        ("--config-name x", "rlrun --help lists all options"),
        ("-v", "rlrun --help lists all options"),
        ("--list", "write rlrun list"),
        ("--cfg nosuch", "choose one of: all, hydra, job"),
        ("--cfg job seed=x", "seed: 'x' is not a whole number"),
        ("--cfg job -p algo.nothing", "there is no algo.nothing"),
        ("--resolve", "add --cfg job"),
        ("--package algo", "add --cfg job"),
        ("hydra.mode=FOO", "'FOO' is not RUN or MULTIRUN or null"),
        ("algo.optimizer.name=adam", "write algo.optimizer=VALUE"),
        ("algo=q_learning env=frozenlake network.hidden=[3]", "have it)"),
    ],
)
def test_a_command_hints_at_its_own_options(words, says, run, capsys):
    assert cli.main([str(run) if word == "RUN" else word for word in words.split()]) == 2
    assert says in capsys.readouterr().err


def test_what_is_shown_of_a_sweep_is_its_first_job(capsys):
    assert cli.main(["-m", "algo=ppo,dqn", "env=pendulum", "seed=range(4,6)", "--cfg", "job", "-p", "seed"]) == 0
    assert capsys.readouterr().out == "4\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run in a directory with a name that needs care."""
    made = tmp_path_factory.mktemp("runs") / "2_algo=random,ü é" / "a=b"
    words = ["algo=random", "env=toy", "smoke=on", "logger.tensorboard=false", f"hydra.run.dir={made}"]
    assert cli.main(words) == 0
    return made


def test_a_run_may_be_called_anything_and_verbs_read_numbers_as_training_does(run, capsys, monkeypatch):
    assert cli.main(["eval", f"{run}/", "episodes=1e1", "json=true"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 10
    monkeypatch.chdir(run.parent.parent)
    assert cli.main(["eval", str(run.relative_to(run.parent.parent)), "+episodes=2"]) == 0
    assert cli.main(["resume", str(run), "total_timesteps=6e2", "eval.freq=${total_timesteps}"]) == 0
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["total_timesteps"] == 600


@pytest.mark.parametrize(
    "word", ["ckpt=²", "episodes=${oc.env:HOME}", "episodes=${nothing}", "episodes=1,2", "~episodes", "episodes=1.5"]
)
def test_odd_words_behind_a_verb_are_refused_in_a_line(word, run, capsys):
    assert cli.main(["eval", str(run), word]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rlrun: {word.strip('~').partition('=')[0]}: ") and len(said.splitlines()) <= 2


# --- checking only ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("algo=dqn", 0, "all is well: dqn on CartPole-v1, 50,000 env steps, seed 0"),
        ("algo=rainbow", 0, "all is well: rainbow (c51) on CartPole-v1"),
        ("algo=q_learning", 2, "these fit"),
        (
            "algo=noisy_dqn env=pendulum",
            2,
            "algo: noisy_dqn is dqn with options of its own, and dqn handles discrete act",
        ),
        ("algo.gamma=2", 2, "must be in [0, 1]"),
        ("algo=ddpg env=pendulum algo.noise.kind=none", 0, "all is well: ddpg on Pendulum-v1"),
        ("algo=crossq env=pendulum network.batch_norm=none", 2, "\nnetwork.renorm_after is set by algo/crossq.yaml"),
        ("env.kwargs.nonsense=1", 2, "env.kwargs"),
        ("hydra.run.dir=taken", 2, "taken is not empty"),
        ("hydra.run.dir=taken/file/x", 2, "cannot be made"),
        ("-m seed=1,2 algo=glob(*sarsa) env=frozenlake", 0, "all is well: 4 jobs"),
        ("-m seed=1,2 algo=random,q_learning", 2, "1_q_learning_s1, 3_q_learning_s2: algo: q_learning handles"),
        ("-m algo=ucb env=bandit/bernoulli,bandit/gaussian env.bandits=3", 0, "all is well: 2 jobs"),
    ],
)
def test_a_check_finds_what_training_would_and_makes_nothing(words, code, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert cli.main([*words.split(), "--check"]) == code
    captured = capsys.readouterr()
    assert says in (captured.err if code else captured.out)
    assert len(captured.out.splitlines()) == (code == 0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "taken"]


# --- what will not do what it says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "algo=dqn algo.learning_starts=50000",
            "algo.learning_starts: 50,000 is not before the end at 50,000 env steps",
        ),
        (
            "algo=ppo algo.n_steps=8 env.num_envs=2 algo.batch_size=32",
            "algo.batch_size: 32 is more than a rollout's 16",
        ),
        ("algo=sac env=pendulum algo.random_steps=1e6", "algo.random_steps: 1,000,000 is not before the end at 20,000"),
        (
            "algo=sac env=frozenlake network.normalize_obs=true",
            "network.normalize_obs: the observations of FrozenLake-v1",
        ),
        ("algo=sac env=frozenlake network=simba", ""),
        ("algo=sac env=pendulum algo.alpha=0.2 algo.target_entropy=-3", "algo.target_entropy: is for alpha=auto, and"),
        ("algo=xqc env=pendulum", ""),
        ("algo=sac env=pendulum network.scale=false", "network.scale: the observations of Pendulum-v1 are no uint8"),
        ("algo=sac env=pendulum network.features=8", "network.features: the observations of Pendulum-v1 are no Dict"),
        ("algo=sac env=reach network.features=8 network.normalize_obs=true", ""),
        ("env.rescale_action=[-1,1]", "env.rescale_action: CartPole-v1 has discrete actions"),
        ("algo=ppo env=pendulum env.rescale_action=[-1,1]", ""),
        ("algo=a2c algo.squash=true", "algo.squash: CartPole-v1 has discrete actions"),
        ("algo=a2c env=pendulum algo.squash=true algo.log_std=state", ""),
        ("algo=dqn network.noisy=factorised", "algo.epsilon: random actions are taken beside the noise"),
        (
            "algo=impala network.noisy=factorised algo.ent_coef=0.01",
            "algo.ent_coef: a bonus for entropy beside the noise",
        ),
        ("algo=impala network.noisy=factorised algo.ent_coef=0", ""),
        ("algo=noisy_dqn env=cartpole", ""),
        ("algo=neural_greedy env=bandit/wine algo.epsilon.start=0", ""),
        ("algo=noisy_dqn env=cartpole network.noisy=none", "algo.epsilon: is 0 all along, and the weights have no"),
        ("algo=dqn env=bandit/wine algo.epsilon.start=0 algo.epsilon.end=0", "algo.epsilon: is 0 all along"),
        ("algo=dqn", ""),
        ("algo=dqn env.normalize.obs=true", "env.normalize.obs: the replay keeps them as they were normalised when"),
        ("algo=dqn env.normalize.reward=true", "env.normalize.reward: the replay keeps them as they were normalised"),
        ("algo=ppo env.normalize.obs=true env.normalize.reward=true", ""),
    ],
)
def test_an_option_that_will_do_nothing_is_named(words, says):
    where = setting(validate(compose.compose(words.split()).data))
    assert "\n".join(cautions(where.cfg, where.spec)).startswith(says)
    assert bool(says) == bool(list(cautions(where.cfg, where.spec)))
