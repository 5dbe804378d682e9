"""PTAN's sources: streams worked out by hand, and what PTAN gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from rlrun.agents import BaseAgent
from rlrun.agents.agent import Agent
from rlrun.buffers.replay import Replay
from rlrun.buffers.ring import Ring
from rlrun.buffers.samplers import Uniform
from rlrun.compute.device import Device
from rlrun.envs.toy import ConstantRewardEnv, CountingEnv, PartsEnv, ToyEnv
from rlrun.envs.vector.in_process import InProcess
from rlrun.errors import ConfigError, RlrunError
from rlrun.experience import (
    Experience,
    ExperienceSource,
    ExperienceSourceFirstLast,
    ExperienceSourceRollouts,
    unpack_batch,
)
from rlrun.experience.rollouts import Rollouts


class Always(BaseAgent):
    """The same action, and the same state for every environment."""

    def __init__(self, action: Any = 1, state: Any = None):
        self.action, self.state = action, state

    def __call__(self, states: list[Any], agent_states: Any = None) -> tuple[list[Any], Any]:
        return [self.action] * len(states), agent_states if self.state is None else [self.state] * len(states)


def counting(*lengths: int) -> list[gym.Env]:
    return [CountingEnv(length) for length in lengths]


def spans(windows: Any, count: int) -> list[tuple[int, int]]:
    """First observation and length of windows in a CountingEnv, whose observation is the number of steps taken."""
    return [(int(window[0].state[0]), len(window)) for window in islice(windows, count)]


def test_windows_and_tails_of_an_episode() -> None:
    """A-01: of ten steps seven windows of four, then three, two and one; then the next episode."""
    windows = list(islice(ExperienceSource(ToyEnv(), Always(1), steps_count=4), 20))
    assert [len(window) for window in windows] == 2 * [4, 4, 4, 4, 4, 4, 4, 3, 2, 1]
    assert [window[0].state for window in windows] == 2 * [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert all([step.reward for step in window] == [1.0] * len(window) for window in windows)
    assert [window[-1].done for window in windows[:10]] == 6 * [False] + 4 * [True]


@pytest.mark.parametrize(("n", "lengths"), [(1, [1] * 10), (2, [2] * 9 + [1])])
def test_short_windows(n: int, lengths: list[int]) -> None:
    assert [len(window) for window in islice(ExperienceSource(ToyEnv(), Always(), n), 20)] == 2 * lengths


def test_an_episode_shorter_than_a_window_comes_whole_and_then_its_tail() -> None:
    assert spans(ExperienceSource(CountingEnv(3), Always(), steps_count=5), 6) == 2 * [(0, 3), (1, 2), (2, 1)]


def test_environments_take_turns_and_an_end_comes_before_the_next_environment() -> None:
    """Lengths 2 and 3, n = 2. Sweep 1 ends environment 0, sweep 2 environment 1, sweep 3 environment 0 again."""
    source = ExperienceSource(counting(2, 3), Always(), steps_count=2)
    expected = [
        *[(0, 2), (1, 1), (0, 2)],  # sweep 1: environment 0 with its tail, then environment 1
        *[(1, 2), (2, 1)],  # sweep 2: only environment 1 has a window, and its tail
        *[(0, 2), (1, 1)],  # sweep 3: environment 0
        (0, 2),  # sweep 4: environment 1
        *[(0, 2), (1, 1), (1, 2), (2, 1)],  # sweep 5: both
    ]
    assert spans(source, len(expected)) == expected


def test_delta_counts_sweeps_over_all_episodes_and_leaves_tails_alone() -> None:
    """Episodes of 5, n = 2, delta 2: windows in even sweeps (2, 4 | 6, 8 | ...), the tail of every episode."""
    source = ExperienceSource(CountingEnv(5), Always(), steps_count=2, steps_delta=2)
    expected = [(1, 2), (3, 2), (4, 1), (0, 2), (2, 2), (4, 1)]  # the second full window of episode 2 is skipped
    assert spans(source, 6) == expected


def test_first_and_last_of_the_notebook() -> None:
    """A-02: eleven transitions, the last of reward 0; n = 4, gamma 1."""
    pieces = list(islice(ExperienceSourceFirstLast(ToyEnv("notebook"), Always(1), gamma=1.0, steps_count=4), 22))
    assert [piece.reward for piece in pieces] == 2 * [4, 4, 4, 4, 4, 4, 4, 3, 2, 1, 0]
    assert [piece.last_state for piece in pieces[:11]] == [3, 4, 0, 1, 2, 3, 4, None, None, None, None]
    assert [piece.steps for piece in pieces[:11]] == 8 * [4] + [3, 2, 1]


def test_rewards_are_discounted_and_what_follows_by_the_steps_really_taken() -> None:
    """Rewards 1 2 3 ... 5 and gamma .5; n = 3."""
    pieces = list(islice(ExperienceSourceFirstLast(CountingEnv(5), Always(), gamma=0.5, steps_count=3), 5))
    assert [piece.reward for piece in pieces] == [2.75, 4.5, 6.25, 6.5, 5.0]
    assert [piece.discount for piece in pieces] == [0.125, 0.125, 0, 0, 0]
    assert [piece.steps for piece in pieces] == [3, 3, 3, 2, 1]
    assert [float(piece.last_obs[0]) for piece in pieces] == [3, 4, 5, 5, 5]


def test_a_cut_episode_keeps_its_last_observation() -> None:
    """PTAN takes a time limit for death: here only `terminated` does not bootstrap."""
    env = TimeLimit(CountingEnv(100), 3)
    pieces = list(islice(ExperienceSourceFirstLast(env, Always(), gamma=0.5, steps_count=2), 3))
    assert [(piece.terminated, piece.truncated) for piece in pieces] == [(False, False), (False, True), (False, True)]
    assert [float(piece.last_state[0]) for piece in pieces] == [2, 3, 3]
    assert [piece.discount for piece in pieces] == [0.25, 0.25, 0.5]
    steps = next(iter(ExperienceSource(TimeLimit(CountingEnv(100), 3), Always(), steps_count=3)))
    assert steps[-1].next_obs.tolist() == [3.0]
    assert steps[-1].done and not steps[-1].terminated


class Numbered(CountingEnv):
    """No observation comes twice; episodes end in turn by the MDP and by a cut."""

    episode = 0

    def reset(self, **options: Any) -> Any:
        self.episode += 1
        obs, info = super().reset(**options)
        return obs + 100 * self.episode, info

    def step(self, action: int) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        ends, cut = terminated, bool(self.episode % 2)
        return obs + 100 * self.episode, reward, ends and not cut, ends and cut, info


@pytest.mark.parametrize("n", [1, 3])
def test_the_runner_learns_from_the_same_pieces(n: int) -> None:
    """What replay folds from the runner's rollouts is what a source folds from the same environments."""

    def envs() -> list[Numbered]:
        pool = [Numbered(5), Numbered(2)]
        pool[1].episode = 1000
        return pool

    chunk = next(iter(Rollouts(InProcess(envs()), Always(), 60, [0, 1])))
    ring = Ring(200, InProcess(envs()).spec, gamma=0.9)
    ring.add(chunk.data)
    replay = Replay(ring, Uniform(np.random.default_rng(0), replacement=False), n_step=n, device=Device())
    batch = replay.sample(len(ring))
    columns = (batch.obs, batch.action, batch.reward, batch.next_obs, batch.discount)
    drawn = {row[0]: row[1:] for row in zip(*(column.flatten().tolist() for column in columns), strict=True)}
    newest = set(chunk.data.obs[60 - n : -1].ravel().tolist())  # what follows these is not known yet
    source = ExperienceSourceFirstLast(envs(), Always(), gamma=0.9, steps_count=n)
    folded = unpack_batch(list(islice(source, 100)))
    columns = (folded.obs, folded.action, folded.reward, folded.next_obs, folded.discount)
    pieces = {row[0]: row[1:] for row in zip(*(column.flatten().tolist() for column in columns), strict=True)}
    assert len(pieces) == 100 and len(drawn) == 120
    assert len(pieces.keys() - newest) > 95
    assert all(drawn[first] == rest for first, rest in pieces.items() if first not in newest)


