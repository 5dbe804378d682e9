"""Evaluation: exactly the episodes of the seeds, with answers worked by hand, whatever the number of environments."""

from __future__ import annotations

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from cartpoles import LeanRight, cartpole_length
from streams import SeedIsLength

from rlrun import cli
from rlrun.agents.q import EpsilonAgent
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import Interrupted
from rlrun.interrupt import Interrupt
from rlrun.run import evaluation
from rlrun.run.evaluation import EvalResult, evaluate
from rlrun.types import Array, Step


class Copies(SeedIsLength):
    """Hands out copies instead of its own array."""

    def step(self, action: Array) -> Step:
        step = super().step(action)
        return step._replace(obs=step.obs.copy())


class SeedTimesTen:
    """Always acts 10 x seed + steps to the end; notes how it is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[bool, int]] = []

    def initial_memory(self, num_envs: int) -> None:
        return None

    def act(self, obs: Array, memory: None, *, explore: bool, env_steps: int) -> tuple[Array, None, dict[str, Array]]:
        self.calls.append((explore, env_steps))
        return (10 * obs[:, 0] + obs[:, 1]).astype(np.int64), memory, {}

    def fork(self, rng: np.random.Generator) -> SeedTimesTen:
        return self


SEEDS = [3, 1, 4, 1, 5, 9, 2]
RETURNS = [10.0 * s * s + s * (s + 1) / 2 for s in SEEDS]  # s steps of 10 s, and s + (s - 1) + … + 1


@pytest.mark.parametrize("make_envs", [SeedIsLength, Copies])
@pytest.mark.parametrize("num_envs", [1, 2, 3, 5, 7, 10])
def test_one_episode_from_every_seed(num_envs: int, make_envs: type[SeedIsLength]) -> None:
    """10 environments are more than episodes; with 2 or more, short episodes end long before the one of 9 steps."""
    envs = make_envs(num_envs)
    result = evaluate(SeedTimesTen(), envs, SEEDS)
    assert result.returns.tolist() == RETURNS
    assert result.lengths.tolist() == SEEDS
    idle = [SEEDS[0]] * max(0, num_envs - len(SEEDS))
    assert sorted(envs.resets) == sorted(SEEDS + idle)


@pytest.mark.parametrize("num_envs", [1, 2, 3, 10])
def test_long_episodes_are_cut(num_envs: int) -> None:
    result = evaluate(SeedTimesTen(), SeedIsLength(num_envs), SEEDS, max_steps=3)
    assert result.lengths.tolist() == [3, 1, 3, 1, 3, 3, 2]
    assert result.returns.tolist() == [96.0, 11.0, 40.0 * 3 + 4 + 3 + 2, 11.0, 162.0, 90.0 * 3 + 9 + 8 + 7, 43.0]


def test_cut_episodes_are_counted_and_said() -> None:
    result = evaluate(SeedTimesTen(), SeedIsLength(2), [3, 1, 4, 9], max_steps=3)
    assert (result.cut, result.to_dict()["cut"], result.max_steps) == (2, 2, 3)
    assert str(result).endswith(" over 4 episodes; 2 of 4 episodes were cut at 3 steps")
    assert evaluate(SeedTimesTen(), SeedIsLength(3), [3, 1, 2], max_steps=3).cut == 0, "an end of its own is no cut"


@pytest.mark.parametrize(("limit", "given", "cut_at"), [(None, None, 50), (None, 7, 7), (100, None, None), (100, 7, 7)])
def test_an_episode_that_nothing_limits_is_cut(
    limit: int | None, given: int | None, cut_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "UNLIMITED", 50)
    envs = SeedIsLength(2)
    envs.spec = replace(envs.spec, max_episode_steps=limit)
    result = evaluate(SeedTimesTen(), envs, [60, 5], max_steps=given)
    assert result.lengths.tolist() == [min(60, cut_at or 60), 5]
    assert result.cut == (1 if cut_at else 0)


def test_a_long_evaluation_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 5))  # five seconds a step
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: next(clock))
    said: list[str] = []
    evaluate(SeedTimesTen(), SeedIsLength(1), [1, 9], say=said.append)
    assert said == [
        "evaluating: 1 of 2 episodes after 10 s, at step 2",
        "evaluating: 1 of 2 episodes after 20 s, at step 4",
        "evaluating: 1 of 2 episodes after 40 s, at step 8",
    ]


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 0.0), (0.25, 0.25 * 4 / 5), (1.0, 4 / 5)])
def test_epsilon_is_the_probability_of_a_random_action(epsilon: float, share: float) -> None:
    """A random action is one of five, so it is the greedy one every fifth time."""
    greedy = Stubborn(3)
    agent = EpsilonAgent(greedy, epsilon, 5, np.random.default_rng(0))
    action, _, _ = agent.act(np.zeros((20_000, 1)), None, explore=False, env_steps=0)
    assert set(action.tolist()) <= set(range(5))
    assert (action != 3).mean() == pytest.approx(share, abs=0.01)


class Stubborn(SeedTimesTen):
    """Always the same action."""

    def __init__(self, action: int):
        super().__init__()
        self.action = action

    def act(self, obs: Array, memory: None, *, explore: bool, env_steps: int) -> tuple[Array, None, dict[str, Array]]:
        return np.full(len(obs), self.action), memory, {}


def test_the_agent_is_told_how_to_act() -> None:
    agent = SeedTimesTen()
    evaluate(agent, SeedIsLength(1), [2])
    evaluate(agent, SeedIsLength(1), [1], explore=True, env_steps=500)
    assert agent.calls == [(False, 0), (False, 0), (True, 500)]


def test_before_every_step() -> None:
    seen: list[float] = []
    envs = SeedIsLength(1)
    evaluate(SeedTimesTen(), envs, [2, 3], before_step=lambda: seen.append(envs.obs[0, 1].item()))
    assert seen == [2, 1, 3, 2, 1]


def test_a_signal_is_answered_at_the_next_step() -> None:
    agent, interrupt = SeedTimesTen(), Interrupt()

    def signal_in_the_third_step() -> None:
        if len(agent.calls) == 2:
            interrupt.signum = signal.SIGTERM

    with pytest.raises(Interrupted, match="SIGTERM"):
        evaluate(agent, SeedIsLength(1), [9], interrupt=interrupt, before_step=signal_in_the_third_step)
    assert len(agent.calls) == 3


def test_statistics_by_hand() -> None:
    result = EvalResult(np.array([1.0, 2.0, 3.0, 6.0]), np.array([10, 20, 30, 41]))
    assert result.to_dict() == {
        "mean": 3.0,
        "std": np.sqrt((4 + 1 + 0 + 9) / 4),
        "min": 1.0,
        "max": 6.0,
        "mean_length": 25.25,
        "episodes": 4,
        "cut": 0,
    }
    assert str(result) == "mean 3.000 ± 1.871 over 4 episodes"


def test_cartpole_as_in_a_plain_loop() -> None:
    seeds = [11, 12, 13, 14, 15]
    envs = InProcess([gym.make("CartPole-v1") for _ in range(2)])
    result = evaluate(LeanRight(), envs, seeds)
    assert result.lengths.tolist() == result.returns.tolist() == [cartpole_length(seed) for seed in seeds]


# Through the command: an environment that never ends


ENDLESS = """
import gymnasium as gym
import numpy as np

