"""A run's policy in Python acts as the run's evaluation does, and opens no environment for that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import DATA

import rlrun
from rlrun import cli
from rlrun.errors import CheckpointError, ConfigError, RlrunError
from rlrun.run.policy import Policy
from rlrun.seeding import Role, SeedTree

RUNS = {
    "stacked": "algo=ppo env=pendulum env.normalize.obs=true env.frame_stack=3 env.rescale_action=[-1,1]",
    "recurrent": "algo=ppo env=cartpole network=lstm network.hidden=[8]",
    "parts": "algo=ppo env.id=rlrun/Parts-v0",
    "masked": "algo=ppo env.id=rlrun/Masked-v0",
    "dqn": "algo=dqn env=acrobot network.hidden=[8] eval.max_steps=500",
    "cards": "algo=q_learning env=blackjack",
    "planned": "algo=value_iteration env=frozenlake",
    "native": "algo=ppo env=cartpole env.vector=native env.num_envs=2",
}


Run = Callable[[str], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run that has finished, trained when it is first asked for."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            path = tmp_path_factory.mktemp("policies") / name
            words = [*RUNS[name].split(), "+smoke=on", "device=cpu", "logger.console=off", "logger.tensorboard=false"]
            made[name] = rlrun.train([*words, "eval.freq=200", f"hydra.run.dir={path}"]).path
        return made[name]

    return get


@pytest.fixture
def no_more_environments(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and no environment can be opened any more."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an environment is opened")

    def close() -> None:
        monkeypatch.setattr(gym, "make", refuse)
        monkeypatch.setattr(gym, "make_vec", refuse)

    return close


def returns(path: Path) -> list[float]:
    """Of three episodes, as `rlrun eval` plays them."""
    assert cli.main(["eval", str(path), "episodes=3", "num_envs=1"]) == 0
    (report,) = (path / "evaluations").iterdir()
    found: list[float] = json.loads(report.read_text())["returns"]
    return found


def played(policy: Policy, env: gym.Env, seed: int, masked: bool) -> float:
    """The return of an episode, as a user plays it."""
    obs, info = env.reset(seed=seed)
    policy.reset()
    total, ended = 0.0, False
    while not ended:
        obs, reward, over, cut, info = env.step(policy(obs, action_masks=info["action_mask"] if masked else None))
        total, ended = total + float(reward), over or cut
    return total


@pytest.mark.parametrize("name", [name for name in RUNS if name != "planned"])
def test_it_plays_as_an_evaluation_does(name: str, run: Run, no_more_environments: Callable[[], None]) -> None:
    path = run(name)
    expected = returns(path)
    seeds = SeedTree(0).integers(Role.TEST, 3)
    env = gym.make(json.loads((path / "meta.json").read_text())["environment"]["id"])
    no_more_environments()
    policy = rlrun.load(path, "last")
    assert [played(policy, env, seed, name == "masked") for seed in seeds] == expected


def test_one_that_plans_on_the_model_opens_its_environment(run: Run) -> None:
    policy = rlrun.load(run("planned"), "last")
    assert policy(14) in range(4) and policy(np.arange(16)).shape == (16,)


@pytest.mark.parametrize("name", ["stacked", "recurrent"])
def test_state_goes_along_and_begins_anew_with_episodes(name: str, run: Run) -> None:
    """Three environments at once, of which one begins another episode on the way, like each by itself."""
    policy = rlrun.load(run(name), "last")
    stream = np.random.default_rng(0).normal(size=(7, 3, *policy.observation_space.shape)).astype(np.float32)
    starts = np.zeros((7, 3), bool)
    starts[0], starts[4, 1] = True, True
    together, state = [], None
    for obs, begins in zip(stream, starts, strict=True):
        actions, state = policy.predict(obs, state, episode_start=begins)
        together.append(actions)
    for e in range(3):
        for t in range(7):
            if starts[t, e]:
                policy.reset()
            assert policy(stream[t, e]) == pytest.approx(together[t][e], rel=1e-4)


def test_without_a_state_every_call_is_a_beginning(run: Run) -> None:
    policy = rlrun.load(run("stacked"), "last")
    first, second = np.zeros(3, np.float32), np.ones(3, np.float32)
    _, state = policy.predict(first)
    later, _ = policy.predict(second, state)
    assert policy.predict(second, state, episode_start=[True])[0] == policy.predict(second)[0] != later
    assert policy.predict(first)[1] is not None and rlrun.load(run("dqn")).predict(np.zeros(6))[1] is None


def test_it_explores_if_it_is_told_to(run: Run) -> None:
    policy, again = (rlrun.load(run("stacked"), "last") for _ in range(2))
    obs = np.zeros((4, 3), np.float32)
    greedy, drawn = policy.predict(obs)[0], policy.predict(obs, deterministic=False)[0]
    assert len({*greedy.ravel()}) == 1 and len({*drawn.ravel()}) == 4
    assert np.array_equal(again.predict(obs, deterministic=False)[0], drawn), "on a stream of its own, always the same"
    assert greedy.shape == (4, 1) and greedy.dtype == np.float32 and (abs(drawn) <= 2).all(), (
        "as the environment has it"
    )


def test_masks(run: Run) -> None:
    policy = rlrun.load(run("masked"), "last")
    for action in range(12):
        only = np.arange(12) == action
        assert policy(0, action_masks=only) == policy.predict([0, 0], action_masks=[only, only])[0][1] == action
    with pytest.raises(ValueError, match="leaves nothing to do"):
        policy(0, action_masks=np.zeros(12))
    with pytest.raises(ValueError, match="told of none"):  # rather than done what is forbidden
        rlrun.load(run("dqn"))(np.zeros(6), action_masks=[True, False, False])


def test_parts(run: Run) -> None:
    policy = rlrun.load(run("parts"), "last")
    one = {"choice": 2, "point": np.array([0.5, -0.5], np.float32)}
    action = policy(one)
    assert policy.action_space.contains({"choice": np.int64(action["choice"]), "point": action["point"]})
    two = {"choice": np.array([2, 0]), "point": np.array([[0.5, -0.5], [0, 0]])}
    assert policy(two)[0]["choice"] == action["choice"] and len(policy(two)) == 2


@pytest.mark.parametrize(
    ("name", "obs", "says"),
    [
        ("dqn", np.zeros(5), r"shape \(5,\); one is \(6,\), several are \(N, 6\)"),
        ("dqn", np.full(6, np.nan), "not finite"),
        ("dqn", np.zeros((0, 6)), "no observations"),
        ("cards", (40, 1, 0), "the observation is 40"),
        ("cards", 3, "not of the space Tuple"),
        ("cards", (np.zeros(2), np.zeros(3), np.zeros(2)), "not of as many environments each"),
        ("parts", {"choice": 1}, "not of the space Dict"),
    ],
)
def test_what_is_no_observation_is_said(name: str, obs: Any, says: str, run: Run) -> None:
    policy = rlrun.load(run(name), "last")
    with pytest.raises(ValueError, match=says):
        policy(obs)


def test_a_state_of_others_is_said(run: Run) -> None:
    policy = rlrun.load(run("recurrent"), "last")
    _, state = policy.predict(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="the state is of 2 environments, the observations are of 3"):
        policy.predict(np.zeros((3, 4)), state)
    with pytest.raises(ValueError, match="the state is a tuple, not what"):
        policy.predict(np.zeros((2, 4)), tuple(state))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="episode_start is of 3 environments, the observations are of 2"):
        policy.predict(np.zeros((2, 4)), state, episode_start=[True] * 3)


def test_which_checkpoint(run: Run, tmp_path: Path) -> None:
    path = run("dqn")
    last, best = rlrun.load(path, "last"), rlrun.load(path)
    assert rlrun.load(path, last.env_steps).checkpoint.name == last.checkpoint.name
    assert best.env_steps <= last.env_steps
    for which, error in {"newest": ConfigError, 7: CheckpointError}.items():
        with pytest.raises(error):
            rlrun.load(path, which)
    with pytest.raises(RlrunError, match="there is no such run directory"):
        rlrun.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["dqn-cartpole", "ppo-pendulum", "q_learning-frozenlake", "linear_posterior-gaussian"])
def test_a_run_of_the_version_before_opens_an_environment_once(name: str) -> None:
    policy = rlrun.load(DATA / "runs" / name)
    obs = policy.observation_space.sample()
    assert policy.action_space.contains(policy(obs))


@pytest.mark.parametrize("damaged", [{"environment": {"id": 3}}, {"environment": "x"}, {}])
def test_a_record_that_is_none_is_done_without(damaged: dict[str, Any], run: Run, tmp_path: Path) -> None:
    shutil.copytree(run("dqn"), tmp_path / "run", symlinks=True)
    meta = json.loads((tmp_path / "run" / "meta.json").read_text())
    del meta["environment"]
    (tmp_path / "run" / "meta.json").write_text(json.dumps(meta | damaged))
    assert rlrun.load(tmp_path / "run")(np.zeros(6)) in range(3)
