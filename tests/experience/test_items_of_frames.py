"""Stacked pictures are kept once, whatever the stacks do."""

from __future__ import annotations

from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FrameStackObservation

from rlrun.agents import BaseAgent
from rlrun.experience import ExperienceReplayBuffer, ExperienceSource, ExperienceSourceFirstLast, unpack_batch
from rlrun.experience.frames import Frames


class Film(gym.Env):
    """Picture t of episode k is full of 10 k + t; ends after `length` steps, by the MDP or cut in turn."""

    observation_space, action_space = gym.spaces.Box(0, 255, (2, 3), np.uint8), gym.spaces.Discrete(2)

    def __init__(self, length: int):
        self.length, self.episode = length, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episode, self.t = self.episode + 1, 0
        return self.picture(), {}

    def step(self, action: int) -> Any:
        self.t += 1
        over = self.t == self.length
        return self.picture(), 1.0, over and self.episode % 2 == 0, over and self.episode % 2 == 1, {}

    def picture(self) -> np.ndarray:
        return np.full((2, 3), 10 * self.episode + self.t, np.uint8)


class Idle(BaseAgent):
    def __call__(self, states: Any, agent_states: Any = None) -> Any:
        assert all(type(state) is np.ndarray for state in states)  # an agent sees arrays
        return [0] * len(states), agent_states


def films(padding: str = "reset") -> list[gym.Env]:
    return [FrameStackObservation(Film(length), 4, padding_type=padding) for length in (5, 3)]


def seen(state: Any) -> list[int]:
    return np.asarray(state)[:, 0, 0].tolist()


def test_stacks_are_those_of_the_environment() -> None:
    """Over ends and cuts; the same numbers as from one environment that is stepped by hand."""
    for padding in ("reset", "zero"):
        episodes = list(islice(ExperienceSource(films(padding), Idle()).episodes(), 5))
        hand = {5: films(padding)[0], 3: films(padding)[1]}
        for episode in episodes:
            env = hand[len(episode)]
            obs, _ = env.reset()
            for step in episode:
                assert seen(step.state) == seen(obs)
                obs = env.step(0)[0]
                assert seen(step.next_obs) == seen(obs)


def test_every_picture_is_kept_once() -> None:
    buffer = ExperienceReplayBuffer(ExperienceSourceFirstLast(films(), Idle(), gamma=0.9, steps_count=2), 100)
    buffer.populate(60)
    items = list(buffer)
    pictures = {id(picture) for item in items for state in (item.state, item.last_obs) for picture in state.frames}
    steps, episodes = len(items), sum(item.done and item.steps == 1 for item in items)
    assert len(pictures) <= steps + episodes + 6  # one a step, one more an episode, and what is still to come
    owned = {picture.base is None for item in items for picture in item.state.frames}
    assert owned == {True}  # no view that keeps a stack alive
    batch = unpack_batch(items)
    assert batch.obs.shape == batch.next_obs.shape == (60, 4, 2, 3)
    assert batch.obs[:, :, 0, 0].tolist() == [seen(item.state) for item in items]


def test_a_stack_is_an_array_for_whoever_asks() -> None:
    state = next(ExperienceSource(films(), Idle()).episodes())[1].state
    assert isinstance(state, Frames)
    assert (state.shape, state.dtype, len(state)) == ((4, 2, 3), np.uint8, 4)
    assert np.asarray(state, np.float32).dtype == np.float32
    assert np.array([state, state]).shape == (2, 4, 2, 3)
    assert state[-1].tolist() == [[1] * 3] * 2


def test_other_pictures_are_plain_arrays() -> None:
    class Colours(Film):
        observation_space = gym.spaces.Box(0, 255, (3, 2, 2), np.uint8)

        def picture(self) -> np.ndarray:
            return np.arange(12, dtype=np.uint8).reshape(3, 2, 2) * (self.t + 1)

    episode = next(ExperienceSource(Colours(4), Idle()).episodes())
    assert all(type(step.state) is np.ndarray for step in episode)
    assert [int(step.state[0, 0, 1]) for step in episode] == [1, 2, 3, 4]