class Endless(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), float(action), False, False, {}

gym.register("Endless-v0", Endless)
"""


def test_an_environment_without_a_time_limit_is_evaluated_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("endless_env.py").write_text(ENDLESS)
    own = ["imports=[endless_env]", "env.id=Endless-v0", "hydra.run.dir=run"]
    assert cli.main(["algo=dqn", *own, "+smoke=on", "eval.episodes=3", "eval.freq=250"]) == 0
    said = capsys.readouterr()
    assert "Endless-v0 has no time limit: evaluation cuts episodes at 200 steps (eval.max_steps)" in said.out
    assert "3 of 3 episodes were cut at 200 steps" in said.err
    table = list(csv.DictReader(Path("run/eval.csv").read_text().splitlines()))
    assert [row["cut"] for row in table] == ["3"] * len(table)
    assert json.loads(Path("run/summary.json").read_text())["final_eval"]["cut"] == 3

    assert cli.main(["eval", "run", "episodes=2", "max_steps=50", "json=true"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["cut"], report["mean_length"]) == (2, 50.0)
    assert cli.main(["eval", "run", "episodes=2", "max_steps=50", "epsilon=0.5"]) == 0
    assert "2 of 2 episodes were cut at 50 steps" in capsys.readouterr().out
    (greedy,) = map(Path.read_text, Path("run/evaluations").glob("*_2_cut50.json"))
    (noisy,) = map(Path.read_text, Path("run/evaluations").glob("*_2_epsilon0.5_cut50.json"))
    greedy, noisy = json.loads(greedy), json.loads(noisy)
    assert (noisy["epsilon"], "epsilon" in greedy) == (0.5, False)
    assert greedy["returns"] != noisy["returns"]


def test_epsilon_in_the_evaluations_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    training = ["algo=q_learning", "env=frozenlake", "+smoke=on", "eval.episodes=5", f"hydra.run.dir={run}"]
    assert cli.main([*training, "eval.epsilon=0.5"]) == 0
    assert [row["epsilon"] for row in csv.DictReader((run / "eval.csv").read_text().splitlines())] == ["0.5"]
    assert cli.main([*training, "eval.epsilon=1.5"]) == 2
    assert "eval.epsilon: must be in [0, 1]" in capsys.readouterr().err
    assert cli.main([*training, "eval.epsilon=0.5", "eval.policy=stochastic"]) == 2
    assert "eval.epsilon: goes with the greedy policy" in capsys.readouterr().err
    assert cli.main(["algo=ppo", "env=pendulum", "eval.epsilon=0.5", f"hydra.run.dir={tmp_path / 'ppo'}"]) == 2
    assert "eval.epsilon: draws from discrete actions" in capsys.readouterr().err
    assert not (tmp_path / "ppo").exists()