def test_the_value_of_a_state_that_is_cut_for_ever_is_ten() -> None:
    """Reward 1, gamma .9, cut every 5 steps: values from the pieces' own targets go to 10, not to 3.57."""
    pieces = list(islice(ExperienceSourceFirstLast(ConstantRewardEnv(), Always(), gamma=0.9, steps_count=3), 50))
    value = 0.0
    for _ in range(100):
        value = float(np.mean([piece.reward + piece.discount * value for piece in pieces]))
    assert value == pytest.approx(10, rel=1e-3)


def test_totals_are_told_once_and_after_the_tail() -> None:
    source = ExperienceSource(CountingEnv(3), Always(), steps_count=2)
    stream = iter(source)
    list(islice(stream, 3))  # both windows and the tail of the first episode
    assert source.pop_rewards_steps() == []
    next(stream)
    assert source.pop_rewards_steps() == [(6.0, 3)]
    assert source.pop_rewards_steps() == []
    list(islice(stream, 3))
    assert source.pop_total_rewards() == [6.0]


def test_whole_episodes_in_the_order_of_their_ends() -> None:
    source = ExperienceSource(counting(4, 2), Always())
    episodes = list(islice(source.episodes(), 4))
    assert [len(episode) for episode in episodes] == [2, 4, 2, 2]
    assert [step.reward for step in episodes[1]] == [1, 2, 3, 4]
    assert source.pop_rewards_steps() == [(3.0, 2), (10.0, 4), (3.0, 2), (3.0, 2)]


