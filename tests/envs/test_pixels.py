"""CartPole's pictures: what is cut out, what is subtracted, what is black, and that nothing else is different."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("pygame")

from rlrun import cli
from rlrun.envs import state
from rlrun.envs.pixels import CartPolePixelsEnv
from rlrun.errors import ConfigError


def falling(env: gym.Env) -> list[tuple]:
    """The steps of an episode in which the cart is always pushed to the right."""
    env.reset(seed=3)
    steps = [env.step(1)]
    while not steps[-1][2]:
        steps.append(env.step(1))
    return steps


def test_differences_of_the_pole_s_part_of_the_picture() -> None:
    env = CartPolePixelsEnv()
    assert env.observation_space == gym.spaces.Box(-1.0, 1.0, (3, 40, 90), np.float32)
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.float32
    assert not obs.any()
    for _ in range(5):
        env.step(1)
    before = env.render()[160:320]
    obs, *_ = env.step(1)
    after = env.render()[160:320]

    def small(picture: np.ndarray) -> np.ndarray:  # 160 x 600 as 40 x 90, on a grid that both divide
        fine = np.repeat(picture / 255, 3, 1).reshape(40, 4, 90, 20, 3)
        return np.moveaxis(fine.mean((1, 3)), -1, 0)

    np.testing.assert_allclose(obs, small(after) - small(before), atol=1e-6)
    assert obs.any()


def test_an_episode_begins_and_ends_black_and_is_cartpole_s() -> None:
    """The same rewards and ends as CartPole-v1, which is cut at 500 steps in a picture that is not black."""
    pixels, numbers = gym.make("rlrun/CartPolePixels-v1"), gym.make("CartPole-v1")
    pairs = list(zip(falling(pixels), falling(numbers), strict=True))
    for here, there in pairs:
        assert here[1:4] == there[1:4]
        assert -1 <= here[0].min() <= here[0].max() <= 1
    assert pairs[-2][0][0].any() and not pairs[-1][0][0].any()
    pixels.reset(seed=1)
    pixels.unwrapped.state = (0.0, 1.0, 0.0, 0.0)  # type: ignore[attr-defined]
    pixels._elapsed_steps = 499  # type: ignore[attr-defined]
    obs, _, terminated, truncated, _ = pixels.step(0)
    assert (terminated, truncated) == (False, True)
    assert obs.any()


def test_another_limit_and_pictures_themselves() -> None:
    env = CartPolePixelsEnv(angle_limit=160, difference=False, resize=(20, 30), crop=(0, 1))
    assert env.theta_threshold_radians == pytest.approx(160 * 2 * np.pi / 360)
    assert CartPolePixelsEnv().theta_threshold_radians == pytest.approx(12 * 2 * np.pi / 360)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert obs.mean() > 200  # a white picture
    env.state = (0.0, 0.0, 0.3, 0.0)  # type: ignore[assignment]  17 degrees
    assert env.step(0)[2] is False


def test_an_episode_is_saved_at_any_time() -> None:
    assert state.prove(lambda: gym.make("rlrun/CartPolePixels-v1", disable_env_checker=True)).reason == ""


@pytest.mark.parametrize("options", [{"crop": [0.8, 0.4]}, {"crop": [0.5]}, {"resize": [40]}, {"resize": [400, 90]}])
def test_what_cannot_be_seen_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=f"env.kwargs.{next(iter(options))}"):
        CartPolePixelsEnv(**options)


def test_it_learns_without_a_display(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    words = ["+smoke=on", "total_timesteps=64", "eval.episodes=1", "hydra.run.dir=run"]
    assert cli.main(["experiment=pixel_cartpole_dqn", *words]) == 0
