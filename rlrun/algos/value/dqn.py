"""Deep Q-network: Q-learning from replay with a frozen target network.

Mnih et al. 2015 (Nature 518:529), equation 1, with the loss

    L = E[ w * h( r + discount * Q_target(s', a*) - Q(s, a) ) ],   h = Huber or squared error.

a* maximises Q_target(s', .); with `double` it maximises Q(s', .) (van Hasselt et al. 2016, arXiv:1509.06461).
Differs from the paper: Adam unless `optimizer=rmsprop`, targets copied on env steps instead of updates, optionally
averaged (`tau`). The batch carries gamma^m and termination in `discount`, so n-step and prioritised replay need nothing
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch

from rlrun import networks
from rlrun.agents.q import QAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.learners import ReplayConfig, ReplayLearner, replay_footprint
from rlrun.checks import OneOf
from rlrun.compute.update import Aux
from rlrun.footprint import TRAINED, q_network
from rlrun.ops.fields import allowed
from rlrun.ops.losses import gather
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.schedules import Probability, ScheduleConfig
from rlrun.types import MASK, Batch, HeadSpec, Tensor

LOSSES = {"huber": "huber_loss", "mse": "mse_loss"}  # our names of torch's functions


@dataclass
class DQNConfig(ReplayConfig):
    """Deep Q-network."""

    name: str = "dqn"  # registered name of the algorithm
    double: bool = False  # the online network chooses the next action, the target network evaluates it
    loss: Annotated[str, OneOf(*LOSSES)] = "huber"  # huber | mse
    epsilon: Probability = field(
        default_factory=lambda: ScheduleConfig("linear", start=1.0, end=0.05, fraction=0.1)
    )  # probability of a random action; falls from the first env step on, also before learning_starts


@register(
    "algo",
    DQNConfig,
    needs=Needs(action={"discrete"}, obs=ANY_SPACE, masks=True, memory="replay"),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1},
    footprint=replay_footprint(q_network(TRAINED + 1)),  # the network and its target
    weights=("q", "q_target.module"),
)
class DQN(ReplayLearner):
    """Q-learning from replay with a frozen target network (Mnih et al. 2015)."""

    state = ("q", "q_target", *ReplayLearner.state)

    def __init__(self, cfg: DQNConfig, kit: Kit):
        nets = kit.nets(q=HeadSpec("q", kit.env.num_actions))
        super().__init__(cfg, kit, nets, follow={"q_target": "q"})
        self.error: Callable[..., Tensor] = getattr(torch.nn.functional, LOSSES[cfg.loss])
        self.masked = kit.env.obs_space.masked
        self.agent = QAgent(networks.Inference(nets.q), kit.explorer(cfg.epsilon, cfg.random_steps))

    def loss(self, nets: networks.Nets, batch: Batch) -> tuple[Tensor, Aux]:
        """Weighted TD loss of the taken actions; the target gets no gradient."""
        value = gather(nets.q(batch.obs), batch.action)  # [B]
        with torch.no_grad():
            next_q = nets.q_target(batch.next_obs)  # [B, A]
            chooser = nets.q(batch.next_obs) if self.cfg.double else next_q
            chooser = allowed(chooser, batch.next_obs[MASK] if self.masked else None)
            target = batch.reward + batch.discount * gather(next_q, chooser.argmax(-1))
        loss = (batch.weight * self.error(value, target, reduction="none")).mean()
        with torch.no_grad():
            return loss, {"td_error": (target - value).abs(), "q_values": value.mean()}