def test_every_observation_is_kept_once() -> None:
    """What a step led to is the very array that the next one begins with, and no later step writes into it."""
    episode = next(ExperienceSource(CountingEnv(4), Always()).episodes())
    assert [float(step.state[0]) for step in episode] == [0, 1, 2, 3]
    assert all(np.shares_memory(a.next_obs, b.state) for a, b in pairwise(episode))


class Remembers(BaseAgent):
    """Its state is a list that grows: the action is how long the list was, at most 2."""

    def initial_state(self) -> list[int]:
        return []

    def __call__(self, states: list[Any], agent_states: Any = None) -> tuple[list[int], Any]:
        actions = [min(2, len(state)) for state in agent_states]
        for state in agent_states:
            state.append(0)
        return actions, agent_states


def test_an_agents_state_begins_anew_with_each_episode_of_its_own_environment() -> None:
    """The state is changed in place, so another one must be made for each beginning."""
    source = ExperienceSource([ToyEnv(), ToyEnv("notebook")], Remembers())
    episodes = list(islice(source.episodes(), 4))
    assert [len(episode) for episode in episodes] == [10, 11, 10, 11]
    assert all([step.action for step in episode] == [0, 1, *[2] * (len(episode) - 2)] for episode in episodes)


class ArrayAgent(Agent):
    """An agent of the runner's kind, with memory."""

    def initial_memory(self, num_envs: int) -> np.ndarray:
        return np.zeros((num_envs, 1), np.float32)

    def act(self, obs: Any, memory: Any, *, explore: bool, env_steps: int) -> Any:
        assert explore and env_steps % 2 == 0  # two environments
        return (memory[:, 0] % 3).astype(np.int64), memory + 1, {"value": memory[:, 0]}

    def value(self, obs: Any, memory: Any = None) -> np.ndarray:
        return memory[:, 0]


def test_the_runners_agents_act_here_too() -> None:
    episodes = islice(ExperienceSource([ToyEnv(), ToyEnv()], ArrayAgent()).episodes(), 4)
    assert all([step.action for step in episode] == [0, 1, 2] * 3 + [0] for episode in episodes)


def test_rollouts_of_the_table() -> None:
    """A-04: V = .5 everywhere, gamma .9, reward 1; the first episodes end with the tenth step."""
    source = ExperienceSourceRollouts([ToyEnv(), ToyEnv()], Always(1, state=0.5), gamma=0.9, steps_count=4)
    first, second, third = islice(source, 3)
    whole = [3.76705, 3.0745, 2.305, 1.45]
    assert first.returns == pytest.approx(2 * whole)
    assert second.returns == pytest.approx(2 * whole)
    assert third.returns == pytest.approx(2 * [1.9, 1.0, 2.305, 1.45])
    assert first.states.tolist() == 2 * [0, 1, 2, 3]
    assert third.states.tolist() == 2 * [3, 4, 0, 1]
    assert first.actions.tolist() == 8 * [1]
    assert first.values.tolist() == 8 * [0.5]
    assert source.pop_rewards_steps() == 2 * [(10.0, 10)]


