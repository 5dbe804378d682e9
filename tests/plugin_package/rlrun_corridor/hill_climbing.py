"""Hill climbing: try the best weights plus noise for one rollout, and keep them if they earned more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from rlrun import Agent, Algorithm, Kit, Needs, register
from rlrun.checks import Bounded, Count, Positive
from rlrun.networks import Inference
from rlrun.types import Array, HeadSpec, Metrics, Progress, Rollout


@dataclass
class HillClimbingConfig(Bounded):
    """Random local search over the weights of a policy."""

    name: str = "hill_climbing"  # registered name of the algorithm
    n_steps: Count = 80  # steps per environment with one candidate
    noise: Positive = 0.5  # standard deviation of the steps away from the best weights


class ArgmaxAgent(Agent):
    """The highest score: the candidate's while exploring, the best network's otherwise."""

    def __init__(self, candidate: Inference, best: Inference):
        self.candidate, self.best = candidate, best

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        network = self.candidate if explore else self.best
        return network(obs).argmax(-1), memory, {}


@register("algo", HillClimbingConfig, needs=Needs(action={"discrete"}, obs={"box"}), network="linear")
class HillClimbing(Algorithm):
    """Random local search over the weights of a policy."""

    state = ("candidate", "best", "best_score", "rng")

    def __init__(self, cfg: HillClimbingConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.rng = kit.rng
        self.rollout_steps = cfg.n_steps
        head = HeadSpec("policy", kit.env.num_actions)
        self.candidate, self.best = kit.module(head), kit.module(head)
        self.agent = ArgmaxAgent(Inference(self.candidate), Inference(self.best))
        self.best_score = -np.inf

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        score = float(rollout.reward.mean())
        if score > self.best_score:
            self.best_score = score
            self.best.load_state_dict(self.candidate.state_dict())
        with torch.no_grad():
            for ours, best in zip(self.candidate.parameters(), self.best.parameters(), strict=True):
                step = self.cfg.noise * self.rng.standard_normal(best.shape)
                ours.copy_(best + torch.from_numpy(step).to(best))
        return {"score": score, "best_score": self.best_score}
