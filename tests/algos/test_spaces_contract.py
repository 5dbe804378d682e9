"""The contract of algorithms on every kind of space, and with masks: same seed, save and go on, killed and resumed."""

from __future__ import annotations

import pytest

from rlrun.testing import check_algorithm

MASKED = "env.id=rlrun/Masked-v0"


@pytest.mark.parametrize(
    "words",
    [
        ["ppo", "env.id=rlrun/MultiIdentity-v0"],
        ["ppo", "env.id=rlrun/Parts-v0", "env.normalize.obs=true", "env.frame_stack=2", "env.num_envs=2"],
        ["ppo", "env.id=rlrun/Lamp-v0"],
        ["ppo", MASKED, "+env.kwargs.choices=2", "+env.kwargs.tells=method"],
        ["ppo", MASKED, "network=lstm"],
        ["dqn", "env.id=rlrun/Lamp-v0", "algo.double=true"],
        ["dqn", MASKED, "+env.kwargs.tells=field", "buffer.n_step=3"],
        ["iqn", MASKED, "network.noisy=factorised", "network.dueling=true", "buffer=prioritized", "buffer.n_step=3"],
    ],
    ids=" ".join,
)
def test_contract(words: list[str]) -> None:
    check_algorithm(*words)
