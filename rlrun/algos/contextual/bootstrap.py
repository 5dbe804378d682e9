"""Bootstrapped networks (Osband et al. 2016, arXiv:1602.04621; Riquelme et al. 2018, arXiv:1802.09127, "BootRMS").

Several networks with weights of their own learn from histories of their own: each observation enters each history with
probability `add_prob`. A member drawn at random acts in every context, as if it were drawn from a posterior; evaluation
acts on the members' mean. All members are trained at once as one batched network.
Differs from the papers: Adam unless `optimizer=rmsprop`, no torso is shared, and a member's batch holds its own share
of `batch_size` random observations instead of always as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.agent import ContextualAgent
from rlrun.algos.contextual.neural import Batch, DropoutRate, NeuralConfig, NeuralLearner
from rlrun.checks import Above0, Positive, Within
from rlrun.compute.update import Aux
from rlrun.footprint import TRAINED, Need, Parameters, q_network
from rlrun.ops.losses import gather
from rlrun.registry import Needs, register
from rlrun.types import Array, EnvSpec, HeadSpec, Rollout, Tensor


@dataclass
class BootstrapConfig(NeuralConfig):
    """Bootstrapped networks."""

    name: str = "bootstrap"  # registered name of the algorithm
    n_members: Annotated[int, Within(1, 10_000)] = 10  # networks
    add_prob: Annotated[float, Above0(1)] = 0.95  # probability with which an observation enters a member's history
    max_grad_norm: Positive | None = None  # gradients are scaled down to this norm over all members; null leaves them
    dropout: DropoutRate = 0.0  # share of the hidden units that are dropped in training
    dropout_when_acting: bool = False  # drop units while exploring, too


def footprint(cfg: BootstrapConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """All members."""
    return q_network(TRAINED * cfg.n_members)(cfg, env, parameters)


@register(
    "algo",
    BootstrapConfig,
    needs=Needs(action={"discrete"}, one_step=True),
    network="bandit_mlp",
    footprint=footprint,
    weights=("network",),
)
class Bootstrap(NeuralLearner):
    """Contextual bandit: a random one of several networks on resampled histories acts (Osband et al. 2016)."""

    cfg: BootstrapConfig

    def __init__(self, cfg: BootstrapConfig, kit: Kit):
        self.rng, self.arms = kit.rng, kit.env.num_actions

        def member() -> networks.Dropout:
            layers = networks.chain(kit.module(HeadSpec("q", self.arms)))
            return networks.Dropout(layers, cfg.dropout).to(kit.device.torch)

        members = [member() for _ in range(cfg.n_members)]
        super().__init__(cfg, kit, networks.Ensemble(members), batch_shape=(cfg.n_members, cfg.batch_size))
        self.members = [networks.DropoutInference(member, cfg.dropout_when_acting) for member in members]
        self.agent = ContextualAgent(self.values, self.scores, self.arms, cfg.init_pulls, kit.rng)

    def loss(self, nets: networks.Nets, batch: Batch) -> tuple[Tensor, Aux]:
        """Sum over the members of their mean squared errors on what is in their history.

        Rows are [M, B, ...] for M members; `batch["histories"]` [M, B, M] tells whose histories an observation is in.
        """
        predicted = gather(nets.network(batch["obs"], batch["noise"]), batch["action"])  # [M, B]
        mine = batch["histories"].diagonal(dim1=0, dim2=2).T  # [M, B]
        error = mine * (predicted - batch["reward"]).square()
        return (error.sum(1) / mine.sum(1).clamp(min=1)).sum(), {}

    def columns(self, rollout: Rollout) -> dict[str, Array]:
        chosen = self.rng.random((rollout.reward.size, self.cfg.n_members)) < self.cfg.add_prob
        return super().columns(rollout) | {"histories": chosen}

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        return self.members[0].network.noise(shape, self.generator)

    def values(self, obs: Array) -> Array:
        """The members' mean prediction [E, K]."""
        return np.mean([member(obs) for member in self.members], axis=0)

    def scores(self, obs: Array, rng: np.random.Generator) -> Array:
        """Predictions [E, K], each row by a member drawn for it."""
        drawn = rng.integers(self.cfg.n_members, size=len(obs))
        scores = np.empty((len(obs), self.arms), np.float32)
        for member in np.unique(drawn):
            rows = drawn == member
            scores[rows] = self.members[member].sample(obs[rows], rng)
        return scores
