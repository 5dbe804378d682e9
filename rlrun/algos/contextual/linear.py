"""What linear contextual bandits share: one Bayesian linear regression per arm on the context and a constant 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlrun.agents.selectors import RandomArgmaxActionSelector
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.algos.contextual.agent import ContextualAgent, Draws
from rlrun.algos.contextual.regression import LinearRegressions
from rlrun.footprint import Need, Parameters
from rlrun.types import Array, EnvSpec, Metrics, Progress, Rollout, Space


class Features:
    """Contexts [..., *obs] as rows [B, D] of float64 with a 1 at the end; numbers become one-hot vectors."""

    def __init__(self, space: Space):
        self.categories = space.n
        self.size = (space.n or int(np.prod(space.shape))) + 1

    def __call__(self, obs: Array) -> Array:
        if self.categories:
            obs = np.eye(self.categories)[obs]
        return with_intercept(obs.reshape(-1, self.size - 1))


def with_intercept(features: Array) -> Array:
    """Rows [B, D] -> float64 [B, D + 1] with a 1 at the end."""
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def footprint(cfg: Any, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """A matrix [D, D] of float64 per arm."""
    size = Features(env.obs_space).size
    what = f"{env.num_actions:,} regressions on {size:,} features"
    return [Need("env.id", 16 * env.num_actions * size**2, what, advice="a network needs no matrix per arm")]


class LinearLearner(Algorithm):
    """Takes every reward into the posterior of its arm, at once and exactly.

    Args:
        regressions: the posteriors.
        scores: compares the arms while exploring, given the features of the contexts.
    """

    rollout_steps = 1  # every pull sees the posteriors as the one before left them
    state = ("regressions", "agent")

    def __init__(self, cfg: Any, kit: Kit, regressions: LinearRegressions, scores: Draws):
        super().__init__(cfg, kit)
        self.features = features = Features(kit.env.obs_space)
        self.regressions = regressions
        self.agent = ContextualAgent(
            values=lambda obs: regressions.predict(features(obs)),
            scores=lambda obs, rng: scores(features(obs), rng),
            arms=kit.env.num_actions,
            init_pulls=cfg.init_pulls,
            rng=kit.rng,
            selector=RandomArgmaxActionSelector(kit.rng),  # bounds of arms about which as much is known are equal
        )

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        contexts = self.features(rollout.obs[:-1])
        arms, rewards = rollout.action.ravel().tolist(), rollout.reward.ravel().tolist()
        for x, arm, reward in zip(contexts, arms, rewards, strict=True):
            self.regressions.add(arm, x, reward)
        return {}
