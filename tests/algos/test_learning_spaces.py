"""Toys whose right answer is known, learned on every kind of space and with masks.

By default one for each thing that there is to go wrong, from one seed; the others, and more seeds, if slow.

Every answer is rewarded at once, so gamma is 0, and the best return is 16.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Rlrun

PPO = ["algo=ppo", "algo.n_steps=512", "algo.normalize_advantage=false"]
DQN = ["algo=dqn", "algo.batch_size=64", "algo.gradient_steps=2", "algo.learning_starts=500"]
MASKED = "env.id=rlrun/Masked-v0"


def learned(rlrun: Rlrun, folder: Path, *words: str) -> float:
    """Mean return of the greedy policy after some 2,000 steps."""
    options = ["algo.gamma=0", "algo.learning_rate=1e-3", "total_timesteps=2048", "eval.freq=0", "checkpoint.freq=0"]
    rlrun(*options, *words, f"hydra.run.dir={folder / 'run'}")
    return json.loads((folder / "run" / "summary.json").read_text())["final_eval"]["mean"]


def slow(*case: object) -> object:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize("seed", [0, slow(1), slow(2)])
@pytest.mark.parametrize(
    ("words", "least"),
    [
        slow([*PPO, "env.id=rlrun/MultiIdentity-v0"], 15),
        ([*PPO, "env.id=rlrun/Bits-v0"], 15),
        ([*PPO, "env.id=rlrun/Parts-v0"], 13.5),  # 11 for the right choices at the wrong points
        ([*PPO, "env.id=rlrun/Lamp-v0", "total_timesteps=3072"], 13),  # 8 for the picture or the number alone
        slow([*PPO, MASKED], 15),
        ([*PPO, MASKED, "+env.kwargs.choices=2"], 14),
        ([*DQN, MASKED], 14),
        slow([*DQN, "env.id=rlrun/Lamp-v0"], 15),
    ],
    ids="ppo-choices ppo-bits ppo-parts ppo-lamp ppo-masked ppo-masked-choices dqn-masked dqn-lamp".split(),
)
def test_the_answer_is_learned(words: list[str], least: float, seed: int, rlrun: Rlrun, tmp_path: Path) -> None:
    assert learned(rlrun, tmp_path, *words, f"seed={seed}") >= least


@pytest.mark.parametrize("words", [slow(PPO), DQN], ids=["ppo", "dqn"])
def test_without_the_mask_nobody_finds_it(words: list[str], rlrun: Rlrun, tmp_path: Path) -> None:
    assert learned(rlrun, tmp_path, *words, MASKED, "env.action_masks=false") < 2
