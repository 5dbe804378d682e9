"""MuJoCo's environments are saved in mid-episode and go on bit for bit."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from rlrun.envs import state
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig
from rlrun.errors import EnvError
from rlrun.seeding import SeedTree
from rlrun.testing import check_algorithm

pytest.importorskip("mujoco")

KINDS = "HalfCheetah Hopper Walker2d Ant Humanoid Pusher Reacher InvertedPendulum".split()


def make(kind: str, time_limit: int = 1000) -> gym.Env:
    return GymEnvs(EnvConfig(id=f"{kind}-v5", time_limit=time_limit), SeedTree(0)).single()


def played(env: gym.Env, actions: np.ndarray) -> list[bytes | str]:
    """Everything that steps return, through the ends of episodes."""
    said: list[bytes | str] = []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        said += [obs.tobytes(), np.float64(reward).tobytes(), repr((terminated, truncated, sorted(info.items())))]
        if terminated or truncated:
            said.append(env.reset()[0].tobytes())
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_goes_on_in_another_as_if_nothing_had_happened(kind: str) -> None:
    original, other = make(kind, 150), make(kind, 150)
    when_new = state.tables(original)
    actions = original.action_space
    actions.seed(0)
    moves = np.array([actions.sample() for _ in range(257)])
    original.reset(seed=1)
    played(original, moves[:57])
    saved = state.capture(original, when_new)
    other.reset(seed=2)
    played(other, moves[:3])
    state.restore(other, saved)
    assert played(other, moves[57:]) == played(original, moves[57:])


def test_what_a_step_computed_and_not_only_where_it_led_is_state() -> None:
    """The ant sees forces, and the speed of its torso from where it was computed to be, a substep before."""
    env, other = make("Ant"), make("Ant")
    when_new = state.tables(env)
    env.reset(seed=1)
    for _ in range(30):
        env.step(np.full(8, 0.5, np.float32))
    seen = [np.array(getattr(env.unwrapped.data, name)) for name in ("xpos", "cfrc_ext", "qacc_warmstart")]
    other.reset(seed=2)
    state.restore(other, state.capture(env, when_new))
    now = [getattr(other.unwrapped.data, name) for name in ("xpos", "cfrc_ext", "qacc_warmstart")]
    assert all(np.array_equal(a, b) and a.any() for a, b in zip(seen, now, strict=True))


@pytest.mark.parametrize("change", ["mass", "gravity", "timestep"])
def test_a_model_is_state_once_it_has_changed(change: str) -> None:
    env, other = make("Hopper"), make("Hopper")
    when_new = state.tables(env)
    env.reset(seed=1)
    assert "model" not in state.capture(env, when_new)["layers"][-1]
    model = env.unwrapped.model
    if change == "mass":
        model.body_mass[1] *= 1.5
    elif change == "gravity":
        model.opt.gravity[2] = -5.0
    else:
        model.opt.timestep = 0.001
    other.reset(seed=2)
    state.restore(other, state.capture(env, when_new))
    moves = np.random.default_rng(0).uniform(-1, 1, (60, 3)).astype(np.float32)
    assert played(other, moves) == played(env, moves)


def test_a_state_of_another_body_does_not_fit() -> None:
    hopper, walker = (GymEnvs(EnvConfig(id=f"{kind}-v5"), SeedTree(0)).train(1) for kind in ("Hopper", "Walker2d"))
    for envs in (hopper, walker):
        envs.prove()
        envs.reset([1])
    saved = hopper.state_dict()
    assert (saved["grade"], saved["caveat"]) == ("exact", "")
    with pytest.raises(EnvError, match="Walker2d-v5: its saved state does not fit it"):
        walker.load_state_dict({**saved, "obs": walker.obs})


@pytest.mark.parametrize(
    ("module", "env_id"),
    [
        ("dm_control", "dm_control/cheetah-run-v0"),
        ("dm_control", "dm_control/reacher-easy-v0"),  # whose target is a part of the model
        ("dm_control", "dm_control/hopper-hop-v0"),
        ("gymnasium_robotics", "FetchReach-v4"),
    ],
)
def test_environments_of_packages_that_build_on_it_are_exact(module: str, env_id: str) -> None:
    pytest.importorskip(module)
    assert state.prove(GymEnvs(EnvConfig(id=env_id), SeedTree(0)).single).reason == ""


def test_a_run_that_is_killed_and_resumed_ends_like_the_one_left_alone() -> None:
    check_algorithm("ppo", "env=hopper", "env.num_envs=2", "env.normalize.obs=true", "env.normalize.reward=true")
