"""A Bayesian neural network by variational inference (Blundell et al. 2015, "Bayes by backprop", arXiv:1505.05424).

Weights w are independent Gaussians q, the rewards of the pulled arms f_a(x; w) + N(0, noise_std^2). Training ascends
the evidence lower bound of all N observations, written per observation and with the sum estimated on a batch:

    loss = -ELBO / N = KL(q || p) / N - mean_i log N(r_i | f_a(x_i; w), noise_std^2),    w ~ q

Acts with weights drawn from q for every context, which is Thompson sampling; evaluation acts with their means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.agent import ContextualAgent
from rlrun.algos.contextual.neural import Batch, NeuralConfig, NeuralLearner
from rlrun.checks import Positive
from rlrun.compute.update import Aux
from rlrun.footprint import TRAINED, q_network
from rlrun.ops.losses import gather
from rlrun.registry import Needs, register
from rlrun.types import Array, HeadSpec, Tensor


@dataclass
class VariationalConfig(NeuralConfig):
    """A Bayesian neural network by variational inference."""

    name: str = "variational"  # registered name of the algorithm
    noise_std: Positive = 0.1  # standard deviation of the rewards around their expectation
    prior_std: Positive = 0.1  # standard deviation of the weights' prior, whose mean is 0
    init_std: Positive = 0.05  # standard deviation of every weight before training


@register(
    "algo",
    VariationalConfig,
    needs=Needs(action={"discrete"}, one_step=True),
    network="bandit_mlp",
    footprint=q_network(2 * TRAINED),
    weights=("network",),
)
class Variational(NeuralLearner):
    """Contextual bandit: Thompson sampling on a Bayesian neural network (Blundell et al. 2015)."""

    cfg: VariationalConfig
    network: networks.BayesianNetwork

    def __init__(self, cfg: VariationalConfig, kit: Kit):
        arms = kit.env.num_actions
        layers = networks.chain(kit.module(HeadSpec("q", arms)))
        super().__init__(cfg, kit, networks.BayesianNetwork(layers, cfg.init_std, cfg.prior_std))
        mean = networks.Inference(torch.nn.Sequential(*layers))
        self.agent = ContextualAgent(mean, self.scores, arms, cfg.init_pulls, kit.rng)

    def loss(self, nets: networks.Nets, batch: Batch) -> tuple[Tensor, Aux]:
        """-ELBO / N; `batch["observations"]` is N."""
        predicted, kl = nets.network(batch["obs"], batch["noise"])
        error = (gather(predicted, batch["action"]) - batch["reward"]) / self.cfg.noise_std  # [B]
        log_likelihood = (-0.5 * error.square()).mean() - math.log(self.cfg.noise_std) - 0.5 * math.log(2 * math.pi)
        return kl / batch["observations"] - log_likelihood, {"kl": kl, "log_likelihood": log_likelihood}

    def batches(self, count: int) -> Iterator[Batch]:
        observations = torch.tensor(float(self.history.size), device=self.generator.device)
        return (batch | {"observations": observations} for batch in super().batches(count))

    def scores(self, obs: Array, rng: np.random.Generator) -> Array:
        """Rewards [E, K] under weights drawn for every context."""
        noise = rng.standard_normal((len(obs), self.network.units), dtype=np.float32)
        device = self.generator.device
        with torch.no_grad():
            sampled = self.network.sample(torch.as_tensor(obs, device=device), torch.from_numpy(noise).to(device))
        return sampled.cpu().numpy()
