"""Dyna-Q (Sutton 1990, ICML; Sutton & Barto 2018, section 8.2): Q-learning that also learns from what it remembers.

After every step (s, a, r, s'):

    learn   a Q-learning update from it
    model   remember that (s, a) led to r and s'
    plan    `planning_steps` times: a visited pair, uniformly drawn, its remembered outcome, a Q-learning update

`planning_steps=0` is Q-learning. `learn=false` only plans: random-sample one-step tabular Q-planning (section 8.1), on
a model that experience goes on filling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun.algos.algorithm import Kit
from rlrun.algos.tabular.control import ControlConfig, ControlLearner, transitions
from rlrun.checks import Natural, OneOf, Within
from rlrun.errors import ConfigError
from rlrun.footprint import tables
from rlrun.registry import Needs, register
from rlrun.types import Metrics, Progress, Rollout, StateDict


@dataclass
class DynaQConfig(ControlConfig):
    """Dyna-Q."""

    name: str = "dyna_q"  # registered name of the algorithm
    planning_steps: Annotated[int, Within(0, 10**6)] = 5  # updates from the model after every env step
    planning_starts: Natural = 0  # env steps before the first of them
    # deterministic (the last outcome) | sampled (outcomes as often as they occurred)
    model: Annotated[str, OneOf("deterministic", "sampled")] = "deterministic"
    learn: bool = True  # update from experience too; false = from the model only

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.learn or self.planning_steps):
            raise ConfigError(
                "planning_steps", "0 with learn=false would learn nothing", "write planning_steps=5, or learn=true"
            )


@dataclass
class Outcome:
    """What a pair of state and action has led to."""

    after: int  # s'
    terminated: bool
    reward: float  # mean
    count: int = 1  # how often; 1 in a deterministic model


class TabularModel:
    """Remembers where visited pairs of state and action led.

    Args:
        deterministic: keep a pair's last outcome only, otherwise all with their counts.
    """

    def __init__(self, deterministic: bool):
        self.deterministic = deterministic
        self.outcomes: dict[tuple[int, int], list[Outcome]] = {}
        self.pairs: list[tuple[int, int]] = []  # the keys, in the order of the first visit, to draw from

    def observe(self, s: int, a: int, r: float, after: int, terminated: bool) -> None:
        """Take in one transition."""
        known = self.outcomes.get((s, a))
        if known is None:
            self.pairs.append((s, a))
            self.outcomes[s, a] = [Outcome(after, terminated, r)]
        elif self.deterministic:
            known[0] = Outcome(after, terminated, r)
        else:
            self._count(known, r, after, terminated)

    def _count(self, known: list[Outcome], r: float, after: int, terminated: bool) -> None:
        for outcome in known:
            if outcome.after == after and outcome.terminated == terminated:
                outcome.count += 1
                outcome.reward += (r - outcome.reward) / outcome.count
                return
        known.append(Outcome(after, terminated, r))

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[tuple[int, int, Outcome]]:
        """`count` times a visited pair, each as likely, and an outcome of it, as likely as it was frequent."""
        for index in rng.integers(len(self.pairs), size=count).tolist():
            pair = self.pairs[index]
            known = self.outcomes[pair]
            yield *pair, known[0] if len(known) == 1 else pick(known, rng)

    def state_dict(self) -> StateDict:
        """Outcomes as rows (s, a, s', terminated, count) [N, 5] and mean rewards [N], in the order of the pairs."""
        flat = [(pair, outcome) for pair in self.pairs for outcome in self.outcomes[pair]]
        rows = [(*pair, outcome.after, outcome.terminated, outcome.count) for pair, outcome in flat]
        return {
            "outcomes": np.array(rows, np.int64).reshape(-1, 5),
            "rewards": np.array([outcome.reward for _, outcome in flat]),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self.outcomes = {}
        for (s, a, after, terminated, count), reward in zip(
            state["outcomes"].tolist(), state["rewards"].tolist(), strict=True
        ):
            self.outcomes.setdefault((s, a), []).append(Outcome(after, bool(terminated), reward, count))
        self.pairs = list(self.outcomes)


def pick(outcomes: list[Outcome], rng: np.random.Generator) -> Outcome:
    """One of several outcomes, as likely as it was frequent."""
    left = rng.random() * sum(outcome.count for outcome in outcomes)
    for outcome in outcomes:
        left -= outcome.count
        if left < 0:
            return outcome
    return outcomes[-1]


@register(
    "algo",
    DynaQConfig,
    needs=Needs(action={"discrete"}, obs={"discrete"}),
    footprint=tables(1),
    weights=("q",),
)
class DynaQ(ControlLearner):
    """Q-learning from experience and from a model of it (Sutton 1990)."""

    state = (*ControlLearner.state, "model")

    def __init__(self, cfg: DynaQConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.learns, self.planning_steps = cfg.learn, cfg.planning_steps
        self.model = TabularModel(cfg.model == "deterministic")

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        """Learn, remember and plan after each transition. The TD error logged is that of experience, if it is used."""
        errors, planned = [], []
        planning_steps = self.planning_steps if progress.begun(rollout) >= self.cfg.planning_starts else 0
        for _, s, a, r, after, terminated, _ in transitions(rollout):
            if self.learns:
                errors.append(self._update(s, a, r, after, terminated))
            self.model.observe(s, a, r, after, terminated)
            for s_, a_, o in self.model.draw(planning_steps, self.rng):
                planned.append(self._update(s_, a_, o.reward, o.after, o.terminated))
        return self.metrics(errors or planned)

    def _update(self, s: int, a: int, r: float, after: int, terminated: bool) -> float:
        return self.correct(s, a, r if terminated else r + self.gamma * self.highest(after))