def test_a_rollout_bootstraps_from_the_last_observation_of_a_cut_episode() -> None:
    """Memory and so V counts the steps of the episode; cut after 2 of them: r = 1 + .5 V(2) with V(2) = 2."""
    envs = [TimeLimit(CountingEnv(100), 2), TimeLimit(CountingEnv(100), 3)]
    batch = next(iter(ExperienceSourceRollouts(envs, ArrayAgent(), gamma=0.5, steps_count=3)))
    # environment 0: rewards 1 2 | 1, cut after the second, V(final) = 2; then V(next) = 1 behind the third
    # environment 1: rewards 1 2 3, cut after the third, V(final) = 3
    assert batch.returns == pytest.approx([1 + 0.5 * 3, 2 + 0.5 * 2, 1 + 0.5 * 1, 1 + 0.5 * 4.25, 2 + 0.5 * 4.5, 4.5])
    assert batch.values.tolist() == [0, 1, 0, 0, 1, 2]


def test_a_rollout_asks_for_an_agent_that_tells_values() -> None:
    with pytest.raises(TypeError, match="ActorCriticAgent"):
        next(iter(ExperienceSourceRollouts(ToyEnv(), Always(), gamma=0.9)))


def test_a_vector_gives_the_stream_of_its_environments() -> None:
    """Of different lengths; and none of its resets is taken for a step."""

    def stream(envs: Any) -> list[Any]:
        source = ExperienceSourceFirstLast(envs, Always(), gamma=0.9, steps_count=2)
        return [(float(p.state[0]), p.reward, float(p.last_obs[0]), p.discount) for p in islice(source, 60)]

    makers = [lambda length=length: TimeLimit(CountingEnv(100), length) for length in (3, 5)]
    vector = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    assert stream(vector) == stream([make() for make in makers])
    assert stream(InProcess([make() for make in makers])) == stream(vector)
    randoms = SyncVectorEnv([Random, Random], autoreset_mode=AutoresetMode.SAME_STEP)
    vectors = [ExperienceSource(envs, Always(), seed=5) for envs in (randoms, [Random(), Random()])]
    one, other = ([float(window[0].state[0]) for window in islice(source, 20)] for source in vectors)
    assert one == other
    with pytest.raises(ConfigError, match="SAME_STEP"):
        ExperienceSource(SyncVectorEnv(makers), Always())


