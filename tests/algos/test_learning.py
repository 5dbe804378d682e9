"""What the shipped presets reach, over several seeds, through the real command. Minutes each: marked slow.

The bounds are those of the published scores of the same set-ups: CartPole 500 (RL Zoo), FrozenLake .74 (exact dynamic
programming); a random policy's returns check the evaluator itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Rlrun

pytestmark = pytest.mark.slow


PER = (
    "algo=per_dqn env=cartpole tuned=dqn-cartpole network.dueling=true buffer.n_step=3 algo.learning_rate=1e-3".split()
)


def final(process: Rlrun, folder: Path, name: str, *words: str) -> float:
    """Mean return of a run's final evaluation."""
    process(*words, f"hydra.run.dir={name}", "eval.freq=0")
    return json.loads((folder / name / "summary.json").read_text())["final_eval"]["mean"]


@pytest.mark.parametrize(
    ("words", "seeds", "mean", "worst"),
    [
        (["algo=dqn", "env=cartpole", "total_timesteps=50000"], 5, 475, 300),
        (PER, 5, 475, 300),
        (["algo=rainbow", "env=cartpole", "total_timesteps=50000"], 5, 475, 300),
        (["algo=c51", "env=cartpole", "total_timesteps=100000"], 5, 450, 300),
        (["algo=qr_dqn", "env=cartpole", "total_timesteps=100000"], 5, 450, 300),
        (["algo=iqn", "env=cartpole", "total_timesteps=100000"], 5, 450, 300),
        (["algo=noisy_dqn", "env=cartpole"], 3, 450, 300),
        (["algo=nstep_dqn", "env=cartpole"], 3, 450, 300),
        (["algo=pqn", "env=cartpole"], 5, 475, 300),
        (["algo=ppo", "env=cartpole", "total_timesteps=100000"], 3, 495, 480),
        (["algo=a2c", "env=cartpole", "total_timesteps=200000"], 3, 490, 450),
        (["algo=trpo", "env=cartpole"], 3, 475, 400),
        (["algo=vpg", "env=cartpole"], 3, 475, 400),
        *((["algo=" + name, "env=cartpole"], 3, 450, 400) for name in ("a3c", "acer", "appo", "async_dqn", "impala")),
        (["algo=acer_continuous", "env=pendulum"], 3, -300, -500),
        (["experiment=recurrent_cartpole"], 3, 450, 400),
        (["algo=q_learning", "env=frozenlake", "eval.episodes=1000"], 3, 0.7, 0.65),
        (["algo=q_learning", "env=cliffwalking"], 3, -13, -13),
        (["algo=q_learning", "env=taxi"], 3, 7.5, 7),
    ],
    ids=lambda value: "-".join(word.partition("=")[2] for word in value[:2]) if isinstance(value, list) else "",
)
def test_presets_learn(words: list[str], seeds: int, mean: float, worst: float, process: Rlrun, tmp_path: Path) -> None:
    episodes = [] if any(word.startswith("eval.episodes") for word in words) else ["eval.episodes=100"]
    reached = [final(process, tmp_path, f"seed_{seed}", *words, *episodes, f"seed={seed}") for seed in range(seeds)]
    assert np.mean(reached) >= mean, reached
    assert min(reached) >= worst, reached


def test_a_short_horizon_caps_frozenlake(process: Rlrun, tmp_path: Path) -> None:
    """With gamma .6 even the optimal policy of that discount succeeds in only .45 of the episodes of 100 steps."""
    success = final(
        process, tmp_path, "short", "algo=q_learning", "env=frozenlake", "algo.gamma=0.6", "eval.episodes=1000"
    )
    assert success <= 0.5


@pytest.mark.parametrize(
    ("env", "episodes", "expected", "tolerance"),
    [("cartpole", 3000, 22.1, 0.8), ("pendulum", 300, -1230, 120), ("frozenlake", 3000, 0.0139, 0.006)],
)
def test_random_play_scores_what_is_known(
    env: str, episodes: int, expected: float, tolerance: float, process: Rlrun, tmp_path: Path
) -> None:
    words = ["algo=random", f"env={env}", "total_timesteps=100", f"eval.episodes={episodes}"]
    assert final(process, tmp_path, env, *words) == pytest.approx(expected, abs=tolerance)
