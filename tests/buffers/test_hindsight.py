"""Goals given in hindsight against a plain loop over episodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transitions import Stream, Transition, spec

from rlrun.buffers import PrioritizedConfig, Replay, UniformConfig, prioritized, replay, uniform
from rlrun.compute.device import Device, DeviceConfig
from rlrun.errors import ConfigError
from rlrun.ops.fields import unbound
from rlrun.rundir.codec import decode, encode
from rlrun.types import ACHIEVED, DESIRED, Array, Batch, EnvSpec, Goals, Rollout

CPU = Device(DeviceConfig(accelerator="cpu"))
GAMMA = 0.9
SEEN = np.dtype([("observation", np.float32, (1,)), (ACHIEVED, np.int16, (3,)), (DESIRED, np.int16, (3,))])


def reward(achieved: Array, desired: Array) -> Array:
    return np.float32(0.01) * np.abs(achieved - desired).sum(-1, dtype=np.float32)


def terminated(achieved: Array, desired: Array) -> Array:
    return np.asarray((achieved.sum(-1) - desired.sum(-1)) % 3 == 0)


def goal_spec(envs: int, tells: bool = True) -> EnvSpec:
    return replace(spec(envs, SEEN), goals=Goals(reward, terminated if tells else None))


class GoalStream(Stream):
    """Random goals, desired ones too in every step, and the rewards that go with them.

    Episodes end by chance: a third of the terminations are those that the goal explains.
    """

    def rollout(self, steps: int) -> Rollout:
        begun = len(self.transitions)
        rollout = super().rollout(steps)
        for i, (t, e) in enumerate(np.ndindex(steps, self.env.num_envs), start=begun):
            led_to = self.transitions[i].next_obs
            rollout.reward[t, e] = reward(led_to[ACHIEVED], led_to[DESIRED])
            self.transitions[i] = self.transitions[i]._replace(reward=rollout.reward[t, e])
        return rollout

    def episode(self, number: int, oldest: int) -> tuple[list[int], list[int]]:
        """The stored transitions of its episode before one, and those from it on."""
        before, after, envs = [], [number], self.env.num_envs
        while (i := (before or after)[0] - envs) >= oldest and not self.transitions[i].stops:
            before.insert(0, i)
        while not self.transitions[after[-1]].stops and after[-1] + envs < len(self.transitions):
            after.append(after[-1] + envs)
        return before, after

    def judged(self, number: int, goal: Array, n: int, tells: bool) -> tuple[Transition, float, float]:
        """(the last of m <= n steps, sum of their rewards under a goal, discount of what follows), by definition."""
        total, m = 0.0, 0
        steps = self.episode(number, number)[1]
        while True:
            here = self.transitions[steps[m]]
            led_to = here.next_obs
            total += GAMMA**m * float(reward(led_to[ACHIEVED], goal))
            m += 1
            over = here.terminated
            if tells:
                over = bool(terminated(led_to[ACHIEVED], goal)) or (
                    over and not terminated(led_to[ACHIEVED], led_to[DESIRED])
                )
            if over:
                return here, total, 0.0
            if m == min(n, len(steps)):
                return here, total, GAMMA**m


def made(env: EnvSpec, seed: int = 0, capacity: int = 20, **options: Any) -> Replay:
    cfg = UniformConfig(capacity=capacity * env.num_envs, **{"hindsight": "future"} | options)
    return uniform(cfg, env, gamma=GAMMA, rng=np.random.default_rng(seed), device=CPU)


def batches(buffer: Replay, count: int, batch_size: int) -> list[Batch]:
    return [batch for stack in buffer.bursts(count, batch_size) for batch in unbound(stack)]


def is_given(batch: Batch) -> list[bool]:
    """Which transitions have another goal: the environment's own changes with every step here."""
    return (batch.obs[DESIRED] == batch.next_obs[DESIRED]).all(-1).tolist()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize(
    ("strategy", "tells"), [("future", True), ("future", False), ("final", True), ("episode", True)]
)
def test_a_transition_is_worth_what_it_would_be_under_its_goal(strategy: str, tells: bool, envs: int, n: int) -> None:
    """Through ends of episodes, wraps, rollouts that were started anew, and episodes that are not over."""
    env, kinds = goal_spec(envs, tells), Counter[str]()
    buffer, stream = made(env, hindsight=strategy, n_step=n), GoalStream(env, 1, anew=0.2)
    for rollout in stream.rollouts(2, 5, 1, 9, 3, 8, 40, 7):
        buffer.add(rollout)
        oldest = len(stream.transitions) - len(buffer)
        for batch in batches(buffer, 4, min(16, len(buffer))):
            for i, (number, given) in enumerate(zip(batch.index.tolist(), is_given(batch), strict=True)):
                here = stream.transitions[number]
                assert batch.obs[ACHIEVED][i].tolist() == here.obs[ACHIEVED].tolist()
                goal = batch.obs[DESIRED][i].numpy()
                if given:
                    before, after = stream.episode(number, oldest)
                    allowed = {"future": after, "final": after[-1:], "episode": [*before, *after]}[strategy]
                    assert goal.tolist() in [stream.transitions[j].next_obs[ACHIEVED].tolist() for j in allowed]
                    last, total, discount = stream.judged(number, goal, n, tells)
                    next_obs = last.next_obs
                else:
                    assert goal.tolist() == here.obs[DESIRED].tolist()
                    next_obs, total, discount = stream.folded(number, n, GAMMA)
                    assert batch.next_obs[DESIRED][i].tolist() == next_obs[DESIRED].tolist()
                assert batch.next_obs[ACHIEVED][i].tolist() == next_obs[ACHIEVED].tolist()
                assert batch.next_obs["observation"][i].tolist() == next_obs["observation"].tolist()
                assert batch.reward[i].item() == pytest.approx(total, abs=1e-4)
                assert batch.discount[i].item() == pytest.approx(discount, rel=1e-6)
                kinds[f"given={given} over={discount == 0}"] += 1
    assert len(kinds) == 4 and min(kinds.values()) > 5, "of each kind there are some"