class Random(gym.Env):
    """Observations are random numbers; an episode has three steps."""

    observation_space, action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.random(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.t += 1
        return self.np_random.random(1, np.float32), 0.0, self.t == 3, False, {}


def test_seeds_are_for_the_first_reset_and_differ() -> None:
    def first(count: int = 12, seeded: Sequence[int] = (), **options: Any) -> list[float]:
        envs = [Random(), Random()]
        for env, seed in zip(envs, seeded, strict=False):
            env.reset(seed=seed)
        steps = ExperienceSource(envs, Always(), steps_count=1, **options)
        return [float(step.state[0]) for (step,) in islice(steps, count)]

    assert first(seed=3) == first(seed=3) != first(seed=4)
    assert len(set(first(seed=3))) == 12  # no two environments and no two episodes are the same
    assert first(seeded=[1, 2]) == first(seeded=[1, 2]) != first(seeded=[1, 3])  # by whoever made them
    assert first() != first()


def test_a_second_stream_of_a_source_begins_new_episodes() -> None:
    source = ExperienceSource(CountingEnv(5), Always(), steps_count=1)
    assert spans(source, 3) == [(0, 1), (1, 1), (2, 1)]
    first = iter(source)
    next(first)
    assert spans(source, 2) == [(0, 1), (1, 1)]
    with pytest.raises(RlrunError, match="another iterator"):
        next(first)


def test_actions_and_observations_of_several_parts() -> None:
    """Records for what is seen, a Dict for what is done; a Tuple of parts too."""
    for as_tuple, action in [(False, {"choice": 2, "point": [0.5, -0.5]}), (True, (2, np.array([0.5, -0.5])))]:
        source = ExperienceSourceFirstLast(PartsEnv(as_tuple), Always(action), gamma=0.9, seed=0)
        pieces = list(islice(source, 20))
        choice, point = ("0", "1") if as_tuple else ("choice", "point")
        first = pieces[0]
        seen = first.state
        reward = float(seen[choice] == 2) - float(np.square(np.array([0.5, -0.5]) - seen[point]).sum())
        assert first.reward == pytest.approx(reward, rel=1e-5)
        batch = unpack_batch(pieces)
        assert batch.obs[point].shape == batch.next_obs[point].shape == (20, 2)
        assert batch.action[choice].tolist() == [2] * 20


def test_a_batch_of_pieces() -> None:
    pieces = list(islice(ExperienceSourceFirstLast(CountingEnv(3), Always(), gamma=0.5, steps_count=2), 3))
    batch = unpack_batch(pieces)
    assert batch.obs.tolist() == [[0], [1], [2]]
    assert batch.next_obs.tolist() == [[2], [3], [3]]
    assert batch.action.tolist() == [1, 1, 1]
    assert batch.reward.tolist() == [2, 3.5, 3]
    assert batch.discount.tolist() == [0.25, 0, 0]
    assert batch.weight.tolist() == [1, 1, 1]
    assert batch.index.tolist() == [0, 1, 2]
    assert batch.reward.dtype == batch.discount.dtype == batch.weight.dtype == batch.obs.dtype


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: ExperienceSource([env := ToyEnv(), env], Always()), ValueError, "stands twice"),
        (lambda: ExperienceSource([], Always()), ValueError, "no environment"),
        (lambda: ExperienceSource("CartPole-v1", Always()), TypeError, r"gymnasium\.make"),
        (lambda: ExperienceSource([ToyEnv(), None], Always()), TypeError, "None is no Gymnasium environment"),
        (lambda: ExperienceSource(7, Always()), TypeError, "7 is no Gymnasium environment"),
        (lambda: ExperienceSource([ToyEnv(), CountingEnv()], Always()), ValueError, "other spaces"),
        (lambda: ExperienceSource(ToyEnv(), lambda states: states), TypeError, "BaseAgent"),
        (lambda: ExperienceSource(ToyEnv(), Always(), steps_count=0), ValueError, "steps_count"),
        (lambda: ExperienceSource(ToyEnv(), Always(), steps_delta=0), ValueError, "steps_delta"),
        (lambda: ExperienceSourceFirstLast(ToyEnv(), Always(), gamma=1.5), ValueError, "gamma"),
        (lambda: next(iter(ExperienceSource(ToyEnv(), BaseAgent()))), NotImplementedError, "define __call__"),
        (lambda: next(iter(ExperienceSource(ToyEnv(), Silent()))), TypeError, "Silent must return actions and"),
        (lambda: next(iter(ExperienceSource(ToyEnv(), TwoFaced()))), ValueError, "2 agent states were returned for 1"),
        (
            lambda: next(iter(ExperienceSource([ToyEnv(), ToyEnv()], Once()))),
            ValueError,
            r"shape \(1,\), expected \(2,\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()


class Once(Always):
    """Has one action for all."""

    def __call__(self, states: list[Any], agent_states: Any = None) -> tuple[list[Any], Any]:
        return [1], agent_states


class Silent(BaseAgent):
    """Keeps its states for itself."""

    def __call__(self, states: list[Any], agent_states: Any = None) -> Any:
        return [1]


class TwoFaced(BaseAgent):
    """Has two states for one environment."""

    def __call__(self, states: list[Any], agent_states: Any = None) -> Any:
        return [1], ["a", "b"]


def test_an_experience_says_whether_it_was_the_last() -> None:
    assert not Experience(0, 0, 0.0, False, False, 0).done
    assert Experience(0, 0, 0.0, True, False, 0).done
    assert Experience(0, 0, 0.0, False, True, 0).done
