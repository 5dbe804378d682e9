"""Epsilon-greedy play on a network's expected rewards (Riquelme et al. 2018, arXiv:1802.09127, "RMS" and "dropout").

With probability epsilon any arm, otherwise the one with the highest prediction. With `dropout_when_acting` every
prediction is made by a random thinned network, which explores by itself (Gal & Ghahramani 2016, arXiv:1506.02142).
Differs from the paper: Adam unless `optimizer=rmsprop`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.contextual.agent import ContextualAgent
from rlrun.algos.contextual.neural import DropoutRate, NeuralConfig, NeuralLearner
from rlrun.footprint import TRAINED, q_network
from rlrun.registry import Needs, register
from rlrun.schedules import Probability, ScheduleConfig
from rlrun.types import HeadSpec


@dataclass
class NeuralGreedyConfig(NeuralConfig):
    """Epsilon-greedy play on a network's expected rewards."""

    name: str = "neural_greedy"  # registered name of the algorithm
    epsilon: Probability = field(default_factory=lambda: ScheduleConfig(start=0.05))  # probability of a random arm
    dropout: DropoutRate = 0.0  # share of the hidden units that are dropped in training
    dropout_when_acting: bool = False  # drop units while exploring, too


@register(
    "algo",
    NeuralGreedyConfig,
    needs=Needs(action={"discrete"}, one_step=True),
    network="bandit_mlp",
    footprint=q_network(TRAINED),
    weights=("network",),
)
class NeuralGreedy(NeuralLearner):
    """Contextual bandit: epsilon-greedy on a network's predictions, or MC-dropout (Riquelme et al. 2018)."""

    def __init__(self, cfg: NeuralGreedyConfig, kit: Kit):
        arms = kit.env.num_actions
        layers = networks.chain(kit.module(HeadSpec("q", arms)))
        net = networks.Dropout(layers, cfg.dropout).to(kit.device.torch)
        super().__init__(cfg, kit, net)
        predict = networks.DropoutInference(net, cfg.dropout_when_acting)
        self.selector = kit.explorer(cfg.epsilon)
        self.agent = ContextualAgent(predict, predict.sample, arms, cfg.init_pulls, kit.rng, self.selector)