def test_goals_are_given_as_often_as_k_says_and_every_later_step_gives_its_own_equally_often() -> None:
    """An episode of 4 steps, 20 000 draws: 1 - 1 / (1 + k) of them get one of what is achieved from there on."""
    env = goal_spec(1)
    stream = GoalStream(env, 0, ends=0)
    rollout = stream.rollout(4)
    for k, share in ((4, 0.8), (1, 0.5), (0.25, 0.2)):
        buffer, found = made(env, k=k), Counter[tuple[int, int]]()
        buffer.add(rollout)
        achieved = [each.next_obs[ACHIEVED].tolist() for each in stream.transitions]
        for batch in batches(buffer, 5000, 4):
            for number, goal, given in zip(
                batch.index.tolist(), batch.obs[DESIRED].tolist(), is_given(batch), strict=True
            ):
                found[number, achieved.index(goal) if given else -1] += 1
        for number in range(4):
            for j in range(-1, 4):
                expected = 5000 * (1 - share if j < 0 else share / (4 - number) if j >= number else 0)
                assert found[number, j] == pytest.approx(expected, abs=5 * expected**0.5)


def test_a_restored_replay_gives_the_same_goals() -> None:
    """Where episodes began and ended is seen from what is stored."""
    env = goal_spec(2)
    first, stream = made(env, n_step=2), GoalStream(env, 2, anew=0.3)
    for steps in (3, 9, 30, 4):
        first.add(stream.rollout(steps))
        first.sample(3)
        second = made(env, seed=5, n_step=2)
        second.load_state_dict(decode(*encode(first.state_dict())))
        assert encode(second.state_dict())[0] == encode(first.state_dict())[0]
        later = stream.rollout(3)
        for buffer in (first, second):
            buffer.add(later)
        for one, other in zip(batches(first, 3, 5), batches(second, 3, 5), strict=True):
            assert encode(one._asdict())[0] == encode(other._asdict())[0]
            assert one.obs[DESIRED].tolist() == other.obs[DESIRED].tolist()
            assert torch.equal(one.reward, other.reward) and torch.equal(one.discount, other.discount)


def test_a_burst_gathered_in_pieces_is_given_the_same_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    env = goal_spec(2)

    def drawn(n: int) -> list[list[float]]:
        buffer = made(env, n_step=n)
        buffer.add(GoalStream(env, 0).rollout(15))
        return [[*batch.obs[DESIRED].ravel().tolist(), *batch.reward.tolist()] for batch in batches(buffer, 20, 5)]

    for n in (1, 3):
        whole = drawn(n)
        monkeypatch.setattr(replay, "BURST_BYTES", 700)
        assert drawn(n) == whole
        monkeypatch.undo()


def test_priorities_go_with_it() -> None:
    """What the learner was wrong about is drawn more often, with whatever goal."""
    env = goal_spec(1)
    cfg = PrioritizedConfig(capacity=20, hindsight="final", alpha=1.0)
    buffer = prioritized(cfg, env, gamma=GAMMA, rng=np.random.default_rng(0), device=CPU)
    stream = GoalStream(env, 0, ends=0)
    buffer.add(stream.rollout(20))
    buffer.update_priorities(torch.arange(20), torch.tensor([100.0] + 19 * [0.0]))
    batch = buffer.sample(20)
    assert set(batch.index.tolist()) == {0} and 0 < sum(is_given(batch)) < 20
    goals = {tuple(goal) for goal, given in zip(batch.obs[DESIRED].tolist(), is_given(batch), strict=True) if given}
    assert goals == {tuple(stream.transitions[-1].next_obs[ACHIEVED].tolist())}


def test_rewards_that_are_not_those_of_the_function_are_refused() -> None:
    env = replace(goal_spec(1), goals=Goals(lambda achieved, desired: reward(achieved, desired) + 1))
    buffer, stream = made(env), GoalStream(env, 0)
    buffer.add(stream.rollout(10))  # a few may be by rounding
    with pytest.raises(ConfigError, match="for which the environment's compute_reward says"):
        buffer.add(stream.rollout(1))


def test_what_has_no_goals_is_refused_and_so_is_an_option_without_meaning() -> None:
    with pytest.raises(ConfigError, match=r"buffer\.hindsight: stream is no goal environment"):
        made(spec(1))
    with pytest.raises(ConfigError, match="k: has no meaning with hindsight=none"):
        UniformConfig(k=2)
    hidden = replace(goal_spec(1), goals=Goals(reward, obstacle="env.frame_stack"))
    with pytest.raises(ConfigError, match=r"env\.frame_stack: makes of goals or rewards"):
        made(hidden)
